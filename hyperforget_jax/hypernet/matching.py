"""Which hidden unit is which: the units of many networks brought into one order.

Runs on the host. A permutation is an array of integers, ``[units]``, one for each
hidden layer: unit ``j`` of the new network is unit ``permutation[j]`` of the old one,
as in ``kernel[..., permutation]``.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hyperforget_jax import checks, trees
from hyperforget_jax.base import Array
from hyperforget_jax.hypernet.unit_tokens import Tokenizer, UnitTokenizer

__all__ = ["canonicalise", "match", "permute_all"]

_MOST_ROUNDS = 20
# Of the largest similarity. Units that are equal but for rounding stay where they are.
_TIE = 1e-10


def match(
    tokenizer: Tokenizer, params: Any, reference: Any
) -> tuple[Any, tuple[np.ndarray, ...]]:
    """Bring the units of networks closest to those of a reference.

    Closest by the sum of squared differences of the tokens: with one hidden layer that
    is an assignment problem, solved exactly. With several, a layer after the other is
    assigned while the rest are held, until none moves or for 20 rounds: a local optimum
    (weight matching of Ainsworth et al., Git Re-Basin, arXiv 2209.04836, 2022).

    Args:
        tokenizer: of kind ``"units"``.
        params: the networks to permute, leaves ``[P, ...]``.
        reference: one network.

    Returns:
        The permuted networks, and their permutations, int64, ``[P, units]``, one array
        a hidden layer.

    Raises:
        ValueError: a tokenizer of chunks, which have no units, or parameters that are
            not finite.
    """
    units = _units(tokenizer)
    wanted = [np.asarray(group, np.float64) for group in units.tokenize(reference)]
    still = total = _identity(units, params)
    # A single hidden layer has nothing to wait for.
    for _ in range(_MOST_ROUNDS if len(total) > 1 else 1):
        moved = False
        for layer, unmoved in enumerate(still):
            tokens = _tokens(units, params)[layer]
            order = _assigned(wanted[layer], np.asarray(tokens, np.float64))
            if np.array_equal(order, unmoved):
                continue
            moved = True
            found = (*still[:layer], order, *still[layer + 1 :])
            params = permute_all(units, params, found)
            total = _compose(total, found)
        if not moved:
            break
    return params, total


def canonicalise(
    tokenizer: Tokenizer, params: Any, rounds: int = 4
) -> tuple[Any, tuple[np.ndarray, ...], np.ndarray]:
    """Bring the units of a population of networks into one common order.

    All are matched to member 0, and then, ``rounds`` times in all, to the mean of what
    they have become. No member's function changes.

    Returns:
        The permuted population; the permutations that lead to it from ``params``, as
        :func:`match` gives them, which :func:`permute_all` applies to other checkpoints
        of the same runs; and the share of all units that moved in each round,
        ``[rounds]``.

    Raises:
        ValueError: as :func:`match` does, or a number of rounds that is not positive.
    """
    units = _units(tokenizer)
    checks.check_sizes(rounds=rounds)
    still = total = _identity(units, params)
    moved = np.zeros(rounds)
    params = jax.tree.map(jnp.asarray, params)
    reference = trees.take(params, 0)
    for round in range(rounds):
        params, found = match(units, params, reference)
        total = _compose(total, found)
        changed = [new != old for new, old in zip(found, still, strict=True)]
        moved[round] = np.mean(np.concatenate(changed, axis=1)) if changed else 0
        if round and not moved[round]:
            break  # The mean is what it was: no later round would move anything.
        reference = jax.tree.map(_mean, params)
    return params, total, moved


def permute_all(tokenizer: Tokenizer, params: Any, permutations: Any) -> Any:
    """Permute the units of each member of a population, in all its checkpoints.

    Args:
        tokenizer: of kind ``"units"``.
        params: leaves ``[P, ...]``, or ``[P, K, ...]`` with K checkpoints a member.
        permutations: as :func:`match` gives them.

    Raises:
        ValueError: a tokenizer of chunks.
    """
    units = _units(tokenizer)
    axes = jax.tree.leaves(params)[0].ndim - len(units.spec.shapes[0])
    return _permuted(units, axes, params, tuple(map(jnp.asarray, permutations)))


@functools.partial(jax.jit, static_argnums=0)
def _tokens(tokenizer: UnitTokenizer, params: Any) -> tuple[Array, ...]:
    return jax.vmap(tokenizer.tokenize)(params)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _permuted(
    tokenizer: UnitTokenizer, axes: int, params: Any, permutations: Any
) -> Any:
    permute = tokenizer.permute
    if axes == 2:
        permute = jax.vmap(permute, (0, None))
    return jax.vmap(permute)(params, permutations)


def _units(tokenizer: Tokenizer) -> UnitTokenizer:
    if not isinstance(tokenizer, UnitTokenizer):
        raise ValueError(
            f"tokenizer must be of kind 'units', got {tokenizer.kind!r}: only units "
            "can be permuted."
        )
    return tokenizer


def _mean(leaf: Any) -> np.ndarray:
    return np.mean(np.asarray(leaf, np.float64), axis=0).astype(leaf.dtype)


def _assigned(wanted: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """Assign each member's units ``[P, units, width]`` to places, ``[P, units]``."""
    # Imported when it is first asked for: it takes time that few should pay.
    from scipy.optimize import linear_sum_assignment

    # The squares are the same for every order, so the products decide.
    similarity = np.einsum("iw,pjw->pij", wanted, tokens, optimize=True)
    finite = np.isfinite(similarity).all(axis=(1, 2))
    if not finite.all():
        raise ValueError(
            f"params must be finite to be matched; those of member {finite.argmin()}, "
            "or those of the reference, are not."
        )
    orders = np.tile(np.arange(wanted.shape[0]), (tokens.shape[0], 1))
    for order, alike in zip(orders, similarity, strict=True):
        rows, columns = linear_sum_assignment(alike, maximize=True)
        gain = alike[rows, columns].sum() - np.trace(alike)
        if gain > _TIE * np.abs(alike).max():
            order[:] = columns
    return orders


def _identity(tokenizer: UnitTokenizer, params: Any) -> tuple[np.ndarray, ...]:
    members = jax.tree.leaves(params)[0].shape[0]
    return tuple(np.tile(np.arange(n), (members, 1)) for n in tokenizer.hidden)


def _compose(
    first: tuple[np.ndarray, ...], then: tuple[np.ndarray, ...]
) -> tuple[np.ndarray, ...]:
    """Compose two permutations in a row, member by member."""
    return tuple(
        np.take_along_axis(one, other, axis=1)
        for one, other in zip(first, then, strict=True)
    )
