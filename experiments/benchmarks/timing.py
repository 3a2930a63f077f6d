"""How benchmarks take the time."""

import time
from collections.abc import Callable
from typing import Any

import jax


def timed(function: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    """Return the seconds until what a function gives is there, and what it gives."""
    begin = time.perf_counter()
    result = jax.block_until_ready(function(*arguments))
    return time.perf_counter() - begin, result


def seconds_of(function: Callable[..., Any], *arguments: Any) -> float:
    return timed(function, *arguments)[0]


def settled_seconds(function: Callable[[], Any]) -> float:
    """Return the seconds of a call; of the second one in a row where calls are short,
    since the first pays for what others left behind."""
    seconds = seconds_of(function)
    return seconds if seconds >= 1 else seconds_of(function)


def first_call(function: Callable[[], Any]) -> tuple[Any, float]:
    """Return what a function gives, and how much longer the first call takes."""
    first, result = timed(function)
    return result, max(first - seconds_of(function), 0)


def compiled(
    function: Callable[..., Any], *arguments: Any
) -> tuple[Callable[[], Any], float]:
    """Compile a function for some arguments; return it with the seconds that took."""
    seconds, program = timed(lambda: jax.jit(function).lower(*arguments).compile())
    return lambda: program(*arguments), seconds
