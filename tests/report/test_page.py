"""The page is whole, says what the document says, and asks nothing of the network."""

import html.parser
import itertools
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from hyperforget_jax.base import Access
from hyperforget_jax.report import (
    figures,
    metric_summary,
    results_document,
    results_row,
    verdict,
    write_report,
)
from hyperforget_jax.report.verdicts import RULES

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

    def table(self, heading, number=0):
        """The cells of a table whose first heading is the given one."""
        tables, cells = [], []
        for element in self.all("table", "tr", "th", "td"):
            if element["tag"] == "table":
                cells = []
                tables.append(cells)
            elif element["tag"] == "tr":
                cells.append([])
            else:
                cells[-1].append(element["text"])
        return [cells for cells in tables if cells[0][0] == heading][number]


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
    assert not page.all("script", "link", "iframe", "object", "embed", "base")
    assert all(e["attributes"]["src"].startswith("data:") for e in page.all("img"))
    policy = next(m for m in page.all("meta") if "http-equiv" in m["attributes"])
    assert policy["attributes"]["content"] == (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    )
    assert "://" not in text
    assert "@import" not in text
    assert "javascript:" not in text.lower()
    for reference in re.findall(r"url\(([^)]*)\)", text):
        assert reference.startswith("#")
    for element in page.elements:
        for name, value in element["attributes"].items():
            assert not name.startswith("on")
            if name in ("href", "xlink:href", "data", "action", "srcset"):
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
        ("JS to retrained", "js_to_oracle", 4, "max"),
        ("L2 to retrained", "l2_to_oracle", 3, "max"),
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
    assert facts["Device"] == document["device"].replace("cpu (cpu)", "CPU")
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


def test_what_is_not_known_is_left_out(tmp_path):
    rows = [make_row(method) for method in METHODS]
    document = make_document(rows, preset="", commit="unknown", timed="evaluation")
    write_report(tmp_path / "r.html", document)
    page = Page((tmp_path / "r.html").read_text())
    told = [line[0] for line in page.table("The run")]
    assert told[1:4] == ["Date", "Command", "Device"]
    assert told[4:] == ["Seconds of evaluation", "Versions"]


def test_the_forgotten_class_is_marked(page):
    captions = [caption["text"] for caption in page.all("figcaption")]
    assert any("forgotten class is shaded" in caption for caption in captions)


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
    write_report(path, make_document(rows), **options)
    page = Page(path.read_text(encoding="utf-8"))
    assert [heading["text"] for heading in page.all("h3")] == [
        "digits / mlp / class / class 3",
        "digits / mlp / class / class 4",
    ]
    kinds = [table["attributes"]["class"] for table in page.all("table")]
    assert kinds.count("numbers") == 2
    headings = [heading["text"] for heading in page.all("h2")]
    assert "Accuracy class by class of one of the requests" in headings
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
        ({"per_class": {"a": np.full((1, 2), np.nan)}}, r"of numbers in \[0, 1\]"),
        (
            {"per_class": {"a": np.zeros((1, 2)), "b": np.zeros((1, 3))}},
            "one C, in",
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


def test_losses_beyond_the_axis_are_in_the_outer_bars():
    options = {"id": "a", "description": "b", "title": "c"}
    beyond = figures.losses(np.array([np.inf, 0.0]), np.array([1e9, 1e-9]), **options)
    within = np.array([99.0, 1.1e-6])
    assert beyond == figures.losses(within, within, **options)


@pytest.mark.slow
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
    points = [
        figures.Point(f"method {i} of a long name", (1e-4 * i, 0.01), (0.9, 0.01), i)
        for i in range(14)
    ]
    points.append(figures.Point("retrain", (0.0, 0.0), (0.9, 0.0)))
    with figures.canvas("a", *figures.trade_off_size(points)) as (figure, axes):
        legend = figures.draw_points(axes, points)
        renderer = FigureCanvasAgg(figure).get_renderer()
        figure.draw(renderer)
    boxes = [text.get_window_extent(renderer) for text in legend.get_texts()]
    assert [text.get_text() for text in legend.get_texts()] == [p.label for p in points]
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    # Nor do they cover a point, or leave the figure.
    assert not any(box.overlaps(axes.get_window_extent(renderer)) for box in boxes)
    for box in boxes:
        assert figure.bbox.x1 >= box.x1 and figure.bbox.y0 <= box.y0
        assert box.y1 <= figure.bbox.y1


def test_where_methods_crowd_a_second_panel_enlarges(tmp_path):
    def row(method, x, y):
        made = make_row(method)
        for name, value in (("forget_accuracy_test", x), ("retain_accuracy_test", y)):
            made["metrics"][name] = metric_summary([value] * 5)
        return made

    far = [row("original", 0.9, 0.98), row("ssd", 0.0, 0.5)]
    near = [row("retrain", 0.0, 0.98), row("ceiling", 0.0, 0.98), row("a", 0.01, 0.97)]
    write_report(tmp_path / "r.html", make_document([*far, *near, row("b", 0.0, 0.98)]))
    drawings = Page((tmp_path / "r.html").read_text(encoding="utf-8")).all("svg")
    whole, enlarged = (drawing["text"] for drawing in drawings)
    assert all(name in whole for name in ("original", "ssd", "retrain", "a", "b"))
    assert "ssd" not in enlarged and "retrain" in enlarged and "near" in enlarged


def test_the_page_opens_with_a_verdict_a_method(page, document):
    headings = [e["text"] for e in page.all("h1", "h2")]
    assert headings[1] == "In short"
    said = page.all("dt", "dd")[:4]
    assert [e["text"] for e in said[::2]] == ["finetune", "logit_mask"]
    rows = {row["method"]: row for row in document["rows"]}
    for name, text in zip(("finetune", "logit_mask"), said[1::2], strict=True):
        assert text["text"] == str(verdict(rows[name], rows))
    folded = next(e for e in page.all("details") if "verdicts are made" in e["text"])
    assert all(rule in folded["text"] for rule in RULES)


def test_several_requests_are_counted(tmp_path):
    rows = [make_row(m, request=r) for m in METHODS for r in ("class 3", "class 4")]
    write_report(tmp_path / "r.html", make_document(rows))
    page = Page((tmp_path / "r.html").read_text(encoding="utf-8"))
    first = page.all("dd")[0]["text"]
    references = {row["method"]: row for row in rows}
    headline = verdict(references["finetune"], references).headline
    assert first == f"{headline.lower()} in 2 of 2 requests."


def test_what_was_asked_when_and_how_is_told(tmp_path):
    counts = {"num_forgotten": 143, "num_train": 1437}
    rows = [make_row(method, **counts) for method in METHODS]
    document = make_document(rows, date="2026-11-29T10:00:00+00:00")
    write_report(tmp_path / "r.html", document)
    first = Page((tmp_path / "r.html").read_text(encoding="utf-8")).all("p")[0]["text"]
    first = " ".join(first.split())
    assert "class 3: 143 of 1,437 training rows of digits" in first
    assert "2026-11-29 at 10:00:00 UTC" in first
    assert "python experiments/quickstart.py --forget 3" in first
    # Records of before have neither.
    del document["date"]
    for row in document["rows"]:
        del row["num_forgotten"], row["num_train"]
    write_report(tmp_path / "r.html", document)
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "does not say how many training rows" in text
    assert "at a time the record does not say" in text


def test_checks_are_not_methods(tmp_path):
    rows = [make_row(method) for method in (*METHODS, "ablation/longer")]
    write_report(tmp_path / "r.html", make_document(rows))
    page = Page((tmp_path / "r.html").read_text(encoding="utf-8"))
    assert "ablation/longer" not in [e["text"] for e in page.all("dt")]
    bodies = [e for e in page.all("tbody") if "class" in e["attributes"]]
    kinds = [body["attributes"]["class"] for body in bodies]
    assert kinds == ["references", "methods", "checks"]
    assert "ablation/longer" in bodies[2]["text"]
    assert "no methods" in bodies[2]["text"]
    assert not any("ablation" in drawing["text"] for drawing in page.all("svg"))


def test_pictures_are_images_and_nothing_else(tmp_path, document):
    png = b"\x89PNG\r\n\x1a\n" + b"0" * 20
    svg = '<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
    pictures = [("Before", HOSTILE, png), (HOSTILE, "an SVG", svg)]
    write_report(tmp_path / "r.html", document, pictures=pictures)
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    page = Page(text)
    check_self_contained(page, text)
    assert page.unbalanced == page.open == []
    first, second = page.all("img")
    assert first["attributes"]["src"].startswith("data:image/png;base64,")
    assert second["attributes"]["src"].startswith("data:image/svg+xml;base64,")
    assert first["attributes"]["alt"] == f"Before: {HOSTILE}"
    with pytest.raises(ValueError, match="'a' must be a PNG or an SVG"):
        write_report(tmp_path / "r.html", document, pictures=[("a", "", "<html>")])


def test_a_document_without_references_is_shown_and_says_so(tmp_path):
    row = make_row("mine", seeds=1)
    for name in ("js_to_oracle", "l2_to_oracle", "tow"):
        del row["metrics"][name]
    document = make_document([{**row, "access": None, "seconds": None}])
    with pytest.raises(ValueError, match="lack the reference row"):
        write_report(tmp_path / "r.html", document)
    write_report(tmp_path / "r.html", document, references=False)
    page = Page((tmp_path / "r.html").read_text(encoding="utf-8"))
    assert page.unbalanced == page.open == []
    text = " ".join(page.all("main")[0]["text"].split())
    assert "No model was retrained" in text
    assert "its spread is unknown" in text
    assert "Not stated: mine." in text
