"""What methods keep that hold a Fisher, and dampening by it."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from hyperforget_jax import checks, fisher
from hyperforget_jax.base import (
    Access,
    Array,
    Classifier,
    Examples,
    Unlearner,
    Variables,
)
from hyperforget_jax.fisher import Fisher
from hyperforget_jax.forgotten import Forgotten
from hyperforget_jax.methods.change import Change
from hyperforget_jax.methods.keeping import keeping

__all__ = ["FisherInfo", "FisherState", "adaptive_alpha", "dampening"]


class FisherState(NamedTuple):
    """What a method that keeps a Fisher carries between requests.

    Attributes:
        variables: the current model's variables.
        fisher: diagonal Fisher of the training data that are left; None if nothing is
            dampened.
        forgotten: what earlier requests forgot.
    """

    variables: Variables
    fisher: Fisher | None
    forgotten: Forgotten


class FisherInfo(NamedTuple):
    """How a request went.

    Attributes:
        dampened: share of the parameters that were dampened, float32, ``[]``.
        refused: how many rows were asked for that ``init`` was not given: they are not
            forgotten, int32, ``[]``.
        change: how much the model was changed.
    """

    dampened: Array
    refused: Array
    change: Change


def dampening(
    classifier: Classifier,
    measure: Callable[[Variables, Examples], Fisher],
    alpha: float | None = None,
    *,
    strength: float,
    batch_size: int,
    kept: str = "the importances",
) -> Unlearner:
    """Make an unlearner that dampens where the forgotten matter most.

    ``init`` measures the training data once, a request the forget data, whose share is
    taken out of what is kept.

    Args:
        classifier: the model.
        measure: how much each parameter matters to some examples, a mean over them.
        alpha: the threshold, see there too; None for :func:`adaptive_alpha`.
        strength: ``lambda``, see :func:`hyperforget_jax.fisher.dampen`.
        batch_size: rows at once.
        kept: the importances' name, for the access record.
    """
    given = {} if alpha is None else {"alpha": alpha}
    checks.check_positive(strength=strength, **given)
    checks.check_sizes(batch_size=batch_size)

    def prepare(variables: Variables, data: Examples):
        return variables, measure(variables, data)

    def answer(key, variables, whole, request):
        del key  # Nothing here is random.
        if whole is None:
            raise ValueError("state has no Fisher: make it by init of this unlearner.")
        forget = request.forget
        if whole.batch_size is not None:
            # Minibatches of the same size, if only one that is mostly padding.
            forget = forget.take(jnp.arange(max(whole.batch_size, forget.y.shape[0])))
        share = measure(variables, forget)
        params, dampened = fisher.dampen(
            variables["params"],
            share,
            whole,
            alpha=adaptive_alpha(share, whole) if alpha is None else alpha,
            strength=strength,
        )
        left = fisher.without(whole, share, forget.weight)
        after = {**variables, "params": params}
        return after, (left,), functools.partial(FisherInfo, dampened)

    access = Access(
        init={"retain", "forget"},
        unlearn={"forget"},
        remains=f"{kept}, less the forgotten share; normalisation statistics",
    )
    return keeping(
        classifier,
        FisherState,
        prepare,
        answer,
        access,
        batch_size=batch_size,
    )


def adaptive_alpha(forget: Fisher, data: Fisher) -> Array:
    """Compute the threshold that some percentile of ``F_f / F_D`` lies at.

    It is the percentile ``100 - ln(1 + 100 n_f / n)``, which is 97.6 for a forget set
    of a tenth of the data, and 100 for none. Ratios that are not finite do not count.

    Args:
        forget: ``F_f``, of the forget data, with their total weight ``n_f``.
        data: ``F_D``, of all data, those to be forgotten among them; n.

    Returns:
        ``alpha``, float32, ``[]``.

    References:
        Schoepf, Foster and Brintrup, Parameter-tuning-free data entry error unlearning
        with adaptive selective synaptic dampening, arXiv 2402.10098, 2024.
    """
    pairs = zip(
        jax.tree.leaves(forget.values), jax.tree.leaves(data.values), strict=True
    )
    ratio = jnp.concatenate([(f / d).reshape(-1) for f, d in pairs])
    share = forget.total_weight / jnp.maximum(data.total_weight, 1)
    quantile = 1 - jnp.log1p(100 * share) / 100
    # Infinite where nothing is finite: then nothing is selected.
    alpha = jnp.nanquantile(jnp.where(jnp.isfinite(ratio), ratio, jnp.nan), quantile)
    return jnp.where(jnp.isnan(alpha), jnp.inf, alpha)
