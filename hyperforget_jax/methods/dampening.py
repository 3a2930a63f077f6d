"""What methods keep that hold a Fisher, and dampening by it."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from hyperforget_jax import checks, fisher
from hyperforget_jax.base import (
    Access,
    Array,
    Classifier,
    Examples,
    ForgetRequest,
    Unlearner,
    Variables,
)
from hyperforget_jax.fisher import Fisher
from hyperforget_jax.forgotten import Forgotten
from hyperforget_jax.methods.change import Change
from hyperforget_jax.methods.keeping import keeping

__all__ = ["FisherInfo", "FisherState", "dampening"]


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
    threshold: Callable[[Fisher, Fisher], float | Array],
    *,
    strength: float,
    batch_size: int,
    kept: str = "the importances",
    notice: Callable[[ForgetRequest, FisherState], None] = lambda request, state: None,
) -> Unlearner:
    """Make an unlearner that dampens where the forgotten matter most.

    ``init`` measures the training data once, a request the forget data, whose share is
    taken out of what is kept.

    Args:
        classifier: the model.
        measure: how much each parameter matters to some examples, a mean over them.
        threshold: ``(of the forget data, of all data that are left) -> alpha``.
        strength: ``lambda``, see :func:`hyperforget_jax.fisher.dampen`.
        batch_size: rows at once.
        kept: the importances' name, for the access record.
        notice: as for :func:`keeping`.
    """
    checks.check_positive(strength=strength)
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
            alpha=threshold(share, whole),
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
        notice=notice,
    )
