"""Which known word a misspelt one may have meant."""

import difflib
from collections.abc import Iterable

__all__ = ["did_you_mean"]


def did_you_mean(word: str, known: Iterable[str], mark: str = "") -> str:
    """Ask "did you mean ...?" with the nearest words, or nothing if none is near.

    Args:
        word: what was given.
        known: what is allowed.
        mark: put before each suggestion, but not compared, as ``--`` of options.
    """
    # Capitals are no other word.
    by_lower = {each.lower(): each for each in known}
    close = difflib.get_close_matches(word.lower(), by_lower, 2)
    near = [by_lower[each] for each in close]
    return f"did you mean {' or '.join(mark + each for each in near)}?" if near else ""
