"""SVD forgetting: project what only the forgotten data use out of every layer."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax

from hyperforget_jax import checks, subspace
from hyperforget_jax.base import Array, Classifier, Unlearner
from hyperforget_jax.rivals.stored import stored
from hyperforget_jax.subspace import Grams
from hyperforget_jax.subspace.grams import map_layers

__all__ = ["svd_forgetting"]


def svd_forgetting(
    classifier: Classifier,
    *,
    alpha_retain: Any = 100.0,
    alpha_forget: Any = 3.0,
    batch_size: int = 256,
) -> Unlearner:
    r"""Suppress the input directions that forgotten data use and retained ones do not.

    Of the uncentred second moments of a layer's inputs, ``U diag(rho) U^T`` with trace
    one, ``M(alpha)`` keeps of each direction the share ``alpha rho / ((alpha - 1) rho +
    1)``. The layer's kernel is multiplied by

    .. math:: I - M_f(\alpha_f) (I - M_r(\alpha_r))

    from the side of its inputs, in every layer at once and the head too; biases and
    normalisation stay. One shot, without gradients.

    The authors collect inputs of about 900 rows of either kind when the request comes.
    Here ``init`` sums them over all training data, as ``hf.pgu`` does, and a request
    subtracts its own: no retained data are needed then. They search both alphas on
    held-out rows of each class; here they are given.

    ``init`` reads the training data once, a request the forget data alone. Forget data
    that look like the rest, as random rows do, change next to nothing. The share that
    a request subtracts is measured in the model at hand, and what it is subtracted from
    in the first one: for requests in turn the two differ by what was changed.

    Args:
        classifier: the model, with taps.
        alpha_retain: the more, the more directions count as used by retained data; the
            default is the authors' for CIFAR-10 (1000 for CIFAR-100).
        alpha_forget: likewise of forget data (30 for CIFAR-100).
        batch_size: rows at once.

    References:
        Kodge, Saha and Roy, Deep unlearning: fast and efficient gradient-free class
        forgetting, arXiv 2312.00761, 2024.
    """
    checks.check_positive(alpha_retain=alpha_retain, alpha_forget=alpha_forget)
    checks.check_sizes(batch_size=batch_size)

    def measure(variables, data):
        grams = subspace.measure(classifier, variables, data, batch_size=batch_size)
        return subspace.without_bias(grams, variables["params"])

    def answer(variables, left, gone, forget):
        del forget  # Their second moments are all that is asked for.
        params = variables["params"]
        retained, forgotten = kept(left, alpha_retain), kept(gone, alpha_forget)

        def change(path: str, matrix: Array) -> Array:
            seen = matrix - _times(retained[path], matrix)
            return -_times(forgotten[path], seen)

        # Biases have no row in these matrices, and get no change.
        return optax.apply_updates(params, map_layers(params, gone.values, change))

    return stored(
        classifier,
        measure,
        answer,
        "hf.rivals.svd_forgetting",
        remains="the Gram matrices",
        batch_size=batch_size,
    )


def kept(grams: Grams, alpha: Any) -> dict[str, Array]:
    """Compute ``M(alpha)`` by layer, float32, ``[G, D, D]``; zero without data."""
    spectrum = subspace.decompose(grams)

    def scaled(values: Array, basis: Array) -> Array:
        total = jnp.sum(values, axis=-1, keepdims=True)
        share = values / jnp.where(total > 0, total, 1)
        kept = alpha * share / ((alpha - 1) * share + 1)
        return _times(basis * kept[..., None, :], jnp.swapaxes(basis, -1, -2))

    return jax.tree.map(scaled, spectrum.values, spectrum.basis)


_times = functools.partial(jnp.matmul, precision=lax.Precision.HIGHEST)
