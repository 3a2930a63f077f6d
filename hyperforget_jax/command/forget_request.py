"""What ``hyperforget forget`` is asked to forget: classes, rows, or random rows."""

import pathlib
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from hyperforget_jax import requests
from hyperforget_jax.base import Array, Examples, ForgetRequest
from hyperforget_jax.command.inputs import load_rows

__all__ = ["labels", "make_request"]


class _Options(Protocol):
    @property
    def classes(self) -> Sequence[str]: ...

    @property
    def rows(self) -> pathlib.Path | None: ...

    @property
    def random(self) -> str | None: ...


def make_request(
    options: _Options, key: Array, train: Examples, num_classes: int
) -> ForgetRequest:
    """Make the request that one of the options asks for.

    Args:
        options: of which one is given.
        key: a typed key, of random rows.
        train: the training data.
        num_classes: the classifier's.

    Raises:
        ValueError: what is wrong, after the option and what was given.
    """
    rest = {"num_classes": num_classes}
    if options.rows is not None:
        option, rows = f"--rows {options.rows}", load_rows(options.rows)
        return _named(option, requests.forget_rows, train, rows, **rest)
    if options.random is not None:
        option, size = f"--random {options.random}", _size(options.random)
        return _named(option, requests.forget_random, key, train, size, **rest)
    option, classes = f"--classes {' '.join(options.classes)}", labels(options.classes)
    return _named(option, requests.forget_classes, train, classes, **rest)


def labels(given: Sequence[str]) -> tuple[int, ...]:
    """Read class labels, ``["3", "5"]`` or ``["3,5"]``."""
    try:
        return tuple(int(word) for each in given for word in each.split(","))
    except ValueError:
        raise ValueError(
            f"--classes {' '.join(given)}: labels must be whole numbers, such as "
            "--classes 3 5."
        ) from None


def _size(given: str) -> int | float:
    """Read how many rows, ``"500"``, or which share of them, ``"0.01"``."""
    try:
        size = float(given)
    except ValueError:
        raise ValueError(
            f"--random {given}: must be a count, such as 500, or a share, such as 0.01."
        ) from None
    is_count = size.is_integer() and "." not in given
    return int(size) if is_count else size


def _named(option: str, make: Callable[..., Any], *given: Any, **rest: Any) -> Any:
    try:
        return make(*given, **rest)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{option}: {error}") from error
