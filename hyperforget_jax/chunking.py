"""How many members of a population to compute at once, read off their program."""

import math
from collections.abc import Callable
from typing import Any

import jax
from jax import lax
from jax.extend.core import subjaxprs

__all__ = ["chunk_size", "map_members", "shapes_of_one"]

# What members at work may occupy, by an estimate from above. It bounds the memory, and
# keeps large intermediates of many members from chasing each other out of the caches;
# populations of small networks were about as fast in chunks of 16 as in one of 256.
_BYTES = {"cpu": 256 * 2**20}
_BYTES_ACCELERATOR = 4 * 2**30


def chunk_size(
    members: int,
    program: Callable[..., Any],
    *arguments: Any,
    held: int = 0,
    devices: int = 1,
) -> int:
    """Compute how many members' programs fit the memory budget, in equal chunks.

    A chunk is a multiple of ``devices``; one a device, if a member alone is beyond the
    budget. Under an outer ``vmap`` as many budgets are filled as that has members.

    Args:
        members: of the population.
        program: what one member computes.
        arguments: arrays, or their shapes and dtypes; nothing is computed.
        held: bytes that a member occupies besides.
        devices: over which the members are spread.
    """
    scratch = _bytes_written(jax.make_jaxpr(program)(*arguments).jaxpr)
    budget = _BYTES.get(jax.default_backend(), _BYTES_ACCELERATOR)
    most = max(devices * budget // (held + scratch + 1), devices)
    balanced = -(-members // -(-members // most))
    return -(-balanced // devices) * devices


def map_members(program: Callable[..., Any], stacked: Any, *shared: Any) -> Any:
    """Compute a program for every member, as many at once as the memory budget fits.

    Args:
        program: ``(member, *shared) -> result``.
        stacked: a tree of what the members have of their own, leaves ``[P, ...]``.
        *shared: arrays that are the same for all.

    Returns:
        The results, stacked.
    """
    members = jax.tree.leaves(stacked)[0].shape[0]
    at_once = chunk_size(members, program, shapes_of_one(stacked), *shared)
    return lax.map(lambda one: program(one, *shared), stacked, batch_size=at_once)


def shapes_of_one(stacked: Any) -> Any:
    """Give the shapes and dtypes of one of many stacked trees."""
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), stacked
    )


def _bytes_written(jaxpr) -> int:
    """Sum the bytes of every intermediate of a program: scratch memory, from above."""
    own = sum(
        math.prod(var.aval.shape) * 4 for eqn in jaxpr.eqns for var in eqn.outvars
    )
    return own + sum(map(_bytes_written, subjaxprs(jaxpr)))
