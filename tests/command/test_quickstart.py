"""``hyperforget quickstart``, hardly trained, and what it refuses."""

import optax
import pytest

import hyperforget_jax as hf
from hyperforget_jax.command import main


@pytest.mark.slow
def test_it_compares_four_methods_with_retraining(tmp_path, monkeypatch, capsys):
    recipe = dict(optimizer=optax.adam(5e-3), steps=100, batch_size=64)
    monkeypatch.setattr("hyperforget_jax.command.quickstart._RECIPE", recipe)
    out = tmp_path / "mine"
    options = ["--seeds", "2", "--forget", "3", "5", "--out", str(out)]
    assert main(["quickstart", *options]) == 0
    rows = {row["method"]: row for row in hf.report.read(out / "results.json")["rows"]}
    methods = ["logit_mask", "finetune", "fiun", "pgu"]
    assert list(rows) == ["original", "retrain", "ceiling", *methods]
    assert all(row["n"] == 2 and row["request"] == "class 3+5" for row in rows.values())
    known = {n: row["metrics"]["forget_accuracy_test"] for n, row in rows.items()}
    for name in methods:
        assert known[name]["max"] < 0.6 < known["original"]["min"]
        assert rows[name]["seconds"]["unlearn"] > 0 and rows[name]["access"]
    assert "smoke run" in (out / "report.html").read_text()
    printed = capsys.readouterr()
    assert "pgu" in printed.out and "report.html" in printed.out
    assert "fewer than five models (2)" in printed.out
    assert printed.err.startswith("Training 2 models") and "by fiun" in printed.err


def test_help_names_the_methods(capsys):
    with pytest.raises(SystemExit):
        main(["quickstart", "--help"])
    assert "By logit_mask, finetune, fiun and pgu." in capsys.readouterr().out


@pytest.mark.parametrize(
    "options, message",
    [
        (("--forget", "11"), "classes must lie in [0, 10), got [11]"),
        (("--seeds", "0"), "seeds must be positive"),
        (("--out", "."), "holds something, which is kept"),
    ],
)
def test_bad_options_are_refused(tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.txt").write_text("mine")
    assert main(["quickstart", *options]) == 2
    assert message in capsys.readouterr().err
    left = [each.name for each in tmp_path.iterdir()]
    assert left == ["mine.txt"] or sorted(left) == ["mine.txt", "runs"]
