"""What is misspelt on a command line, said before whatever lacks because of it."""

import dataclasses
import typing
from collections.abc import Mapping, Sequence
from typing import Any

import tyro

from hyperforget_jax.nearest import did_you_mean

__all__ = ["misspelt"]

_HELP = {"-h", "--help"}
(_POSITIONAL,) = tyro.conf.Positional[int].__metadata__


def misspelt(commands: Mapping[str, Any], given: Sequence[str]) -> str:
    """Return what to say of a subcommand or of options that there are not.

    Args:
        commands: dataclasses of options by subcommand.
        given: the arguments of the command line.

    Returns:
        One line, without the command's name; empty if everything is known.
    """
    if not given or _HELP & set(given):
        return ""
    name, *rest = given
    if name not in commands:
        if name.startswith("-"):
            return ""
        there = f"there are {', '.join(commands)}"
        return _unknown("subcommand", name, list(commands), there)
    if "--" in rest:  # What follows is no option, whatever it looks like.
        rest = rest[: rest.index("--")]
    known = _options(commands[name])
    lacking = f"hyperforget {name} --help lists them"
    words = [word[2:].partition("=")[0] for word in rest if word.startswith("--")]
    return "; ".join(
        _unknown("option", word, known, lacking, mark="--")
        for word in dict.fromkeys(words)
        # tyro has its own, which print completions for shells.
        if word.replace("_", "-") not in known and not word.startswith("tyro-")
    )


def _options(command: Any) -> list[str]:
    hints = typing.get_type_hints(command, include_extras=True)
    return [
        field.name.replace("_", "-")
        for field in dataclasses.fields(command)
        if _POSITIONAL not in getattr(hints[field.name], "__metadata__", ())
    ]


def _unknown(
    what: str, word: str, known: Sequence[str], otherwise: str, mark: str = ""
) -> str:
    # Without the mark, which would make all words alike.
    if near := did_you_mean(word, known, mark):
        return f"there is no {what} {mark}{word}; {near}"
    return f"there is no {what} {mark}{word}: {otherwise}."
