"""How benchmarks take the time."""

import time
from collections.abc import Callable
from typing import Any

import jax


def timed(function: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    """Seconds until everything that a function gives is there, and what it gives."""
    begun = time.perf_counter()
    result = jax.block_until_ready(function(*arguments))
    return time.perf_counter() - begun, result


def seconds_of(function: Callable[..., Any], *arguments: Any) -> float:
    return timed(function, *arguments)[0]


def settled_seconds(function: Callable[[], Any]) -> float:
    """Of the second call in a row where calls are short: the first pays for what others
    left behind."""
    seconds = seconds_of(function)
    return seconds if seconds >= 1 else seconds_of(function)


def first_call(function: Callable[[], Any]) -> tuple[Any, float]:
    """What a function gives, and how much longer the first call takes than the next."""
    first, result = timed(function)
    return result, max(first - seconds_of(function), 0)


def compiled(
    function: Callable[..., Any], *arguments: Any
) -> tuple[Callable[[], Any], float]:
    """The function of these arguments, compiled, and the seconds that it took."""
    seconds, program = timed(lambda: jax.jit(function).lower(*arguments).compile())
    return lambda: program(*arguments), seconds
