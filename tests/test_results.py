"""One cell of every study, made again by the study's command, is what its record says.

A process of its own, on one device and with XLA's usual flags, runs the smallest part
of a study that has rows of its own, and every number of these rows is compared, seed by
seed. All seeds are trained: they share a program, and fewer in it change bits.

What may differ is float noise: another processor, another number of threads, or fewer
models in one program sum in another order, and training amplifies that. So an accuracy
may move by a few examples, and a distance or a loss by a share of itself. The test of
the comparison itself shows that it tells one training seed from the next.
"""

import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[1]
RESULTS = ROOT / "experiments/results"


class Cell(NamedTuple):
    """A part of a study.

    Attributes:
        command: the script and which part it is to run.
        data: a data set that must be prepared, or none.
    """

    command: str
    data: str | None = None


PGU = "pgu --methods logit_mask --variants pgu --scenarios classes --classes 0"
FIUN = "fiun --settings transfer --scenarios rows"
DIHYFO = "dihyfo --methods logit_mask finetune --classes 0 --scenarios classes"
CELLS = {
    "classes-digits": Cell("classes --classes 0"),
    "tune-digits": Cell("tune --methods ssd"),
    "fiun-mnist": Cell(FIUN, "mnist"),
    "pgu-mnist": Cell(PGU, "mnist"),
    "dihyfo-digits": Cell(f"{DIHYFO} --variants dihyfo_2"),
}
# Why a record has no cell.
LEFT_OUT = {
    "dihyfo-mnist": "dihyfo-digits' study on other data; its zoo takes ten minutes",
    "dihyfo-mnist_wide": "as dihyfo-mnist, of wider models",
    "dihyfo-mnist-free": "as dihyfo-mnist",
    "dihyfo-cifar10_cnn": "its classifiers alone take minutes",
    "dihyfo-digits-strangers": "three zoos and hypernetworks, ten minutes",
    "fiun-cifar10_small": "fiun-mnist's study on other data",
    "pgu-rows-mnist": "pgu-mnist's study asked for rows; test_pgu_study.py asks it too",
    "pgu-rows-cifar10_small": "as pgu-rows-mnist, minutes of CPU",
    "fiun-depth-mnist": "fiun-mnist's study on deeper networks, four minutes of CPU",
    "pgu-mnist_cnn": "the cell of pgu-mnist of another network, minutes of CPU",
    "audit-digits": "test_audit_study.py makes a cell of it again, by --check",
    "audit-mnist": "512 models a side take 25 minutes",
    "leaderboard-digits": "half an hour; test_search.py makes cells of a small one",
    "leaderboard-mnist": "an hour; as leaderboard-digits",
    "controls-digits": "two minutes; test_recipes.py holds it to the search",
    "search-digits": "half an hour; test_search.py makes a small one",
    "search-mnist": "three quarters of an hour; as search-digits",
    "audit-torch-digits": "needs PyTorch; test_readme.py runs its block where it is",
    "residual-cifar10_resnet8": "two hours; test_residual.py makes a small one",
    "dihyfo-mnist-protect": "its zoo takes ten minutes; dihyfo-digits is made again",
    "residual-rows-cifar10_resnet8": "as residual-cifar10_resnet8",
    "residual-descendants-cifar10_resnet8": "its roots take two hours; as above",
    "endurance": "a quarter of an hour; test_endurance.py kills two kinds of job",
    "off-tuning-mnist_cnn": "a quarter of an hour in all; test_defaults.py reads it",
    "off-tuning-wine": "minutes, most of them compilation; test_defaults.py reads it",
    "off-tuning-breast_cancer": "as off-tuning-wine",
    "tune-dihyfo-digits": "two zoos and hypernetworks of each of five seeds, minutes",
    "tune-fiun-mnist": "each of its numbers is a mean over eighty trained networks",
    **{
        f"{study}-benchmark": "seconds, which no other machine repeats"
        for study in ("audit", "convolution", "dihyfo", "fiun", "pgu", "population")
    },
}


def read(path: pathlib.Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def same_place(row: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Tell whether two rows are of one place in a study, whatever was measured there.

    Factors that one of them has not, and ranks of points, do not tell.
    """
    ranks = {"place", "chosen", "score"}
    first, second = row["factors"] or {}, other["factors"] or {}
    named = all(row[key] == other[key] for key in ("scenario", "method", "request"))
    shared = (set(first) & set(second)) - ranks
    return named and all(first[key] == second[key] for key in shared)


def allowed(method: str, name: str, recorded: np.ndarray) -> np.ndarray:
    """How far a metric may be from what was recorded.

    The records of hypernetworks are made again to the digit by the commits that they
    name, and not by later code, on whatever number of threads: which change it was is
    not known. Their rows are held to being networks as good as the record's.
    """
    wide = method.startswith("dihyfo")
    if any(part in name for part in ("accuracy", "mia", "gap", "tow", "score")):
        most = 0.04 if wide else 0.02
        return np.full_like(recorded, most)
    if "relearn" in name:
        return 3 + 0.1 * np.abs(recorded)
    if name == "points_lost":  # An accuracy, in points.
        return np.full_like(recorded, 2.0)
    if wide:
        return 0.01 + 0.4 * np.abs(recorded)
    return 0.002 + 0.05 * np.abs(recorded)


def differences(rows, recorded, *, roll: int = 0) -> Iterator[str]:
    """Say of every number that is not as recorded what it is.

    Args:
        rows: made again.
        recorded: all rows of the record.
        roll: by how many seeds the record is shifted first.
    """
    for row in rows:
        (of_record,) = (one for one in recorded if same_place(row, one))
        for name, metric in of_record["metrics"].items():
            old = np.roll(np.array(metric["values"]), roll)
            new = np.array(row["metrics"][name]["values"])
            most = allowed(row["method"], name, old)
            if not np.all(np.abs(new - old) <= most):
                said = f"{row['method']}, {row['request']}, {row['factors']}"
                yield f"{said}: {name} {new.round(4)}, not {old.round(4)}"


@pytest.mark.slow
@pytest.mark.parametrize("name", CELLS)
def test_a_cell_is_what_its_record_says(name, tmp_path):
    cell, document = CELLS[name], read(RESULTS / f"{name}.json")
    prepared = pathlib.Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")
    if cell.data and not list(prepared.expanduser().glob(f"{cell.data}/*")):
        pytest.skip(f"{cell.data} is not prepared in {prepared} (set TFDS_DATA_DIR)")
    script, *options = cell.command.split()
    options += ["--preset", document["preset"], "--out", str(tmp_path / "out")]
    # Eight devices and cheaper compilation are the tests' own.
    env = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    env["PYTHONPATH"] = os.pathsep.join([str(ROOT), env.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, ROOT / f"experiments/{script}.py", *options],
        env=env,
        capture_output=True,
        text=True,
        timeout=1_200,
    )
    assert done.returncode == 0, done.stderr
    rows = read(tmp_path / "out/results.json")["rows"]
    assert rows
    wrong = list(differences(rows, document["rows"]))
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", CELLS)
def test_the_comparison_tells_one_seed_from_the_next(name):
    rows = read(RESULTS / f"{name}.json")["rows"]
    assert not list(differences(rows[:20], rows))
    assert list(differences(rows[:20], rows, roll=1))


def test_every_record_has_a_cell_or_a_reason():
    assert {path.stem for path in RESULTS.glob("*.json")} == {*CELLS, *LEFT_OUT}
    assert not set(CELLS) & set(LEFT_OUT)
