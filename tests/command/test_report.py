"""``hyperforget report``: pages made again from records."""

import pathlib
import shutil

import pytest

import hyperforget_jax as hf
from hyperforget_jax.command import main

RESULTS = pathlib.Path(__file__).parents[2] / "experiments/results"


def test_the_page_is_that_which_the_record_was_written_with(tmp_path, capsys):
    about = dict(dataset="digits", model="mlp", scenario="class", request="class 3")
    row = hf.report.results_row(
        "mine", [{"forget_accuracy_test": 0.1}], access=None, seconds=None, **about
    )
    document = hf.report.results_document([row], preset="mine", config={}, seconds=1)
    hf.report.write(tmp_path / "mine.json", document, references=False)
    hf.report.write_report(tmp_path / "first.html", document, references=False)
    assert main(["report", str(tmp_path / "mine.json")]) == 0
    again = tmp_path / "mine.html"
    assert str(again) in capsys.readouterr().out
    assert again.read_bytes() == (tmp_path / "first.html").read_bytes()
    (tmp_path / "mine.json").rename(tmp_path / "results.json")
    assert main(["report", str(tmp_path)]) == 0  # Of what forget wrote.
    assert (tmp_path / "results.html").read_bytes() == again.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["classes-digits", "audit-digits"])
def test_a_page_is_made_again_from_its_record(tmp_path, capsys, name):
    record, page = tmp_path / "mine.json", tmp_path / "pages/mine.html"
    shutil.copy(RESULTS / f"{name}.json", record)
    assert main(["report", str(record), "--out", str(page)]) == 0
    assert str(page) in capsys.readouterr().out
    rows = (hf.report.read_audit if "audit" in name else hf.report.read)(record)["rows"]
    text = page.read_text()
    assert all(row["method"] in text for row in rows)


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "mine.json is not a results file"),
        ("[]", "is not a results file"),
        ('{"rows": []}', "is not a results file"),
        ('{"tier": "smoke"}', "document: Object missing required field"),
    ],
)
def test_other_files_are_refused(tmp_path, capsys, text, message):
    record = tmp_path / "mine.json"
    record.write_text(text)
    assert main(["report", str(record)]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("hyperforget report: ") and message in printed
    assert main(["report", str(record), "--out", str(record)]) == 2
    assert "is the record" in capsys.readouterr().err
    assert record.read_text() == text
    assert main(["report", str(tmp_path / "nowhere.json")]) == 2
