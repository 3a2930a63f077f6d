"""The command line: which subcommand is meant, and what becomes of its errors."""

import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import tyro

import hyperforget_jax as hf
from hyperforget_jax.command.app import App
from hyperforget_jax.command.audit import Audit
from hyperforget_jax.command.doctor import Doctor
from hyperforget_jax.command.forget import Forget
from hyperforget_jax.command.quickstart import Quickstart
from hyperforget_jax.command.report import Report
from hyperforget_jax.command.spelling import misspelt

__all__ = ["main"]

_COMMANDS: dict[str, Callable[..., Any]] = {
    "quickstart": Quickstart,
    "forget": Forget,
    "audit": Audit,
    "report": Report,
    "app": App,
    "doctor": Doctor,
}
_FLAGS: Any = tyro.conf.FlagCreatePairsOff  # --json, and no --no-json.


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: of the command line; None for the process's own.

    Returns:
        The exit code: 0, or 1 for models that are distinguished from retrained ones and
        for an installation that lacks something, or 2 for what cannot be read or done,
        or 130 if it is interrupted.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    if given == ["--version"]:
        sys.stdout.write(f"hyperforget {hf.__version__}\n")
        return 0
    if said := misspelt(_COMMANDS, given):
        of = f" {given[0]}" if given[0] in _COMMANDS else ""
        sys.stderr.write(f"hyperforget{of}: {said}\n")
        return 2
    if given and given[0] in _COMMANDS:  # Its own, so that errors name its own help.
        options = tyro.cli(
            _COMMANDS[given[0]],
            prog=f"hyperforget {given[0]}",
            args=given[1:],
            config=(_FLAGS,),
        )
    else:
        options = tyro.extras.subcommand_cli_from_dict(
            _COMMANDS,
            prog="hyperforget",
            description="Make a trained classifier forget, and measure whether it did.",
            args=given,
            config=(_FLAGS,),
        )
    name = f"hyperforget {type(options).__name__.lower()}"

    def show(message: Warning | str, *where: Any, **file: Any) -> None:
        del where, file  # No line of a script of the user's own led here.
        sys.stderr.write(f"{name}: warning: {message}\n")

    with warnings.catch_warnings():
        warnings.showwarning = show
        try:
            return options.run()
        except (ArithmeticError, OSError, RuntimeError, TypeError, ValueError) as error:
            sys.stderr.write(f"{name}: {error}\n")
            return 2
        except KeyboardInterrupt:
            sys.stderr.write(f"{name}: interrupted\n")
            return 130
