"""Which hidden unit is which: the units of many networks brought into one order.

Runs on the host. A permutation is an array of integers, ``[units]``, one for each
hidden layer: unit ``j`` of the new network is unit ``permutation[j]`` of the old one,
as in ``kernel[..., permutation]``.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hyperforget_jax import checks
from hyperforget_jax.base import Array
from hyperforget_jax.hypernet.tokens import Tokenizer

__all__ = ["canonicalise", "match", "permute_all"]

_MOST_ROUNDS = 20
# Of the largest similarity. Units that are equal but for rounding stay where they are.
_TIE = 1e-10


def match(tokenizer: Tokenizer, params: Any, reference: Any) -> tuple[np.ndarray, ...]:
    """The permutations that bring a network's units closest to another's.

    Closest by the sum of squared differences of the tokens: with one hidden layer that
    is an assignment problem, solved exactly. With several, a layer after the other is
    assigned while the rest are held, until none moves or for 20 rounds: a local optimum
    (weight matching of Ainsworth et al., Git Re-Basin, arXiv 2209.04836, 2022).

    Args:
        tokenizer: of kind ``"units"``.
        params: the network that is to be permuted.
        reference: the network that it is to be like.

    Returns:
        Permutations for ``tokenizer.permute(params, ...)``, int64, ``[units]``, one a
        hidden layer.

    Raises:
        ValueError: a tokenizer of chunks, which have no units, or parameters that are
            not finite.
    """
    _permute(tokenizer)
    stacked = jax.tree.map(lambda leaf: np.asarray(leaf)[None], params)
    _, permutations = _match_all(tokenizer, stacked, reference)
    return tuple(order[0] for order in permutations)


def canonicalise(
    tokenizer: Tokenizer, params: Any, rounds: int = 4
) -> tuple[Any, tuple[np.ndarray, ...], np.ndarray]:
    """Brings the units of a population of networks into one common order.

    All are matched to member 0, and then, round after round, to the mean of what they
    have become. No member's function changes.

    Args:
        tokenizer: of kind ``"units"``.
        params: the population, leaves ``[P, ...]``.
        rounds: how often all are matched.

    Returns:
        The permuted population; the permutations that lead to it from ``params``,
        int64, ``[P, units]``, one array a hidden layer, which :func:`permute_all`
        applies to other checkpoints of the same runs; and the share of all units that
        moved in each round, ``[rounds]``.

    Raises:
        ValueError: a tokenizer of chunks, a number of rounds that is not positive, or
            parameters that are not finite.
    """
    _permute(tokenizer)
    checks.check_sizes(rounds=rounds)
    members = jax.tree.leaves(params)[0].shape[0]
    total = _identity(tokenizer, members)
    moved = np.zeros(rounds)
    params = jax.tree.map(jnp.asarray, params)
    reference = jax.tree.map(lambda leaf: np.asarray(leaf)[0], params)
    for round in range(rounds):
        params, found = _match_all(tokenizer, params, reference)
        total = _compose(total, found)
        still = _identity(tokenizer, members)
        changed = [new != old for new, old in zip(found, still, strict=True)]
        moved[round] = np.mean(np.concatenate(changed, axis=1)) if changed else 0
        if round and not moved[round]:
            break  # The mean is what it was: no later round would move anything.
        reference = jax.tree.map(_mean, params)
    return params, total, moved


def permute_all(tokenizer: Tokenizer, params: Any, permutations: Any) -> Any:
    """Permutes the units of each member of a population, in all its checkpoints.

    Args:
        tokenizer: of kind ``"units"``.
        params: leaves ``[P, ...]``, or ``[P, K, ...]`` with K checkpoints a member.
        permutations: integers ``[P, units]``, one array a hidden layer, as
            :func:`canonicalise` gives them.

    Returns:
        The permuted population, leaves as before.

    Raises:
        ValueError: a tokenizer of chunks, or leaves with other axes.
    """
    _permute(tokenizer)
    shapes = [
        jax.ShapeDtypeStruct((group.count, group.width), jnp.float32)
        for group in tokenizer.groups
    ]
    one = jax.tree.leaves(jax.eval_shape(tokenizer.detokenize, tuple(shapes)))[0]
    leaf = jax.tree.leaves(params)[0]
    axes = leaf.ndim - one.ndim
    if axes not in (1, 2):
        raise ValueError(
            "params must be stacked [P, ...] or [P, K, ...]; a leaf of shape "
            f"{one.shape} has shape {leaf.shape}."
        )
    return _permuted(tokenizer, axes, params, tuple(map(jnp.asarray, permutations)))


# Jitted once for the module: calls with one tokenizer share their compilations.
@functools.partial(jax.jit, static_argnums=0)
def _tokens(tokenizer: Tokenizer, params: Any) -> tuple[Array, ...]:
    return jax.vmap(tokenizer.tokenize)(params)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _permuted(tokenizer: Tokenizer, axes: int, params: Any, permutations: Any) -> Any:
    permute = _permute(tokenizer)
    if axes == 2:
        permute = jax.vmap(permute, (0, None))
    return jax.vmap(permute)(params, permutations)


def _permute(tokenizer: Tokenizer) -> Callable[[Any, tuple[Any, ...]], Any]:
    if tokenizer.permute is None:
        raise ValueError(
            f"tokenizer must be of kind 'units', got {tokenizer.kind!r}: only units "
            "can be permuted."
        )
    return tokenizer.permute


def _match_all(
    tokenizer: Tokenizer, params: Any, reference: Any
) -> tuple[Any, tuple[np.ndarray, ...]]:
    """The members ``[P, ...]`` permuted, and the permutations, ``[P, units]``."""
    members = jax.tree.leaves(params)[0].shape[0]
    one = _tokens(
        tokenizer, jax.tree.map(lambda leaf: np.asarray(leaf)[None], reference)
    )
    wanted = [np.asarray(group[0], np.float64) for group in one]
    total = _identity(tokenizer, members)
    # A single hidden layer has nothing to wait for.
    for _ in range(_MOST_ROUNDS if len(total) > 1 else 1):
        moved = False
        for layer in range(len(total)):
            tokens = _tokens(tokenizer, params)[layer]
            found = list(_identity(tokenizer, members))
            found[layer] = _assigned(wanted[layer], np.asarray(tokens, np.float64))
            if np.array_equal(found[layer], _identity(tokenizer, members)[layer]):
                continue
            moved = True
            params = permute_all(tokenizer, params, found)
            total = _compose(total, tuple(found))
        if not moved:
            break
    return params, total


def _mean(leaf: Any) -> np.ndarray:
    return np.mean(np.asarray(leaf, np.float64), axis=0).astype(leaf.dtype)


def _assigned(wanted: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """For each member ``[P, units, width]`` which unit goes where, ``[P, units]``."""
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


def _identity(tokenizer: Tokenizer, members: int) -> tuple[np.ndarray, ...]:
    return tuple(np.tile(np.arange(n), (members, 1)) for n in tokenizer.hidden)


def _compose(
    first: tuple[np.ndarray, ...], then: tuple[np.ndarray, ...]
) -> tuple[np.ndarray, ...]:
    """What two permutations in a row come to, member by member."""
    return tuple(
        np.take_along_axis(one, other, axis=1)
        for one, other in zip(first, then, strict=True)
    )
