"""The schema holds: valid documents pass, and each violation is named."""

import copy
import dataclasses
import datetime
import itertools
import json
import pathlib
import sys
import types

import numpy as np
import pytest

from hyperforget_jax.base import Access
from hyperforget_jax.report import (
    metric_summary,
    read,
    read_audit,
    results_document,
    results_row,
    validate,
    write,
    write_audit,
)
from hyperforget_jax.report.records import model_name

RESULTS = pathlib.Path(__file__).parents[2] / "experiments/results"
ACCESS = Access(init={"retain", "forget"}, unlearn={"classes"})


def make_row(method, seeds=5, **overrides):
    metrics = [
        {"forget_accuracy_test": 0.1 * seed, "js_to_oracle": 0.01, "relearn_steps": 7.0}
        for seed in range(seeds)
    ]
    row = results_row(
        method,
        metrics,
        dataset="digits",
        model="mlp",
        scenario="class",
        request="class 3",
        access=ACCESS,
        seconds={"init": 0.0, "unlearn": 0.5, "compile": 1.0},
    )
    return {**row, **overrides}


@pytest.fixture
def document():
    methods = ("original", "retrain", "ceiling", "finetune")
    return results_document(
        [make_row(method) for method in methods],
        preset="digits",
        config={"steps": 10, "rates": (0.1, 0.2), "out": pathlib.Path("runs")},
        seconds=1.5,
        command="python experiments/quickstart.py",
    )


def test_metric_summary_by_hand():
    got = metric_summary([1.0, 2.0, 4.0])
    assert got["mean"] == pytest.approx(7 / 3)
    # The sample variance of 1, 2, 4 is 7/3.
    assert got["std"] == pytest.approx(np.sqrt(7 / 3))
    assert (got["min"], got["max"], got["values"]) == (1.0, 4.0, [1.0, 2.0, 4.0])


def test_metric_summary_of_one_value_has_no_spread():
    assert metric_summary([0.5])["std"] == 0.0


@pytest.mark.parametrize("values", [[], [np.nan], [1.0, np.inf], [[1.0]]])
def test_metric_summary_refuses(values):
    with pytest.raises(ValueError, match="values must be"):
        metric_summary(values)


def test_row_holds_the_values_in_seed_order():
    row = make_row("finetune")
    values = row["metrics"]["forget_accuracy_test"]["values"]
    np.testing.assert_allclose(values, [0.0, 0.1, 0.2, 0.3, 0.4])
    assert row["n"] == 5
    assert row["over"] == "training_seed"
    expected = {"before": [], "init": ["forget", "retain"], "unlearn": ["classes"]}
    assert row["access"] == expected


def test_row_refuses_uneven_seeds():
    options = {
        "dataset": "d",
        "model": "m",
        "scenario": "s",
        "request": "r",
        "access": ACCESS,
        "seconds": {"init": 0.0, "unlearn": 0.0, "compile": 0.0},
    }
    with pytest.raises(ValueError, match=r"seeds 0 and 1: \['tow'\]"):
        results_row("x", [{"mia_auc": 0.5, "tow": 1.0}, {"mia_auc": 0.5}], **options)
    with pytest.raises(ValueError, match="needs a seed"):
        results_row("x", [], **options)


def test_a_valid_document_passes(document):
    validate(document)
    assert document["schema"] == 1
    assert document["config"] == {"steps": 10, "rates": [0.1, 0.2], "out": "runs"}
    assert {"python", "jax", "numpy"} <= set(document["versions"])


def test_config_may_be_a_dataclass():
    @dataclasses.dataclass(frozen=True)
    class Config:
        seeds: tuple[int, ...] = (0, 1)
        name: str | None = None

    made = results_document(
        [make_row("x")], preset="p", config=Config(), seconds=np.float32(1), command="c"
    )
    validate(made, references=False)
    assert made["config"] == {"seeds": [0, 1], "name": None}


def test_no_git_is_unknown(tmp_path, document):
    made = results_document(
        document["rows"],
        preset="p",
        config={},
        seconds=0,
        command="c",
        repository=tmp_path / "nowhere",
    )
    assert (made["commit"], made["dirty"]) == ("unknown", "unknown")
    validate(made)


def test_command_names_no_folder_of_the_machine(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    def command(script):
        monkeypatch.setattr(sys, "argv", [script, "--seeds", "5"])
        return results_document([], preset="p", config={}, seconds=0)["command"]

    expected = "python experiments/x.py --seeds 5"
    assert command(str(tmp_path / "experiments" / "x.py")) == expected
    assert command("experiments/x.py") == expected
    assert command(str(tmp_path.parent / "x.py")) == "python x.py --seeds 5"
    assert command(str(tmp_path / "bin" / "hyperforget")) == "hyperforget --seeds 5"


@pytest.mark.parametrize(
    ("description", "name"),
    [
        ("MLP( # attributes features = (64,) num_classes = 10 )", "MLP"),
        ("MyNetwork()", "MyNetwork"),
        ("nnx:MyNetwork", "MyNetwork"),
        ("3 x MLP( # attributes features = () )", "3 x MLP"),
        ("linear (mine), 1", "linear (mine), 1"),
        ("make.<locals>.apply", "apply"),
        ("make.<locals>.<lambda>", "a classifier"),
        ("", "a classifier"),
    ],
)
def test_a_model_is_named_by_its_class(description, name):
    assert model_name(types.SimpleNamespace(description=description)) == name


METRIC = ("rows", 1, "metrics", "forget_accuracy_test")
MISSING = object()


@pytest.mark.parametrize(
    "path, value, message",
    [
        (("schema",), 2, "schema: Invalid enum value 2"),
        (("schema",), True, "schema: Expected `int`, got `bool`"),
        (("command",), MISSING, "document: Object missing required field `command`"),
        (("preset",), 3, "preset: Expected `str`, got `int`"),
        (("dirty",), "maybe", "dirty: Invalid enum value 'maybe'"),
        (("versions",), [], "versions: Expected `object`, got `array`"),
        (("config", "rate"), float("nan"), "config.rate: must be finite JSON, got nan"),
        (("config", "rates"), (1,), r"config.rates: must be finite JSON, got \(1,\)"),
        (("config", 3), 1, "config: has the key 3"),
        (("seconds",), -1.0, "seconds: Expected `float` >= 0"),
        (("rows",), [], "rows: Expected `array` of length >= 1"),
        (("rows", 2), [], r"rows\[2\]: Expected `object`"),
        (
            ("rows", 2, "method"),
            MISSING,
            r"rows\[2\]: Object missing required field `method`",
        ),
        (("rows", 3, "method"), "", r"rows\[3\].method: Expected `str` of length >= 1"),
        (("rows", 1, "n"), 0, r"rows\[1\].n: Expected `int` >= 1"),
        (("rows", 1, "n"), 4, r"forget_accuracy_test.values: must be n=4 numbers"),
        (
            ("rows", 0, "access", "init"),
            MISSING,
            r"rows\[0\].access: Object missing required field `init`",
        ),
        (
            ("rows", 0, "access", "init"),
            ["retain", "test"],
            r"rows\[0\].access.init\[1\]: Invalid enum value 'test'",
        ),
        (
            ("rows", 0, "seconds", "compile"),
            MISSING,
            r"rows\[0\].seconds: Object missing required field `compile`",
        ),
        (
            ("rows", 0, "seconds", "unlearn"),
            -1,
            r"rows\[0\].seconds.unlearn: Expected `float` >= 0",
        ),
        (
            ("rows", 1, "metrics"),
            {},
            r"rows\[1\].metrics: Expected `object` of length >= 1",
        ),
        (
            (*METRIC, "std"),
            MISSING,
            r"forget_accuracy_test: Object missing required field `std`",
        ),
        (
            (*METRIC, "values", 3),
            float("nan"),
            r"rows\[1\].metrics.forget_accuracy_test.values\[3\]: must be finite",
        ),
        ((*METRIC, "values", 3), None, r"values\[3\]: Expected `float`, got `null`"),
        (
            (*METRIC, "values", 3),
            30.0,
            r"values\[3\]: must be a fraction in \[0, 1\], got 30.0",
        ),
        ((*METRIC, "values", 0), -0.1, r"values\[0\]: must be a fraction"),
        ((*METRIC, "mean"), 0.0, r"forget_accuracy_test.mean: must follow"),
        ((*METRIC, "std"), float("inf"), r"forget_accuracy_test.std: must be finite"),
    ],
)
def test_each_violation_is_named_by_its_path(document, path, value, message):
    broken = copy.deepcopy(document)
    place = broken
    for step in path[:-1]:
        place = place[step]
    if value is MISSING:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    with pytest.raises(ValueError, match=message):
        validate(broken)


@pytest.mark.parametrize("method", ["original", "retrain", "ceiling"])
def test_reference_rows_must_be_there(document, method):
    rows = [row for row in document["rows"] if row["method"] != method]
    lacking = {**document, "rows": rows}
    with pytest.raises(ValueError, match=f"lack the reference row '{method}'"):
        validate(lacking)
    validate(lacking, references=False)


def test_every_request_needs_its_own_references(document):
    rows = [*document["rows"], make_row("finetune", request="class 4")]
    with pytest.raises(ValueError, match="'original' for .* / class / class 4"):
        validate({**document, "rows": rows})


def test_written_documents_are_read_back(tmp_path, document):
    path = tmp_path / "runs" / "results.json"
    write(path, document)
    assert read(path) == document
    lines = path.read_text().splitlines()
    metrics = [metric for row in document["rows"] for metric in row["metrics"]]
    # A metric is a line of its own.
    assert sum('"values": [' in line for line in lines) == len(metrics)
    assert [file.name for file in path.parent.iterdir()] == ["results.json"]


def test_a_failed_write_leaves_the_old_file(tmp_path, document, monkeypatch):
    path = tmp_path / "results.json"
    write(path, document)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="schema"):
        write(path, {**document, "schema": 2})

    numbers, dumps = itertools.count(), json.dumps

    def fail(*arguments, **options):
        if next(numbers) == 20:
            raise OSError("disk full")
        return dumps(*arguments, **options)

    monkeypatch.setattr(json, "dumps", fail)
    with pytest.raises(OSError, match="disk full"):
        write(path, document)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["results.json"]


def test_files_that_are_no_results_are_named(tmp_path, document):
    path = tmp_path / "results.json"
    path.write_text('{"schema": 1')
    with pytest.raises(ValueError, match="results.json is not a results file"):
        read(path)
    path.write_text(json.dumps(document).replace("0.5", "NaN", 1))
    with pytest.raises(ValueError, match=r"not a results file: rows\[0\].*finite"):
        read(path)


def test_counts_and_date_are_kept(document):
    made = results_row(
        "x",
        [{"tow": 1.0}],
        dataset="d",
        model="m",
        scenario="s",
        request="r",
        access=None,
        seconds=None,
        num_forgotten=np.int64(3),
        num_train=10,
    )
    assert (made["num_forgotten"], made["num_train"]) == (3, 10)
    assert made["access"] is None and made["seconds"] is None
    whole = {**document, "rows": [made]}
    validate(whole, references=False)
    assert datetime.datetime.fromisoformat(document["date"]).tzinfo == datetime.UTC
    made["num_forgotten"] = -1
    with pytest.raises(
        ValueError, match=r"rows\[0\].num_forgotten: Expected `int` >= 0"
    ):
        validate(whole, references=False)
    assert "num_forgotten" not in document["rows"][0]


@pytest.mark.slow
@pytest.mark.parametrize(
    "path", sorted(RESULTS.glob("*.json")), ids=lambda path: path.stem
)
def test_committed_records_are_valid_and_written_as_they_stand(path, tmp_path):
    if "tier" in json.loads(path.read_text(encoding="utf-8")):
        write_audit(tmp_path / "again.json", read_audit(path))
    else:
        document = read(path, references=False)
        write(tmp_path / "again.json", document, references=False)
    assert (tmp_path / "again.json").read_bytes() == path.read_bytes()
