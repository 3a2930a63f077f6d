"""The benchmark of audits, on tiny sizes: it runs, and compares what is the same."""

import pytest

import hyperforget_jax as hf
from tests import scripts


@pytest.mark.parametrize(
    "part, rivals",
    [
        ("judge", ()),
        pytest.param(
            "score",
            [("forgetting_score/ours", "forgetting_score/rules")],
            marks=pytest.mark.slow,
        ),
        pytest.param("shadows", [("population", "pytorch-1")], marks=pytest.mark.slow),
    ],
)
def test_every_part_measures_and_writes(part, rivals, tmp_path, monkeypatch):
    if part == "shadows":
        pytest.importorskip("torch", reason="PyTorch is what it is compared with")
    monkeypatch.syspath_prepend(scripts.EXPERIMENTS / "benchmarks")
    sizes = "--shadows 4 --steps 60 --models 8 --judged 5 --examples 3 --repeats 2"
    done = scripts.run(
        "benchmarks.audit",
        *("--parts", part, "--datasets", "digits", "--out", str(tmp_path)),
        *sizes.split(),
    )
    assert done.returncode == 0, done.stderr
    document = hf.report.read(tmp_path / "results.json", references=False)
    seconds = {
        row["method"]: row["metrics"]["seconds"]["values"] for row in document["rows"]
    }
    assert seconds
    for ours, theirs in rivals:
        found = next(row for row in document["rows"] if row["method"] == ours)
        ratios = found["metrics"]["ratio_to_rival"]["values"]
        # Of all settings of a rival, the fastest.
        kind = theirs.split("-")[0]
        others = [of for name, of in seconds.items() if name.startswith(kind)]
        assert theirs in seconds and len(ratios) == 2
        expected = [
            min(of) / own for own, *of in zip(seconds[ours], *others, strict=True)
        ]
        assert ratios == pytest.approx(expected, rel=1e-6)
