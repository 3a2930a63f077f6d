"""The page is whole, says what the document says, and asks nothing of the network."""

import html.parser
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from hyperforget_jax.base import Access
from hyperforget_jax.report import (
    figures,
    metric_summary,
    results_document,
    results_row,
    write_report,
)

HOSTILE = "<script>alert(1)</script> & \"x\" 'y' $\\frac{a}$ --> ]]> &amp; \x07 {0}"
ACCESS = {
    "retrain": Access(unlearn={"retain"}),
    "logit_mask": Access(unlearn={"classes"}),
    "finetune": Access(before={"probe"}, init={"forget"}, unlearn={"retain"}),
}
METHODS = ("finetune", "original", "logit_mask", "ceiling", "retrain")
VOID = {"meta", "link", "br", "img", "hr", "input"}


def make_row(method, seeds=5, request="class 3", **overrides):
    random = np.random.default_rng(METHODS.index(method) if method in METHODS else 9)
    metrics = [
        {
            "forget_accuracy_test": random.uniform(),
            "forget_accuracy_train": random.uniform(),
            "retain_accuracy_test": random.uniform(),
            "retain_accuracy_train": random.uniform(),
            "mia_auc": random.uniform(),
            "js_to_oracle": random.uniform(),
            "l2_to_oracle": random.uniform(),
            "tow": random.uniform(),
            "relearn_steps": float(random.integers(100)),
            "relearn_censored": 0.0,
        }
        for _ in range(seeds)
    ]
    row = results_row(
        method,
        metrics,
        dataset="digits",
        model="mlp",
        scenario="class",
        request=request,
        access=ACCESS.get(method, Access()),
        seconds={"init": 0.125, "unlearn": 0.75, "compile": 1.0},
    )
    return {**row, **overrides}


def make_document(rows, **overrides):
    document = results_document(
        rows,
        preset="digits",
        config={"forget": 3, "optimizer": {"rate": 0.001}, "seeds": [0, 1]},
        seconds=12.5,
        command="python experiments/quickstart.py --forget 3",
    )
    return {**document, **overrides}


def make_per_class():
    random = np.random.default_rng(0)
    per_class = {
        method: random.uniform(0.8, 1, (5, 10))
        for method in ("original", "finetune", "retrain")
    }
    per_class["retrain"][:, 3] = 0
    return per_class


def make_losses():
    random = np.random.default_rng(0)
    usual = {"forget": random.exponential(size=60), "test": random.exponential(size=20)}
    masked = {"forget": np.full(60, 1e4), "test": np.full(20, 1e9)}
    return {"finetune": usual, "logit_mask": masked, "original": usual}


class Page(html.parser.HTMLParser):
    """A page as its elements in order, and the text of each."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.unbalanced = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        element = {"tag": tag, "text": "", "attributes": dict(attributes)}
        element["inside"] = [parent["tag"] for parent in self.open]
        assert len(dict(attributes)) == len(attributes), f"{tag} repeats an attribute"
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if not self.open or self.open.pop()["tag"] != tag:
            self.unbalanced.append(tag)

    def handle_data(self, data):
        for element in self.open:
            element["text"] += data

    def all(self, *tags):
        return [element for element in self.elements if element["tag"] in tags]

    def table(self, heading):
        """The cells of the first table whose first heading is the given one."""
        tables, cells = [], []
        for element in self.all("table", "tr", "th", "td"):
            if element["tag"] == "table":
                cells = []
                tables.append(cells)
            elif element["tag"] == "tr":
                cells.append([])
            else:
                cells[-1].append(element["text"])
        return next(cells for cells in tables if cells[0][0] == heading)


@pytest.fixture(scope="module")
def document():
    return make_document([make_row(method) for method in METHODS])


@pytest.fixture(scope="module")
def text(tmp_path_factory, document):
    path = tmp_path_factory.mktemp("report") / "deep" / "report.html"
    write_report(
        path,
        document,
        losses=make_losses(),
        per_class=make_per_class(),
        title="A <title>",
    )
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(text):
    return Page(text)


def test_tags_are_balanced(page, text):
    assert page.unbalanced == []
    assert page.open == []
    assert text.startswith("<!DOCTYPE html>")
    assert page.all("html")[0]["attributes"]["lang"] == "en"
    assert {"charset": "utf-8"} in [meta["attributes"] for meta in page.all("meta")]
    names = [meta["attributes"].get("name") for meta in page.all("meta")]
    assert "viewport" in names
    assert page.all("title")[0]["text"] == "A <title>"


def check_self_contained(page, text):
    assert not page.all("script", "link", "iframe", "object", "embed", "img", "base")
    assert "://" not in text
    assert "@import" not in text
    assert "javascript:" not in text.lower()
    for reference in re.findall(r"url\(([^)]*)\)", text):
        assert reference.startswith("#")
    for element in page.elements:
        for name, value in element["attributes"].items():
            assert not name.startswith("on")
            if name in ("href", "src", "xlink:href", "data", "action", "srcset"):
                assert value.startswith("#")


def test_nothing_is_fetched_and_nothing_runs(page, text):
    check_self_contained(page, text)


def test_ids_are_unique_and_found(page, text):
    ids = [e["attributes"]["id"] for e in page.elements if "id" in e["attributes"]]
    assert len(ids) == len(set(ids)) > 10
    for name in re.findall(r'(?:href="#|url\(#)([^")]+)', text):
        assert name in ids


def test_headings_are_in_order(page):
    levels = [int(e["tag"][1]) for e in page.all("h1", "h2", "h3", "h4")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in zip(levels, levels[1:], strict=False))


def test_figures_and_tables_say_what_they_are(page):
    figures, captions = page.all("figure"), page.all("figcaption")
    assert len(figures) == len(captions) == 3
    assert all(caption["inside"][-1] == "figure" for caption in captions)
    assert all(len(caption["text"]) > 20 for caption in captions)
    drawings = page.all("svg")
    # The trade-off; a panel for every method but the original; one for every loss.
    assert len(drawings) == 1 + 2 + 3
    for drawing in drawings:
        assert drawing["attributes"]["role"] == "img"
        assert len(drawing["attributes"]["aria-label"]) > 10
        assert "figure" in drawing["inside"]
    assert len(page.all("table")) == len(page.all("caption")) == 4
    assert all("scope" in head["attributes"] for head in page.all("th"))


def test_labels_are_text_and_colours_are_the_page_s(page, text):
    labels = {element["text"] for element in page.all("text")}
    assert {"finetune", "retrain", "original", "logit_mask"} <= labels
    assert not re.search(r'style="[^"]*#[0-9a-f]{6}', text)
    assert set(re.findall(r"var\((--\w+)\)", text)) <= set(
        re.findall(r"(--\w+):", text)
    )


def test_the_table_holds_the_document_s_numbers(page, document):
    head, *lines = page.table("Method")
    assert [line[0].split("before")[0].split("the ")[0] for line in lines[:2]] == [
        "original",
        "retrain",
    ]
    assert lines[2][0].startswith("ceiling")
    assert [line[0] for line in lines[3:]] == ["finetune", "logit_mask"]
    columns = (
        ("Forget accuracy, test", "forget_accuracy_test", 3, "max"),
        ("Forget accuracy, train", "forget_accuracy_train", 3, "max"),
        ("Retain accuracy, test", "retain_accuracy_test", 3, "min"),
        ("Retain accuracy, train", "retain_accuracy_train", 3, "min"),
        ("MIA AUC", "mia_auc", 3, None),
        ("JS to oracle", "js_to_oracle", 4, "max"),
        ("L2 to oracle", "l2_to_oracle", 3, "max"),
        ("ToW", "tow", 3, "min"),
        ("Relearn steps", "relearn_steps", 1, "min"),
    )
    rows = {row["method"]: row for row in document["rows"]}
    for line in lines:
        row = next(row for name, row in rows.items() if line[0].startswith(name))
        for cell, (_, name, digits, worst) in zip(line[1:], columns, strict=False):
            metric = row["metrics"][name]
            expected = f"{metric['mean']:.{digits}f} ± {metric['std']:.{digits}f}"
            if worst:
                expected += f"worst {metric[worst]:.{digits}f}"
            assert cell == expected
        assert line[-1] == "0.75init 0.125"
    for cell, (heading, *_) in zip(head[1:], columns, strict=False):
        assert cell.startswith(heading)
    assert head[1].endswith("target 0")
    retrain = rows["retrain"]["metrics"]
    assert head[3].endswith(f"retrain {retrain['retain_accuracy_test']['mean']:.3f}")
    ceiling = rows["ceiling"]["metrics"]
    assert head[6].endswith(f"ceiling {ceiling['js_to_oracle']['mean']:.4f}")


def test_references_are_set_apart(page):
    bodies = [body["attributes"].get("class") for body in page.all("tbody")]
    assert bodies[:2] == ["references", "methods"]


def test_access_is_told_phase_by_phase(page):
    tables = page.all("table")
    head, *lines = next(
        cells
        for cells in (page_table(page, table) for table in tables)
        if cells[0] == ["Method", "Before", "At init", "At unlearn"]
    )
    told = {line[0]: line[1:] for line in lines}
    assert told["finetune"] == ["probe", "forget", "retain"]
    assert told["logit_mask"] == ["nothing", "nothing", "classes"]
    assert told["original"] == ["nothing", "nothing", "nothing"]
    assert set(told) == set(METHODS)
    for word in ("probe", "forget", "retain", "classes"):
        assert any(f"{word}: " in caption["text"] for caption in page.all("caption"))


def page_table(page, table):
    cells = []
    for element in page.elements[page.elements.index(table) + 1 :]:
        if element["tag"] == "table":
            break
        if element["tag"] == "tr":
            cells.append([])
        elif element["tag"] in ("th", "td"):
            cells[-1].append(element["text"])
    return cells


def test_provenance_is_told(page, document):
    facts = {line[0]: line[1] for line in page.table("The run")}
    assert facts["Command"] == document["command"]
    assert facts["Preset"] == "digits"
    assert document["commit"] in facts["Commit"]
    assert facts["Device"] == document["device"]
    assert f"jax {document['versions']['jax']}" in facts["Versions"]
    assert facts["Seconds in all"] == "12.5"
    settings = {line[0]: line[1] for line in page.table("Setting")}
    assert settings["forget"] == "3"
    assert settings["optimizer.rate"] == "0.001"
    assert settings["seeds"] == "[0, 1]"


@pytest.mark.parametrize(
    "dirty, said", [(True, "not committed"), (False, ""), ("unknown", "unknown")]
)
def test_changes_to_the_code_are_told(tmp_path, dirty, said):
    rows = [make_row(method) for method in METHODS]
    write_report(tmp_path / "r.html", make_document(rows, dirty=dirty, commit="c0ffee"))
    page = Page((tmp_path / "r.html").read_text())
    commit = dict(line[:2] for line in page.table("The run"))["Commit"]
    assert commit.startswith("c0ffee")
    assert said in commit.removeprefix("c0ffee")
    assert bool(said) == (commit != "c0ffee")


def test_the_forgotten_class_is_marked_and_clipping_is_told(page):
    captions = [caption["text"] for caption in page.all("figcaption")]
    assert any("forgotten class is shaded" in caption for caption in captions)
    assert any("from 100 nats up: logit_mask (100 %)" in text for text in captions)


def test_hostile_text_is_only_text(tmp_path):
    rows = [make_row(method) for method in ("original", "retrain", "ceiling")]
    rows.append(make_row(HOSTILE, factors={HOSTILE: HOSTILE}))
    rows = [{**row, "dataset": HOSTILE, "request": HOSTILE} for row in rows]
    document = make_document(
        rows,
        command=HOSTILE,
        preset=HOSTILE,
        device=HOSTILE,
        versions={HOSTILE: HOSTILE},
        config={HOSTILE: HOSTILE, "inner": {HOSTILE: [HOSTILE]}},
    )
    path = tmp_path / "report.html"
    write_report(
        path,
        document,
        title=HOSTILE,
        losses={HOSTILE: make_losses()["finetune"]},
        per_class={HOSTILE: np.full((2, 3), 0.5)},
    )
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert page.unbalanced == page.open == []
    check_self_contained(page, text)
    assert page.all("title")[0]["text"] == HOSTILE
    assert any(line[0].startswith(HOSTILE) for line in page.table("Method"))
    assert dict(line[:2] for line in page.table("The run"))["Command"] == HOSTILE
    assert ["inner." + HOSTILE] == [
        line[0] for line in page.table("Setting") if line[0].startswith("inner")
    ]


def test_equal_arguments_give_equal_files(tmp_path, text, document):
    # Other figures may have been drawn in between.
    options = {"losses": make_losses(), "per_class": make_per_class()}
    for name in ("a.html", "b.html"):
        write_report(tmp_path / name, document, title="A <title>", **options)
        assert (tmp_path / name).read_text(encoding="utf-8") == text


def test_a_failed_write_leaves_the_old_page(tmp_path, document, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("old")

    def fail(*arguments):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_report(path, document)
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


def test_what_is_not_given_is_left_out(tmp_path, document):
    write_report(tmp_path / "report.html", document)
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    headings = [heading["text"] for heading in page.all("h2")]
    assert not any("class by class" in heading for heading in headings)
    assert "Losses" not in headings
    assert len(page.all("figure")) == 1


def test_missing_metrics_leave_their_column_out(tmp_path):
    rows = [make_row(method) for method in METHODS]
    for row in rows:
        del row["metrics"]["forget_accuracy_test"], row["metrics"]["l2_to_oracle"]
    del rows[0]["metrics"]["tow"]
    write_report(tmp_path / "report.html", make_document(rows))
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    head, *lines = page.table("Method")
    assert not any(cell.startswith(("Forget accuracy, test", "L2")) for cell in head)
    finetune = next(line for line in lines if line[0] == "finetune")
    tow = next(i for i, cell in enumerate(head) if cell.startswith("ToW"))
    assert finetune[tow] == "–"
    # The trade-off falls back on the training split.
    assert any("forget accuracy, train" in e["text"] for e in page.all("text"))


def test_several_requests_have_a_table_each(tmp_path):
    rows = [make_row(method) for method in METHODS]
    rows += [make_row(method, request="class 4") for method in METHODS]
    path = tmp_path / "report.html"
    options = {"per_class": make_per_class()}
    write_report(path, make_document(rows), request="class 4", **options)
    page = Page(path.read_text(encoding="utf-8"))
    assert [heading["text"] for heading in page.all("h3")] == [
        "digits / mlp / class / class 3",
        "digits / mlp / class / class 4",
    ]
    kinds = [table["attributes"]["class"] for table in page.all("table")]
    assert kinds.count("numbers") == 2
    headings = [heading["text"] for heading in page.all("h2")]
    assert "Accuracy class by class of class 4" in headings
    ids = [e["attributes"]["id"] for e in page.elements if "id" in e["attributes"]]
    assert len(ids) == len(set(ids))


def test_censored_relearning_and_single_values(tmp_path):
    rows = [make_row(method, seeds=1) for method in METHODS]
    rows[0]["metrics"]["relearn_censored"] = metric_summary([1.0])
    path = tmp_path / "report.html"
    with pytest.raises(ValueError, match="n=1 training seeds"):
        write_report(path, make_document(rows))
    assert not path.exists()
    write_report(path, make_document(rows), min_seeds=1)
    page = Page(path.read_text(encoding="utf-8"))
    head, *lines = page.table("Method")
    finetune = next(line for line in lines if line[0] == "finetune")
    steps = rows[0]["metrics"]["relearn_steps"]["mean"]
    assert finetune[head.index(next(c for c in head if "steps" in c))] == (
        f"≥ {steps:.1f}"
    )
    assert any("A smoke run" in p["text"] for p in page.all("p"))


def test_no_page_without_references(tmp_path):
    rows = [make_row(method) for method in METHODS if method != "ceiling"]
    with pytest.raises(ValueError, match="lack the reference row 'ceiling'"):
        write_report(tmp_path / "report.html", make_document(rows))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"per_class": {"a": np.zeros(3)}}, r"per_class\['a'\] .* shape \(3,\)"),
        ({"per_class": {"a": np.full((1, 2), np.nan)}}, r"must be finite"),
        (
            {"per_class": {"a": np.zeros((1, 2)), "b": np.zeros((1, 3))}},
            "one C for all",
        ),
        (
            {"losses": {"a": {"forget": np.zeros(2), "test": np.zeros(0)}}},
            r"losses\['a'\]\['test'\] .* shape \(0,\)",
        ),
        (
            {"losses": {"a": {"forget": np.array([np.nan]), "test": np.zeros(1)}}},
            r"losses\['a'\]\['forget'\]",
        ),
    ],
)
def test_arrays_that_cannot_be_drawn_are_named(tmp_path, document, options, message):
    with pytest.raises(ValueError, match=message):
        write_report(tmp_path / "report.html", document, **options)
    assert list(tmp_path.iterdir()) == []


def test_masked_losses_of_infinity_are_counted_in_the_last_bar(tmp_path, document):
    losses = {"a": {"forget": np.array([np.inf, 1.0]), "test": np.zeros(2)}}
    write_report(tmp_path / "report.html", document, losses=losses)
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert any("a (25 %)" in e["text"] for e in page.all("figcaption"))


def test_matplotlib_is_imported_late_and_left_as_it_was():
    program = (
        "import sys, hyperforget_jax.report\n"
        "assert 'matplotlib' not in sys.modules\n"
        "import matplotlib\n"
        "def settings():\n"
        "    names = set(matplotlib.rcParams) - {'backend'}  # Reading it picks one.\n"
        "    return {name: matplotlib.rcParams[name] for name in names}\n"
        "before = settings()\n"
        "from hyperforget_jax.report import figures\n"
        "figures.trade_off([figures.Point('retrain', (0, 0), (1, 0))], id='a',\n"
        "    description='b', x_label='x', y_label='y')\n"
        "assert settings() == before\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def test_labels_of_a_crowd_do_not_overlap():
    random = np.random.default_rng(0)
    points = [
        figures.Point(f"method {i}", (0.01 * random.uniform(), 0.01), (0.9, 0.01))
        for i in range(12)
    ]
    points.append(figures.Point("retrain", (0.0, 0.0), (0.9, 0.0), True))
    drawing = figures.trade_off(points, id="a", description="b", x_label="", y_label="")
    names = {point.label for point in points}
    heights = [
        float(element["attributes"]["y"])
        for element in Page(drawing).all("text")
        if element["text"] in names
    ]
    assert len(heights) == len(points)
    assert np.min(np.diff(np.sort(heights))) > 10
