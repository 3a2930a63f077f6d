"""Experiments, run in this process: importing JAX anew for each would take long."""

import contextlib
import importlib
import io
import pathlib
import sys
import traceback
import typing
from typing import NamedTuple
from unittest import mock

import tyro

EXPERIMENTS = pathlib.Path(__file__).parents[1] / "experiments"


class Run(NamedTuple):
    """What came of a script: as ``subprocess.run`` tells it."""

    returncode: int
    stdout: str
    stderr: str


def load(*names):
    """Modules of ``experiments/``, in order."""
    with mock.patch.object(sys, "path", [str(EXPERIMENTS), *sys.path]):
        return [importlib.import_module(name) for name in names]


def run(name, *options):
    """Runs ``experiments/<name>.py`` as ``python`` would with these options."""
    (module,) = load(name)
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with (
        mock.patch.object(sys, "path", [str(EXPERIMENTS), *sys.path]),
        mock.patch.object(sys, "argv", [f"{name}.py", *options]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            module.main(tyro.cli(typing.get_type_hints(module.main)["config"]))
        except SystemExit as stop:
            if isinstance(stop.code, str):
                err.write(stop.code)
            code = stop.code if isinstance(stop.code, int) else int(bool(stop.code))
        except Exception:
            traceback.print_exc()
            code = 1
    return Run(code, out.getvalue(), err.getvalue())
