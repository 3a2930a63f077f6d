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
    assert "train" not in text.split("retrain")[0]
    assert "request" not in text.splitlines()[1]


def test_row_requests_show_the_train_split():
    rows = [
        make_row(method, name="forget_accuracy_train")
        for method in ("original", "retrain", "ceiling")
    ]
    made = table(rows)
    headings = [column.header for column in made.columns]
    assert "Forget\naccuracy\ntrain\n(max)" in headings
    assert "Forget\naccuracy\ntest\n(max)" not in headings
    assert "target retrain's." in made.caption


def test_several_requests_are_told_apart():
    methods = ("original", "retrain", "ceiling")
    rows = [*REFERENCES, *(make_row(method, request="class 4") for method in methods)]
    lines = [line.strip() for line in text_of(table(rows)).splitlines()]
    # Only what tells them apart is said, above the rows that it belongs to.
    assert lines.index("class 3") < lines.index("class 4")
    assert sum(line.startswith("retrain ") for line in lines) == 2


def test_ablations_come_last_and_apart():
    rows = [
        REFERENCES[0],
        make_row("ablation/longer"),
        *REFERENCES[1:],
        make_row("ssd"),
    ]
    lines = text_of(table(rows)).splitlines()
    names = [line.split()[0] for line in lines if line.strip()]
    order = ["original", "retrain", "ceiling", "ssd", "ablation/longer"]
    assert [name for name in names if name in order] == order
    assert "ablation/ check the comparison" in " ".join(" ".join(lines).split())


@pytest.mark.parametrize("names", [("forget_accuracy_test",), None])
@pytest.mark.parametrize("method", ["ssd", "a-method/of-a-very-long-name, repaired"])
def test_no_heading_and_no_number_is_cut_at_80_columns(names, method):
    rows = [*REFERENCES, make_row(method)]
    if names is None:  # Of both kinds of requests: then there is a column more.
        name = "forget_accuracy_train"
        more = ("original", "retrain", "ceiling", method)
        rows += [make_row(each, request="9 rows", name=name) for each in more]
    for row in rows:
        row["metrics"]["relearn_steps"] = metric_summary([100.0, 123.4, 99.0, 1, 100])
        row["metrics"]["relearn_censored"] = metric_summary([1.0] * 5)
        row["metrics"]["tow"] = metric_summary([0.5] * 5)
        row["seconds"]["unlearn"] = 2.2e-5
    console = rich.console.Console(file=io.StringIO(), width=80)
    console.print(table(rows))
    text = console.file.getvalue()
    assert "…" not in text
    words = set(text.split())
    headings = (
        "Method Forget Retain accuracy test MIA AUC JS to retrained ToW Relearn steps"
    )
    assert {*headings.split(), "Seconds", "(max)", "(min)"} <= words
    assert {"0.200", "±0.158", "(0.400)", "84.7", "2.2e-05", "±0.000"} <= words
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("method", ["original", "retrain", "ceiling"])
def test_no_table_without_references(method):
    rows = [row for row in REFERENCES if row["method"] != method]
    with pytest.raises(ValueError, match=f"lack the reference row '{method}'"):
        table(rows)
    with pytest.raises(ValueError, match="there are none"):
        table([])


def test_no_table_with_few_retrained_models_unless_asked():
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
