"""How benchmarks take the time."""

import importlib.util
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax


def timed(function: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    """Return the seconds until what a function gives is there, and what it gives."""
    begin = time.perf_counter()
    result = jax.block_until_ready(function(*arguments))
    return time.perf_counter() - begin, result


def seconds_of(function: Callable[..., Any], *arguments: Any) -> float:
    return timed(function, *arguments)[0]


def turns(
    entrants: Mapping[str, Callable[[], Any]], repeats: int
) -> dict[str, list[Any]]:
    """List what entrants give by turns, every other time in reverse order."""
    found: dict[str, list[Any]] = {name: [] for name in entrants}
    for repeat in range(repeats):
        for name in list(entrants)[:: 1 if repeat % 2 == 0 else -1]:
            found[name].append(entrants[name]())
    return found


def why_no_torch() -> str | None:
    """Return why PyTorch is left out, or None if it is not."""
    if importlib.util.find_spec("torch") is None:
        return "PyTorch is missing (pip install '.[benchmark]')."
    if jax.default_backend() != "cpu":
        return "PyTorch runs on the CPU, and JAX does not (JAX_PLATFORMS=cpu)."
    return None


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
) -> tuple[Callable[..., Any], float]:
    """Compile a function for arguments like these, which the program takes where it is
    given no others; return it with the seconds that took."""
    seconds, program = timed(lambda: jax.jit(function).lower(*arguments).compile())
    return lambda *others: program(*(others or arguments)), seconds
