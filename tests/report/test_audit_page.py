"""The page of audits is whole, says what its record says, and asks for nothing."""

import pytest

from hyperforget_jax.audits import Audited
from hyperforget_jax.report import audit_verdict, write_audit, write_audit_page
from hyperforget_jax.report.audit_verdicts import AUDIT_RULES
from tests import scripts
from tests.report import audit_samples as samples
from tests.report.test_page import HOSTILE, Page, check_self_contained

CLASS = {"scenario": "class", "request": "class 3"}


def sample():
    told = samples.judgement(
        0.4, ("u-lira", "klom"), **{"u-lira": {"interval": (0.61, 0.71)}}
    )
    probe = Audited("probe", 0.75, floor=0.25, original=0.95)
    whole = samples.judgement(1.0, samples.NAMES)
    return [
        samples.row("identity", whole, shift=3, curves=False, **CLASS),
        samples.row("finetune", told, shift=1, more=[probe], **CLASS),
        samples.row("retrain", curves=False, access=None, **CLASS),
        samples.row("finetune"),
    ]


@pytest.fixture(scope="module")
def document():
    return samples.document(sample())


@pytest.fixture(scope="module")
def text(tmp_path_factory, document):
    path = tmp_path_factory.mktemp("audit") / "deep" / "audit.html"
    write_audit_page(path, document)
    assert [file.name for file in path.parent.iterdir()] == ["audit.html"]
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(text):
    return Page(text)


def flat(element):
    return " ".join(element["text"].split())


def test_the_page_is_well_formed_and_fetches_nothing(page, text):
    assert page.unbalanced == page.open == []
    check_self_contained(page, text)
    ids = [e["attributes"]["id"] for e in page.elements if "id" in e["attributes"]]
    assert len(ids) == len(set(ids)) > 2
    levels = [int(e["tag"][1]) for e in page.all("h1", "h2", "h3")]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all("scope" in head["attributes"] for head in page.all("th"))
    # Wide tables scroll in a box of their own.
    assert all("div" in table["inside"] for table in page.all("table"))


def test_it_opens_with_a_verdict_a_method_and_scenario(page, document):
    headings = [e["text"] for e in page.all("h1", "h2", "h3")]
    assert headings[1:4] == ["In short", "class 3", "random: 2 % of the rows"]
    rows = document["rows"]
    said = page.all("dt", "dd")[: 2 * len(rows)]
    assert [e["text"] for e in said[::2]] == [row["method"] for row in rows]
    assert [e["text"] for e in said[1::2]] == [str(audit_verdict(row)) for row in rows]
    folded = next(e for e in page.all("details") if "verdicts are made" in e["text"])
    assert all(rule in folded["text"] for rule in AUDIT_RULES)
    assert "the level is 0.05" in folded["text"]


def test_each_audit_stands_beside_its_floor_and_the_original_s(page):
    head, *lines = page.table("Method")
    assert head[1:] == list(samples.NAMES)
    assert [line[0] for line in lines] == ["identity", "finetune", "retrain"]
    ulira = head.index("u-lira")
    found = "0.660[0.610, 0.710]floor 0.500original 0.900p 0.005"
    assert lines[1][ulira] == f"● {found}"
    assert lines[2][ulira] == "0.500floor 0.500original 0.900p 0.600"
    head, *lines = page.table("Method", 1)
    assert head[1:] == ["1 - forgetting score", "epsilon, lower bound", "probe"]
    assert lines[0][1:] == ["–", "0.000", "–"]
    assert lines[1][1:] == ["–", "0.000", "0.750floor 0.250original 0.950"]
    told = [e for e in page.all("td") if e["attributes"].get("class") == "accused"]
    assert len(told) == len(samples.NAMES) + 2
    assert all(cell["text"].startswith("●") for cell in told)
    notes = [flat(e) for e in page.all("p") if e["attributes"].get("class") == "notes"]
    assert notes[0] == (
        "1 - forgetting score: needs 32 models. epsilon, lower bound: 3.53 at the most."
    )


def test_utility_stands_beside_the_references(page):
    head, *lines = page.table("Models")
    assert head[1:] == ["Forget accuracy, train", "Retain accuracy, test", "Seconds"]
    assert [line[0].split("before")[0].split("the ")[0] for line in lines] == [
        *("original", "retrained", "identity", "finetune", "retrain")
    ]
    assert lines[0][2] == "0.980 ± 0.0000.980 to 0.980"
    assert lines[3][1:] == ["0.960 ± 0.0000.960 to 0.960", lines[1][2], "0.25"]


def test_curves_and_histograms_are_drawn_once_each(page, document):
    drawn = sum(len(row["histograms"]) for row in document["rows"])
    assert len(page.all("svg")) == 2 + drawn == 4
    assert all(len(e["attributes"]["aria-label"]) > 10 for e in page.all("svg"))
    labels = [element["text"] for element in page.all("text")]
    assert {"lira", "finetune", "finetune, example 7", "0.001", "1"} <= set(labels)
    assert not any("$" in label for label in labels)
    captions = " ".join(flat(e) for e in page.all("figcaption"))
    count = samples.SIDE * samples.EXAMPLES
    assert f"below 1/{count} = {1 / count:.2g} cannot be resolved" in captions
    assert "Both axes are logarithmic" in captions


def test_how_many_which_command_which_commit_and_when(page, document):
    first = flat(page.all("p")[0])
    assert "128 a side" in first and "2 requests on digits with mlp" in first
    assert document["command"] in first and "commit c0ffee" in first
    assert "2026-11-29 at 10:00:00 UTC" in first
    sizes = [flat(e) for e in page.all("p") if "24 examples" in e["text"]]
    assert sizes == 2 * [
        "128 original, 256 retrained, 128 unlearned models, 128 a side; 24 examples."
    ]
    facts = {line[0]: line[1] for line in page.table("The run")}
    assert facts["Preset"] == "digits" and facts["Commit"] == "c0ffee"
    assert dict(line[:2] for line in page.table("Setting")) == {
        "Setting": "Value",
        "members": "128",
    }
    assert "Not stated: retrain." in [flat(e) for e in page.all("p")]
    headings = [e["text"] for e in page.all("h2")]
    assert "What this page does not show" in headings


def test_equal_records_give_equal_pages(tmp_path, text, document):
    write_audit_page(tmp_path / "a.html", document)
    assert (tmp_path / "a.html").read_text(encoding="utf-8") == text


def test_a_smoke_run_says_so_and_what_is_not_there_is_left_out(tmp_path, text):
    assert "smoke" not in text
    row = samples.row("mine", curves=False, metrics={}, reference_metrics={})
    document = samples.document([row], tier="smoke", dirty=True)
    write_audit_page(tmp_path / "a.html", document)
    page = Page((tmp_path / "a.html").read_text(encoding="utf-8"))
    assert page.unbalanced == page.open == page.all("svg", "figure") == []
    assert "A small run" in page.all("main")[0]["text"]
    assert "1 request on digits" in flat(page.all("p")[0])


def test_hostile_text_is_only_text(tmp_path):
    names = dict.fromkeys(("scenario", "request", "dataset", "model"), HOSTILE)
    rows = [samples.row(HOSTILE, **names)]
    rows[0]["audits"][-1]["note"] = HOSTILE
    rows[0]["roc"][0]["attack"] = HOSTILE
    rows[0]["metrics"] |= samples.spread(**{HOSTILE: 1.0})
    document = samples.document(rows, command=HOSTILE, config={HOSTILE: HOSTILE})
    write_audit_page(tmp_path / "a.html", document, title=HOSTILE)
    text = (tmp_path / "a.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.unbalanced == page.open == []
    check_self_contained(page, text)
    assert page.all("title")[0]["text"] == HOSTILE


def test_a_record_that_is_none_leaves_the_old_page(tmp_path, document):
    path = tmp_path / "a.html"
    path.write_text("old")
    with pytest.raises(ValueError, match="tier: Invalid enum value 'huge'"):
        write_audit_page(path, document | {"tier": "huge"})
    assert path.read_text() == "old"


def test_the_docs_have_the_record_s_tables(tmp_path, document):
    (tables,) = scripts.load("tables.audits")
    assert tables.results(tmp_path) == "There is no record of audits yet.\n"
    write_audit(tmp_path / "audit-digits.json", document)
    text = tables.results(tmp_path)
    lines = text.splitlines()
    assert lines[0] == "## digits"
    assert "(../experiments/results/audit-digits.json)" in text
    assert [line for line in lines if line.startswith("###")] == [
        "### class 3",
        "### random: 2 % of the rows",
    ]
    # Two references and three methods, twice; two references and one, twice.
    tables: list = []
    for line in lines:
        if line.startswith("| method"):
            tables.append([])
        if line.startswith("|"):
            tables[-1].append(line.strip("| ").split(" | "))
    assert [len(each) for each in tables] == [7, 7, 5, 5]
    assert all(len({len(line) for line in each}) == 1 for each in tables)
    tested, others = ({line[0]: line for line in each} for each in tables[:2])
    last = ["distinguished by", "retain accuracy, test"]
    assert tested["method"] == ["method", *samples.NAMES, *last]
    ulira = tested["method"].index("u-lira")
    assert tested["original models"][ulira] == "0.900"
    assert tested["retrained models"][ulira] == "0.500"
    assert tested["`finetune`"][ulira] == "**0.660** / 0.500"
    assert tested["`finetune`"][-2:] == ["2 of 6", "0.970 ± 0.000"]
    assert tested["`retrain`"][-2] == "0 of 6"
    assert others["`finetune`"][1:] == ["–", "0.000", "0.750 / 0.250"]
    assert others["original models"][1:] == ["–", "–", "0.950"]
