"""No table without what its numbers are read against."""

import io

import pytest
import rich.console

from hyperforget_jax.base import Access
from hyperforget_jax.report import metric_summary, results_row, table


def make_row(method, seeds=5, request="class 3", name="forget_accuracy_test"):
    metrics = [
        {
            name: 0.1 * seed,
            "retain_accuracy_test": 0.9 + 0.01 * seed,
            "mia_auc": 0.5,
            "js_to_oracle": 0.02,
            "relearn_steps": 10.0 + seed,
        }
        for seed in range(seeds)
    ]
    return results_row(
        method,
        metrics,
        dataset="digits",
        model="mlp",
        scenario="class",
        request=request,
        access=Access(),
        seconds={"init": 0.0, "unlearn": 0.25, "compile": 1.0},
    )


REFERENCES = [make_row(method) for method in ("original", "retrain", "ceiling")]


def text_of(made):
    console = rich.console.Console(file=io.StringIO(), width=250)
    console.print(made)
    return console.file.getvalue()


def test_means_spreads_and_worst_values_are_shown():
    text = text_of(table([*REFERENCES, make_row("finetune[1]")]))
    lines = text.splitlines()
    first = next(i for i, line in enumerate(lines) if "finetune[1]" in line)
    # Three lines a method, so that a terminal of 80 columns shows them all.
    line = " ".join(" ".join(lines[first : first + 3]).split())
    # 0, 0.1 ... 0.4: mean 0.2, sample standard deviation 0.158; the worst is 0.4.
    assert "finetune[1] 0.200 0.920 0.500 0.020 – 12.0 0.25" in line
    assert "±0.158 ±0.016 ±0.000 ±0.000 ±1.6" in line
    assert "(0.400) (0.900) (0.020) (10.0)" in line
    assert "–" in line
    assert "0.25" in line
    assert "target 0 on test" in text
    assert "forget accuracy, train" not in text
    assert "request" not in text.splitlines()[1]


def test_row_requests_show_the_train_split():
    rows = [
        make_row(method, name="forget_accuracy_train")
        for method in ("original", "retrain", "ceiling")
    ]
    made = table(rows)
    headings = [column.header for column in made.columns]
    assert "forget accuracy, train (max)" in headings
    assert "forget accuracy, test (max)" not in headings
    assert "target retrain's." in made.caption


def test_several_requests_are_told_apart():
    methods = ("original", "retrain", "ceiling")
    rows = [*REFERENCES, *(make_row(method, request="class 4") for method in methods)]
    made = table(rows)
    assert made.columns[0].header == "request"
    assert made.row_count == 6


@pytest.mark.parametrize("method", ["original", "retrain", "ceiling"])
def test_no_table_without_references(method):
    rows = [row for row in REFERENCES if row["method"] != method]
    with pytest.raises(ValueError, match=f"lack the reference row '{method}'"):
        table(rows)
    with pytest.raises(ValueError, match="there are none"):
        table([])


def test_no_table_with_few_oracles_unless_asked():
    rows = [make_row(row["method"], seeds=2) for row in REFERENCES]
    with pytest.raises(ValueError, match="n=2 training seeds .* fewer than 5"):
        table(rows)
    assert table(rows, min_seeds=2).row_count == 3


def test_censored_relearning_is_marked():
    row = make_row("finetune")
    row["metrics"]["relearn_censored"] = metric_summary([0, 0, 0, 0, 1])
    text = text_of(table([*REFERENCES, row]))
    line = next(line for line in text.splitlines() if "finetune" in line)
    assert "≥ 12.0" in line
