"""The command ``hyperforget``, which the wheel installs. One file a subcommand."""

from hyperforget_jax.command.main import main

__all__ = ["main"]
