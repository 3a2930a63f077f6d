"""The directions that a layer's inputs take, and which of them the data need."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from hyperforget_jax import checks, trees
from hyperforget_jax.base import Array
from hyperforget_jax.subspace.grams import Grams, layer_matrix

__all__ = ["RANK_RULES", "Spectrum", "check_rank_rule", "decompose", "keep"]

# The relative precision of float32.
_EPSILON = 2.0**-23

RANK_RULES = ("nuclear", "energy", "drift")

# One matrix at a time: batches of eigenproblems inside a larger program can wait for
# each other for ever on the CPU (seen with jaxlib 0.10.2 on two cores).
_eigh = jax.custom_batching.sequential_vmap(
    lambda matrix: tuple(jnp.linalg.eigh(matrix))
)


class Spectrum(NamedTuple):
    """Eigenvalues and eigenvectors of Gram matrices, the largest first.

    Attributes:
        values: by layer, float32, ``[G, D]``, not negative.
        basis: by layer, float32, ``[G, D, D]``: eigenvectors are the columns.
        clipped: by layer, float32, ``[]``: the negative eigenvalues that were set to
            zero, as a share of all of them in absolute value. What was summed and
            subtracted in float32 leaves about 1e-7; more says that something was
            subtracted which was never added, or not as it was added.
    """

    values: dict[str, Array]
    basis: dict[str, Array]
    clipped: dict[str, Array]


def decompose(grams: Grams) -> Spectrum:
    """Decompose every layer's symmetrised Gram matrix into eigenvectors.

    Not by singular values, which would turn negative eigenvalues of a difference into
    directions that seem to be in use.

    Args:
        grams: as by :func:`measure`.
    """
    values, basis, clipped = {}, {}, {}
    for path, gram in grams.values.items():
        found, vectors = jax.vmap(_eigh)((gram + jnp.swapaxes(gram, -1, -2)) / 2)
        found, basis[path] = found[..., ::-1], vectors[..., ::-1]
        total = jnp.sum(jnp.abs(found))
        negative = jnp.sum(jnp.maximum(-found, 0))
        clipped[path] = negative / jnp.where(total > 0, total, 1)
        values[path] = jnp.maximum(found, 0)
    return Spectrum(values, basis, clipped)


def keep(
    spectrum: Spectrum, rule: str, threshold: Any, params: Any = None
) -> dict[str, Array]:
    r"""Mark the directions that must not be touched.

    No shape depends on the rank, so one compilation serves every request. With
    eigenvalues :math:`\lambda_1 \geq \lambda_2 \geq \dots` of a layer (of all groups
    together):

    - ``"nuclear"``: the first ``k`` with
      :math:`\sum_{j \leq k} \sqrt{\lambda_j} \leq \gamma \sum_j \sqrt{\lambda_j}`, as
      projected-gradient unlearning was published (Hoang et al., arXiv 2312.04095).
    - ``"energy"``: the fewest with
      :math:`\sum_{j \leq k} \lambda_j \geq \epsilon \sum_j \lambda_j`, as gradient
      projection memory has it (Saha et al., ICLR 2021). The same number means far
      fewer directions than under ``"nuclear"``.
    - ``"drift"``: the fewest such that no change of the layer which is as large as
      its weights can move its outputs on the data by more than the share ``tau`` of
      their root mean square: all :math:`\lambda_j > \tau^2 \mathrm{tr}(W^T G W) /
      \lVert W \rVert^2`. The one rule whose threshold is in units of outputs.

    Args:
        spectrum: as by :func:`decompose`.
        rule: one of the above.
        threshold: gamma, epsilon or tau.
        params: the model's parameters, for ``"drift"``.

    Returns:
        By layer, bool, ``[G, D]``: True for a direction in use. A layer without data
        keeps nothing.

    Raises:
        ValueError: unknown rule, or a threshold that makes no sense.
    """
    check_rank_rule(rule, threshold)
    kept = {}
    for path, values in spectrum.values.items():
        if rule == "drift":
            matrix = layer_matrix(trees.get(params, path), values)
            seen = jnp.einsum(
                "gij,gio->gjo",
                spectrum.basis[path],
                matrix,
                precision=lax.Precision.HIGHEST,
            )
            moved = jnp.sum(values[..., None] * jnp.square(seen))
            size = jnp.sum(jnp.square(matrix))
            kept[path] = values > threshold**2 * moved / jnp.where(size > 0, size, 1)
            continue
        # What is below is the decomposition's rounding, whose roots would add up.
        values = jnp.where(values > _EPSILON * jnp.max(values), values, 0)
        counted = jnp.sqrt(values) if rule == "nuclear" else values
        # One order for all groups: they share the layer's budget.
        flat = counted.reshape(-1)
        order = jnp.argsort(-flat)
        share = jnp.cumsum(flat[order])
        share /= jnp.where(share[-1] > 0, share[-1], 1)
        if rule == "nuclear":
            among = share <= threshold
        else:
            before = jnp.concatenate([jnp.zeros(1, share.dtype), share[:-1]])
            among = before < threshold
        among &= flat[order] > 0
        kept[path] = jnp.zeros_like(among).at[order].set(among).reshape(values.shape)
    return kept


def check_rank_rule(rule: str, threshold: Any) -> None:
    """Raise ValueError unless the rule is known and its threshold makes sense."""
    checks.check_one_of("rank", rule, RANK_RULES)
    if not checks.is_concrete(threshold):
        return
    threshold = float(threshold)
    if rule in ("nuclear", "energy") and not 0 <= threshold <= 1:
        raise ValueError(
            f"threshold is a share in [0, 1] for rank={rule!r}, got {threshold}."
        )
    if rule == "drift" and not threshold > 0:
        raise ValueError(
            f"threshold must be positive for rank={rule!r}, got {threshold}."
        )
