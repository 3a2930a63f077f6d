"""The record of an experiment: built, written and read."""

import datetime
import functools
import json
import os
import pathlib
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import msgspec
import numpy as np

from hyperforget_jax import atomic_write
from hyperforget_jax.base import Access, Classifier
from hyperforget_jax.manifests import package_versions
from hyperforget_jax.report.schema import PHASES, metric_summary, validate

__all__ = [
    "model_name",
    "plain",
    "read",
    "read_json",
    "reads",
    "results_document",
    "results_row",
    "write",
    "write_json",
]


def results_row(
    method: str,
    metrics: Sequence[Mapping[str, float]],
    *,
    dataset: str,
    model: str,
    scenario: str,
    request: str,
    access: Access | None,
    seconds: Mapping[str, float] | None,
    factors: Mapping[str, Any] | None = None,
    over: str = "training_seed",
    num_forgotten: int | None = None,
    num_train: int | None = None,
) -> dict[str, Any]:
    """Build one row: one method and one request, over seeds.

    Args:
        method: its name. The reference rows are ``original``, ``retrain``, ``ceiling``;
            a name that begins with ``ablation/`` is a check and no method.
        metrics: an evaluation's metrics for every seed, in seed order.
        dataset: its name.
        model: what the classifier is.
        scenario: the kind of request, such as ``"class"`` or ``"rows"``.
        request: what was to be forgotten.
        access: what the method reads when; None where it is not known.
        seconds: ``{"init", "unlearn", "compile"}``, mean seconds per seed, or None.
        factors: whatever else was varied.
        over: what the values are repeated over.
        num_forgotten: training rows that the request covers.
        num_train: training rows in all.

    Raises:
        ValueError: no seeds, or a metric that some seeds have and others lack.
    """
    if not metrics:
        raise ValueError(f"metrics of {method!r} is empty: a row needs a seed.")
    for seed, of_seed in enumerate(metrics):
        if uneven := sorted(set(of_seed) ^ set(metrics[0])):
            raise ValueError(
                f"metrics of {method!r} differ between seeds 0 and {seed}: {uneven} "
                "in one of them alone."
            )
    row = {
        "method": method,
        "dataset": dataset,
        "model": model,
        "scenario": scenario,
        "request": request,
        "factors": plain(factors or {}),
        "access": reads(access),
        "seconds": seconds and {name: float(each) for name, each in seconds.items()},
        "over": over,
        "n": len(metrics),
    }
    counts = {"num_forgotten": num_forgotten, "num_train": num_train}
    row |= {name: int(count) for name, count in counts.items() if count is not None}
    row["metrics"] = {
        name: metric_summary([of_seed[name] for of_seed in metrics])
        for name in metrics[0]
    }
    return row


def results_document(
    rows: Sequence[Mapping[str, Any]],
    *,
    preset: str,
    config: Any,
    seconds: float,
    timed: str = "all",
    command: str | None = None,
    date: str | None = None,
    repository: str | os.PathLike = ".",
) -> dict[str, Any]:
    """Build the whole record, with where, when and by what it was made.

    Args:
        rows: from :func:`results_row`.
        preset: the preset's name, or nothing.
        config: a dataclass or mapping of simple values.
        seconds: wall-clock time of the experiment.
        timed: whether these are ``"all"``, or those of ``"evaluation"`` alone.
        command: what was typed; by default the script, relative to the current
            folder, and its arguments.
        date: ISO 8601; by default now, in UTC.
        repository: a folder in the git repository of the code. Where there is none,
            or no git, ``commit`` and ``dirty`` are ``"unknown"``.
    """
    commit = _git(repository, "rev-parse", "HEAD")
    changes = _git(repository, "status", "--porcelain")
    devices = jax.devices()
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return {
        "schema": 1,
        "date": date or now,
        "command": _command() if command is None else command,
        "preset": preset,
        "commit": commit or "unknown",
        "dirty": "unknown" if changes is None or commit is None else bool(changes),
        "device": f"{len(devices)} x {devices[0].device_kind} ({devices[0].platform})",
        "versions": package_versions(),
        "config": plain(config),
        "seconds": float(seconds),
        "timed": timed,
        "rows": [dict(row) for row in rows],
    }


def write(
    path: str | os.PathLike, document: Mapping[str, Any], *, references: bool = True
) -> None:
    """Validate a document and write it as JSON: whole, or not at all.

    Args:
        path: the file; its folder is made if need be.
        document: as made by :func:`results_document`.
        references: as for :func:`validate`.
    """
    validate(document, references=references)
    write_json(path, document)


def read(path: str | os.PathLike, *, references: bool = True) -> dict[str, Any]:
    """Read a document and validate it.

    Args:
        path: the file.
        references: as for :func:`validate`.

    Raises:
        ValueError: not JSON, or not this schema; the message names the file.
    """
    return read_json(path, functools.partial(validate, references=references))


def write_json(path: str | os.PathLike, document: Mapping[str, Any]) -> None:
    """Write a document as JSON: whole, or not at all."""
    with atomic_write.replace_file(path) as file:
        file.write(_text(document) + "\n")


def read_json(path: str | os.PathLike, check: Callable[[Any], None]) -> dict[str, Any]:
    """Read a document that passes a check.

    Raises:
        ValueError: not JSON, or what the check raises; the message names the file.
    """
    file = atomic_write.local_path("path", path)
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        check(document)
    except ValueError as error:
        raise ValueError(f"{path} is not a results file: {error}") from error
    return document


def reads(access: Access | None) -> dict[str, list[str]] | None:
    """Write down what a method reads, phase by phase; None if that is not known."""
    if access is None:
        return None
    return {name: sorted(getattr(access, name)) for name in PHASES}


def model_name(classifier: Classifier) -> str:
    """Name a classifier shortly: a Flax model by its class, without the fields."""
    name = " ".join(classifier.description.split()).removeprefix("nnx:")
    name = name.partition("( # ")[0].removesuffix("()").rpartition("<locals>.")[2]
    return name.replace("<lambda>", "") or "a classifier"


def plain(value: Any) -> Any:
    """Turn dataclasses, tuples, paths and arrays into JSON's own values."""

    def hook(leaf):
        if isinstance(leaf, os.PathLike):
            return os.fspath(leaf)
        if isinstance(leaf, np.generic | np.ndarray | jax.Array):
            return np.asarray(leaf).tolist()
        raise TypeError(f"{leaf!r} is a {type(leaf).__name__}, which JSON cannot hold.")

    plain = msgspec.to_builtins(value, str_keys=True, enc_hook=hook)
    return json.loads(json.dumps(plain))  # Makes lists of tuples.


def _text(value: Any, indent: str = "\n") -> str:
    """Write JSON in which what holds no further mapping is one line: a metric is a
    line, so that files stay small and differences can be read."""
    if not isinstance(value, Mapping | list):
        return json.dumps(value, allow_nan=False)
    inner = indent + " "
    pairs = list(value.items() if isinstance(value, Mapping) else enumerate(value))
    texts = [_text(child, inner) for _, child in pairs]
    is_nested = any(isinstance(child, Mapping) for _, child in pairs)
    if not is_nested and not any("\n" in text for text in texts):
        return json.dumps(value, allow_nan=False)
    begin, end = "[]"
    if isinstance(value, Mapping):
        begin, end = "{}"
        names = (json.dumps(name) for name in value)
        texts = [f"{name}: {text}" for name, text in zip(names, texts, strict=True)]
    return begin + inner + ("," + inner).join(texts) + indent + end


def _command() -> str:
    """Return what was typed; a record names no folder of the machine it was made on."""
    script = pathlib.Path(sys.argv[0])
    if script.is_absolute():
        here = pathlib.Path.cwd()
        inside = script.is_relative_to(here)
        script = script.relative_to(here) if inside else pathlib.Path(script.name)
    options = [
        pathlib.Path(option).name if option.startswith("/") else option
        for option in sys.argv[1:]
    ]
    if script.suffix == ".py":
        return shlex.join(["python", script.as_posix(), *options])
    return shlex.join([script.name, *options])  # A command.


def _git(repository: str | os.PathLike, *arguments: str) -> str | None:
    command = ["git", "-C", os.fspath(repository), *arguments]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=30
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
