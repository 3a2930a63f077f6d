"""The record of an experiment: built, written and read.

Its schema is :mod:`hyperforget_jax.evaluation.schema`'s.
"""

import dataclasses
import json
import os
import pathlib
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from hyperforget_jax import files
from hyperforget_jax.base import Access
from hyperforget_jax.evaluation.schema import (
    PHASES,
    SCHEMA,
    metric_summary,
    validate,
)
from hyperforget_jax.manifests import package_versions

__all__ = [
    "read",
    "results_document",
    "results_row",
    "write",
]


def results_row(
    method: str,
    metrics: Sequence[Mapping[str, float]],
    *,
    dataset: str,
    model: str,
    scenario: str,
    request: str,
    access: Access,
    seconds: Mapping[str, float],
    factors: Mapping[str, Any] | None = None,
    over: str = "training_seed",
) -> dict[str, Any]:
    """One row: a method's answers to one request, over seeds.

    Args:
        method: its name; the reference rows are ``original``, ``retrain``, ``ceiling``.
        metrics: an evaluation's metrics for every seed, in seed order.
        dataset: its name.
        model: what the classifier is.
        scenario: the kind of request, such as ``"class"`` or ``"rows"``.
        request: what was to be forgotten.
        access: what the method reads when.
        seconds: ``{"init", "unlearn", "compile"}``, mean seconds per seed.
        factors: whatever else was varied.
        over: what the values are repeated over.

    Raises:
        ValueError: no seeds, or a metric that some seeds have and others lack.
    """
    if not metrics:
        raise ValueError(f"metrics of {method!r} is empty: a row needs a seed.")
    names = list(metrics[0])
    for seed, of_seed in enumerate(metrics):
        uneven = sorted(set(of_seed) ^ set(names))
        if uneven:
            raise ValueError(
                f"metrics of {method!r} differ between seeds 0 and {seed}: {uneven} "
                "in one of them alone."
            )
    return {
        "method": method,
        "dataset": dataset,
        "model": model,
        "scenario": scenario,
        "request": request,
        "factors": _plain(factors or {}),
        "access": {phase: sorted(getattr(access, phase)) for phase in PHASES},
        "seconds": {name: float(value) for name, value in seconds.items()},
        "over": over,
        "n": len(metrics),
        "metrics": {
            name: metric_summary([of_seed[name] for of_seed in metrics])
            for name in names
        },
    }


def results_document(
    rows: Sequence[Mapping[str, Any]],
    *,
    preset: str,
    config: Any,
    seconds: float,
    command: str | None = None,
    repository: str | os.PathLike = ".",
) -> dict[str, Any]:
    """The whole record, with where and by what it was made.

    Args:
        rows: from :func:`results_row`.
        preset: the preset's name.
        config: a dataclass or mapping of simple values.
        seconds: wall-clock time of the experiment.
        command: what was typed; by default the script, relative to the current
            folder, and its arguments.
        repository: a folder in the git repository of the code. Where there is none,
            or no git, ``commit`` and ``dirty`` are ``"unknown"``.
    """
    commit = _git(repository, "rev-parse", "HEAD")
    changes = _git(repository, "status", "--porcelain")
    devices = jax.devices()
    return {
        "schema": SCHEMA,
        "command": _command() if command is None else command,
        "preset": preset,
        "commit": commit or "unknown",
        "dirty": "unknown" if changes is None or commit is None else bool(changes),
        "device": f"{len(devices)} x {devices[0].device_kind} ({devices[0].platform})",
        "versions": package_versions(),
        "config": _plain(config),
        "seconds": float(seconds),
        "rows": [dict(row) for row in rows],
    }


def write(
    path: str | os.PathLike, document: Mapping[str, Any], *, references: bool = True
) -> None:
    """Validates a document and writes it as JSON: whole, or not at all.

    Args:
        path: the file; its folder is made if need be.
        document: as made by :func:`results_document`.
        references: as for :func:`validate`.
    """
    validate(document, references=references)
    with files.whole(path) as file:
        for part in _text(document):
            file.write(part)
        file.write("\n")


def read(path: str | os.PathLike, *, references: bool = True) -> dict[str, Any]:
    """Reads a document and validates it.

    Args:
        path: the file.
        references: as for :func:`validate`.

    Raises:
        ValueError: not JSON, or not this schema; the message names the file.
    """
    file = files.local_path("path", path)
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        validate(document, references=references)
    except ValueError as error:
        raise ValueError(f"{path} is not a results file: {error}") from error
    return document


def _text(value: Any, indent: str = "\n") -> Iterator[str]:
    """A document as JSON, with what holds no further mapping on one line: a metric is a
    line, so that files stay small and differences can be read."""
    if not _is_nested(value):
        yield json.dumps(value, allow_nan=False)
        return
    within = indent + " "
    if isinstance(value, Mapping):
        parts = [(f"{json.dumps(name)}: ", child) for name, child in value.items()]
        begin, end = "{}"
    else:
        parts = [("", child) for child in value]
        begin, end = "[]"
    yield begin
    for number, (name, child) in enumerate(parts):
        yield f"{',' if number else ''}{within}{name}"
        yield from _text(child, within)
    yield indent + end


def _is_nested(value: Any) -> bool:
    """Whether a mapping is somewhere inside."""
    if not isinstance(value, (Mapping, list, tuple)):
        return False
    children = value.values() if isinstance(value, Mapping) else value
    return any(isinstance(c, Mapping) or _is_nested(c) for c in children)


def _plain(value: Any) -> Any:
    """The same value as JSON has it: dataclasses, tuples, sets and scalars undone."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {
            field.name: getattr(value, field.name)
            for field in dataclasses.fields(value)
        }
    if isinstance(value, Mapping):
        return {str(key): _plain(child) for key, child in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted(_plain(child) for child in value)
    if isinstance(value, (tuple, list)):
        return [_plain(child) for child in value]
    if isinstance(value, (np.generic, np.ndarray, jax.Array)):
        return np.asarray(value).tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value


def _command() -> str:
    script = pathlib.Path(sys.argv[0])
    if script.is_absolute():
        # A record names no folder of the machine it was made on.
        here = pathlib.Path.cwd()
        inside = script.is_relative_to(here)
        script = script.relative_to(here) if inside else pathlib.Path(script.name)
    return shlex.join(["python", script.as_posix(), *sys.argv[1:]])


def _git(repository: str | os.PathLike, *arguments: str) -> str | None:
    try:
        answer = subprocess.run(
            ["git", "-C", os.fspath(repository), *arguments],
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()
