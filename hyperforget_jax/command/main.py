"""The command line: which subcommand is meant, and what becomes of its errors."""

import sys
from collections.abc import Callable, Sequence
from typing import Any

import tyro

from hyperforget_jax.command.app import App
from hyperforget_jax.command.audit import Audit
from hyperforget_jax.command.doctor import Doctor
from hyperforget_jax.command.forget import Forget
from hyperforget_jax.command.quickstart import Quickstart
from hyperforget_jax.command.report import Report

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
        The exit code: 0, or 1 for models that can be told from retrained ones and for
        an installation that lacks something, or 2 for what cannot be read or done.
    """
    options = tyro.extras.subcommand_cli_from_dict(
        _COMMANDS,
        prog="hyperforget",
        description="Make a trained JAX classifier forget, and prove that it did.",
        args=arguments,
        config=(_FLAGS,),
    )
    try:
        return options.run()
    except (ArithmeticError, OSError, RuntimeError, TypeError, ValueError) as error:
        name = type(options).__name__.lower()
        sys.stderr.write(f"hyperforget {name}: {error}\n")
        return 2
