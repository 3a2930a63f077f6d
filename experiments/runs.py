"""A study's folder: whose it is, what is written there, and what is printed."""

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from rich.table import Table

import hyperforget_jax as hf
from hyperforget_jax import atomic_write


def refuse(message: str) -> NoReturn:
    """Say in one line why a study cannot begin, and exit as ``hyperforget`` does."""
    sys.stderr.write(message + "\n")
    raise SystemExit(2)


def check_known(option: str, given: Iterable[str], allowed: Iterable[str]) -> None:
    """Refuse an option that names what there is not."""
    allowed = list(allowed)
    if unknown := sorted(set(given) - set(allowed)):
        refuse(
            f"{option} must be among {', '.join(allowed)}; got {', '.join(unknown)}."
        )


def open_folder(out: Path, record: Mapping[str, Any], resume: bool) -> None:
    """Make the study's folder, or check that it is the one to go on with.

    Raises:
        SystemExit: the folder holds another study, or ``resume`` was not given.
    """
    path = out / "config.json"
    if path.exists():
        stored = json.loads(path.read_text())
        for name, value in json.loads(json.dumps(record)).items():
            if stored.get(name) != value:
                refuse(
                    f"{out} holds a run with {name}={stored.get(name)}, not {value}: "
                    "choose another --out."
                )
        if not resume:
            refuse(
                f"{out} holds this very run: give --resume to go on with it, or choose "
                "another --out."
            )
        return
    with atomic_write.replace_file(path) as file:
        json.dump(record, file, indent=2)


def rows_to_go_on_from(
    path: Path | None, settings: Mapping[str, Any], read: Callable[..., Any]
) -> list[dict[str, Any]]:
    """Read the rows of a record, none without one; refuse one of other settings."""
    if path is None:
        return []
    try:
        document = read(path)
    except (OSError, ValueError) as error:
        refuse(f"--record cannot be read: {error}")
    stored, wanted = document["config"], json.loads(json.dumps(settings))
    for name in wanted | stored:
        if stored.get(name) != wanted.get(name):
            refuse(
                f"{path} was made with {name}={stored.get(name)}, not "
                f"{wanted.get(name)}."
            )
    return document["rows"]


@contextlib.contextmanager
def resumable() -> Iterator[None]:
    """Say how to go on with a run when somebody stops it."""
    try:
        yield
    except KeyboardInterrupt:
        message = "Stopped. The same command with --resume goes on from here."
        raise SystemExit(message) from None


def keep(path: Path, made: Any) -> None:
    """Write a part of a run, unless it is there."""
    if not path.exists():
        with atomic_write.replace_file(path) as file:
            json.dump(made, file)


def write(
    config: Any,
    rows: Sequence[Mapping[str, Any]],
    record: Mapping[str, Any],
    begin: float,
    *,
    references: bool = True,
    preset: str | None = None,
    path: Path | None = None,
) -> dict[str, Any]:
    """Write what a study found, and return it.

    Args:
        config: the study's options.
        rows: of results.
        record: what decides the results.
        begin: when it began, by ``time.perf_counter``.
        references: whether every request must stand beside the reference rows.
        preset: its name, if not that of the options.
        path: the file, if not ``results.json``.
    """
    document = hf.report.results_document(
        rows,
        preset=config.preset if preset is None else preset,
        config=record,
        seconds=time.perf_counter() - begin,
        repository=Path(__file__).parent,
    )
    path = path or config.out / "results.json"
    hf.report.write(path, document, references=references)
    return document


def write_audit(config: Any, rows, settings, begin: float) -> dict[str, Any]:
    """Write what audits of so many models found, ``results.json``, and return it."""
    models = settings["models"]
    document = hf.report.audit_document(
        rows,
        preset=config.preset,
        tier="smoke" if models < 32 else "standard" if models < 128 else "full",
        config=settings,
        seconds=time.perf_counter() - begin,
        repository=Path(__file__).parent,
    )
    hf.report.write_audit(config.out / "results.json", document)
    return document


def summary(
    rows: Sequence[Mapping[str, Any]],
    by: Sequence[str],
    metrics: Mapping[str, Callable[[list[float]], float] | None],
) -> Table:
    """Show the means over the rows of each group, and the worst of these rows.

    Args:
        rows: of results.
        by: what distinguishes groups: the method, the scenario, factors.
        metrics: which, and what makes the worst of several; None for none.
    """
    groups: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        about = {**(row["factors"] or {}), **row}
        place = tuple(str(about.get(name, "")) for name in by)
        groups.setdefault(place, []).append(row["metrics"])
    table = Table(
        *by, *(f"{name} (worst)" if w else name for name, w in metrics.items())
    )
    for place, found in groups.items():
        cells = []
        for name, worst in metrics.items():
            means = [one[name]["mean"] for one in found if name in one]
            cell = f"{np.mean(means):.4f}" if means else "–"
            cells.append(f"{cell} ({worst(means):.4f})" if worst and means else cell)
        table.add_row(*place, *cells)
    return table
