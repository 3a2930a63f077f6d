"""One verdict from logits: what ought to pass passes, what ought to fail fails."""

import io
import json

import numpy as np
import pytest
from jax.numpy import bfloat16
from safetensors.numpy import save_file
from scipy.special import softmax

from hyperforget_jax.audits import (
    Claim,
    epsilon_ceiling,
    judge,
    load_folder,
    save_folder,
    scaled_confidence,
)
from hyperforget_jax.command import main

CLASSES = 4


def claim(draw, unlearned, *, retrained=32, posed=16, examples=20):
    """Logits of original, retrained and unlearned models on forgotten examples."""
    labels = draw.integers(CLASSES, size=examples)
    own = np.eye(CLASSES)[labels]
    # Every example is as hard as it is, whichever model looks at it.
    base = draw.normal(size=(examples, CLASSES))
    levels = {"original": 3.0, "retrained": 0.0, "unlearned": unlearned}
    kinds = ["original"] * posed + ["retrained"] * retrained + ["unlearned"] * posed
    logits = np.stack(
        [base + draw.normal(size=base.shape) + levels[kind] * own for kind in kinds]
    )
    return logits, labels, kinds


@pytest.mark.slow
def test_perfect_forgetting_is_accused_as_rarely_as_the_level_says():
    draw = np.random.default_rng(0)
    accused = [bool(judge(*claim(draw, 0.0)).accused_by) for _ in range(20)]
    # Of 20 at 0.05 more than 3 have a chance of 1.6 %.
    assert sum(accused) <= 3


def test_nothing_done_and_too_much_done_are_found():
    draw = np.random.default_rng(1)
    for shift in (3.0, -3.0):
        found = judge(*claim(draw, shift))
        assert {"u-lira", "klom", "ruli"} <= set(found.accused_by)
        assert found.verdict.startswith("distinguished from retrained models by")
        by_name = {each.audit: each for each in found.audits}
        assert by_name["u-lira"].value > 0.8 > by_name["u-lira"].floor
        assert by_name["u-lira"].original > 0.8


def test_a_masked_logit_is_found_though_its_accuracy_is_that_of_retraining():
    # A class that was never seen: retrained models are never right either.
    draw = np.random.default_rng(2)
    logits, labels, kinds = claim(draw, 0.0)
    labels[:] = 2
    unlearned = np.array(kinds) == "unlearned"
    logits[np.array(kinds) == "retrained", :, 2] -= 8
    logits[unlearned, :, 2] = -1e4
    found = judge(logits, labels, kinds)
    assert "accuracy" not in found.accused_by
    assert len(found.accused_by) >= 2


def test_too_few_models_say_how_many_are_wanted():
    draw = np.random.default_rng(3)
    # Of four a side, no exchange of models is rare enough to accuse anybody.
    for side in (1, 4):
        found = judge(*claim(draw, 3.0, retrained=2 * side, posed=side))
        assert found.accused_by == () and "too few models" in found.verdict
    assert all(each.value is None and "needs" in each.note for each in found.audits)
    least = judge(*claim(draw, 3.0, retrained=10, posed=5))
    assert set(least.accused_by) == {"accuracy", "mean confidence"}
    few = judge(*claim(draw, 3.0, retrained=16, posed=8))
    by_name = {each.audit: each for each in few.audits}
    assert by_name["u-lira"].p is not None and by_name["klom"].value is None


def test_a_bound_that_could_be_nothing_but_0_is_not_given():
    draw = np.random.default_rng(8)  # So far apart that no error is made.
    few, enough = (
        judge(*claim(draw, 9.0, retrained=2 * side, posed=side), exchanges=0).audits[-1]
        for side in (13, 14)
    )
    assert few.audit == enough.audit == "epsilon, lower bound"
    assert few.value is None
    assert few.note.startswith("needs 14 unlearned and 28 retrained models")
    assert enough.value == epsilon_ceiling(7, 7, level=0.975) > 0
    assert enough.note == "so many models show 0.14 at the most"


def test_notes_that_are_alike_are_one_line_below_the_table(tmp_path, capsys):
    save_folder(tmp_path, *claim(np.random.default_rng(9), 3.0, retrained=20, posed=10))
    assert main(["audit", str(tmp_path)]) == 1
    printed = capsys.readouterr().out
    assert "note" not in printed and "0.000 " not in printed.split("epsilon")[1][:60]
    told = "needs 16 unlearned and 32 retrained models; there are enough for 10 a side."
    assert f"ruli, klom, reverse klom: {told}" in " ".join(printed.split())


def test_confidences_come_from_logits():
    # Beyond 16 a float32 softmax has rounded to one.
    found = scaled_confidence(np.array([[40.0, 0.0, 0.0]]), np.array([0]))
    np.testing.assert_allclose(found, 40 - np.log(2))
    masked = scaled_confidence(np.array([[-1e4, 1.0, 0.0]]), np.array([0]))
    assert np.isfinite(masked).all() and masked < -9e3


def test_malformed_claims_are_refused():
    logits, labels, kinds = claim(np.random.default_rng(4), 0.0, retrained=2, posed=1)
    spoilt = logits.copy()
    spoilt[1:3] = np.nan
    for given, message in (
        ((logits[0], labels, kinds), r"must be \[models, examples, classes\]"),
        ((logits, labels[:3], kinds), r"labels must be \[20\], one an example"),
        ((logits, labels + 4, kinds), "they do not match the logits"),
        ((logits, labels, kinds[:2]), "of each of the 4 models"),
        ((logits, labels, ["gold", *kinds[1:]]), "must be among .* got gold"),
        (
            (logits, labels, ["original"] * 3 + ["unlearned"]),
            "must name retrained models, got 3 original, 0 retrained, 1 unlearned: add "
            'the logits .*train_shadows.* "models" of audit.json',
        ),
        (
            (logits, labels, ["original"] + ["retrained"] * 3),
            "must name unlearned models, got 1 original, 3 .*unlearn_shadows.*is 5 unl",
        ),
        ((spoilt, labels, kinds), r"NaN in the models \[1, 2\]"),
        ((softmax(logits, -1), labels, kinds), "must not be probabilities"),
        ((logits[[0, 1, 1, 3]], labels, kinds), r"1 and 2 \(retrained\) have"),
        ((logits[[0, 1, 2, 2]], labels, kinds), r"2 and 3 \(retrained and unlearned"),
    ):
        with pytest.raises(ValueError, match=message):
            judge(*given)
    with pytest.raises(TypeError, match="labels whole numbers"):
        judge(logits, labels / 2, kinds)
    for level, message in ((0, r"in \(0, 1\)"), (0.005, "at least 0.010")):
        with pytest.raises(ValueError, match=f"level must be {message}"):
            judge(*claim(np.random.default_rng(4), 0.0, retrained=10), level=level)
    with pytest.raises(ValueError, match=r"seed must be in 0 to .*got -1"):
        judge(*claim(np.random.default_rng(4), 0.0, retrained=10), seed=-1)


def test_copies_of_what_answers_all_examples_alike_are_no_copies():
    draw = np.random.default_rng(7)
    logits, labels, kinds = claim(draw, 0.0, retrained=10, posed=5)
    logits[-5:] = 0
    assert judge(logits, labels, kinds).a_side == 5


@pytest.mark.parametrize(
    "form, kind",
    [
        ("npy", np.float32),
        ("npz", ">f4"),
        ("safetensors", np.float16),
        ("safetensors", bfloat16),
    ],
)
def test_a_folder_is_read_in_every_form(tmp_path, form, kind):
    logits, labels, kinds = claim(np.random.default_rng(5), 0.0, retrained=2, posed=1)
    # As some editors write it, with a mark of its encoding.
    (tmp_path / "audit.json").write_text(json.dumps({"models": kinds}), "utf-8-sig")
    arrays = {"logits": logits.astype(kind), "labels": labels.astype(np.uint8)}
    if form == "npy":
        for name, array in arrays.items():
            np.save(tmp_path / f"{name}.npy", np.asfortranarray(array))
    elif form == "npz":
        np.savez(tmp_path / "audit.npz", **arrays)
    else:
        save_file(arrays, tmp_path / "audit.safetensors")
    found = load_folder(tmp_path)
    np.testing.assert_array_equal(found.logits, arrays["logits"])
    assert found.kinds == tuple(kinds)
    judge(*found)


def test_malformed_folders_are_refused(tmp_path):
    described = tmp_path / "audit.json"
    with pytest.raises(FileNotFoundError, match=r"audit\.json is not there"):
        load_folder(tmp_path)
    for text in ("", "retrained", "[]", '{"models": "retrained"}', "[" * 100_000):
        described.write_text(text)
        with pytest.raises(ValueError, match=r'audit\.json must be {"models"'):
            load_folder(tmp_path)
    with pytest.raises(NotADirectoryError, match="is a file, and must be a folder"):
        load_folder(described)
    described.write_text('{"models": ["retrained"]}')
    with pytest.raises(FileNotFoundError, match=r"must hold logits\.npy and labels"):
        load_folder(tmp_path)
    np.savez(tmp_path / "audit.npz", logits=np.zeros((1, 2, 3)))
    with pytest.raises(ValueError, match="lack 'labels'"):
        load_folder(tmp_path)
    for name in ("logits", "labels"):
        np.save(tmp_path / f"{name}.npy", np.zeros(2))
    # One of them may be of another day.
    with pytest.raises(ValueError, match=r"holds logits\.npy and audit\.npz"):
        load_folder(tmp_path)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "audit.json").write_text('{"models": ["retrained"]}')
    np.save(tmp_path / "labels.npy", np.zeros(2, int))
    logits = tmp_path / "logits.npy"
    np.save(logits, np.zeros((1, 2, 3)))
    whole = logits.read_bytes()
    objects = io.BytesIO()
    np.save(objects, np.array([{}, None]), allow_pickle=True)
    for content, reason in (
        (b"", "No data"),
        (whole[:-8], "greater than file size"),
        (objects.getvalue(), "no pickle is loaded"),
        (b"nothing", "no pickle is loaded"),
        (b"PK\x03\x04" + 30 * b"0", "not a zip file"),
    ):
        logits.write_bytes(content)
        with pytest.raises(
            ValueError, match=rf"logits\.npy cannot be read: .*{reason}"
        ):
            load_folder(tmp_path)
    logits.unlink()
    (tmp_path / "labels.npy").unlink()
    (tmp_path / "audit.safetensors").write_bytes(whole)
    with pytest.raises(ValueError, match=r"audit\.safetensors cannot be .*header"):
        load_folder(tmp_path)


def test_the_command_judges_a_folder(tmp_path, capsys):
    logits, labels, kinds = claim(np.random.default_rng(6), 3.0)
    (tmp_path / "audit.json").write_text(json.dumps({"models": kinds}))
    np.savez(tmp_path / "audit.npz", logits=logits, labels=labels)
    assert main(["audit", str(tmp_path), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert "u-lira" in found["accused_by"] and found["models"]["retrained"] == 32
    assert main(["audit", str(tmp_path)]) == 1
    printed = capsys.readouterr().out
    assert "Verdict: distinguished from retrained models by" in " ".join(
        printed.split()
    )
    # Too few models to say anything: that is no clean bill.
    few = np.r_[0:2, 16:20, 48:50]
    np.savez(tmp_path / "audit.npz", logits=logits[few], labels=labels)
    models = {"models": [kinds[number] for number in few]}
    (tmp_path / "audit.json").write_text(json.dumps(models))
    assert main(["audit", str(tmp_path)]) == 2
    assert "nothing can be said" in capsys.readouterr().out
    assert main(["audit", str(tmp_path / "nowhere")]) == 2
    assert "audit.json is not there" in capsys.readouterr().err


def test_the_command_leaves_a_page_too(tmp_path, capsys):
    draw = np.random.default_rng(0)
    logits = draw.normal(size=(30, 6, 3))
    kinds = ("original",) * 10 + ("retrained",) * 12 + ("unlearned",) * 8
    claim = Claim(logits, draw.integers(3, size=6), kinds)
    save_folder(tmp_path / "mine", *claim)
    page = tmp_path / "pages/mine.html"
    assert main(["audit", str(tmp_path / "mine"), "--report", str(page)]) == 0
    text = page.read_text()
    assert "mine" in text and "u-lira" in text and "smoke" in text
