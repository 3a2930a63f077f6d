"""``hyperforget forget``: what it takes, what it leaves, and what it refuses."""

import dataclasses
import json
import os
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as orbax
import pytest
from flax.training.train_state import TrainState
from safetensors.numpy import load_file, save_file

import hyperforget_jax as hf
from hyperforget_jax.command import inputs, main
from tests import toys

FACTORIES = """
import hyperforget_jax as hf
from tests import toys


def module():
    return hf.models.MLP((), toys.NUM_CLASSES)


def wider():
    return hf.models.MLP((3,), toys.NUM_CLASSES)


def broken():
    raise RuntimeError("no such width")


def number():
    return 5


def of_class():
    return hf.models.MLP


ready = module()
"""


POINTS = toys.points(80)
TRAIN, TEST = POINTS.take(np.arange(40)), POINTS.take(np.arange(40, 80))


@pytest.fixture(scope="module")
def trained():
    """Softmax regression by least squares, which fits few points to the last."""
    x = np.c_[TRAIN.x, np.ones(40)]
    layer, *_ = np.linalg.lstsq(x, 9 * np.eye(4)[TRAIN.y])
    kernel, bias = (jnp.float32(each) for each in (layer[:-1], layer[-1]))
    return {"params": {"Dense_0": {"kernel": kernel, "bias": bias}}}


@pytest.fixture
def folder(tmp_path, monkeypatch, trained):
    """The current folder, with a model in every form, its factory and its data."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "my_networks", raising=False)
    (tmp_path / "my_networks.py").write_text(FACTORIES)
    save_safetensors("model.safetensors", trained)
    np.savez("train.npz", x=TRAIN.x, y=TRAIN.y)
    np.savez("data.npz", x=TRAIN.x, y=TRAIN.y, x_test=TEST.x, y_test=TEST.y)
    return tmp_path


def save_safetensors(path, tree):
    save_file({n: np.asarray(leaf) for n, leaf in hf.trees.by_path(tree).items()}, path)


def forget(*options, variables="model.safetensors", data="train.npz", out="out"):
    return main(
        ["forget", "--variables", variables, "--data", data, "--out", out]
        + ([] if "--model" in options else ["--model", "my_networks:module"])
        + list(options)
    )


def info(out="out"):
    with open(f"{out}/info.json") as file:
        return json.load(file)


def save_train_state(variables):
    state = TrainState.create(
        apply_fn=None, params=variables["params"], tx=optax.adam(1e-3)
    )
    with orbax.StandardCheckpointer() as saver:
        saver.save(os.path.abspath("state"), state)


@pytest.mark.parametrize(
    "form, path, save",
    [
        (
            "checkpoint",
            "kept",
            lambda tree: hf.checkpointing.save("kept", tree, kind="variables"),
        ),
        ("orbax", "plain", lambda tree: hf.checkpointing.save_orbax("plain", tree)),
        ("orbax", "state", save_train_state),
        ("safetensors", "model.safetensors", lambda tree: None),
    ],
)
def test_the_new_variables_have_the_form_of_the_old_ones(
    folder, trained, form, path, save
):
    save(trained)
    options = "--classes", "3", "--method", "logit_mask"
    assert forget(*options, variables=path) == 0
    if form == "checkpoint":
        after = hf.checkpointing.load("out/variables", kind="variables")
    elif form == "orbax":
        after = hf.checkpointing.load_orbax("out/variables")
    else:
        after = load_file("out/variables.safetensors")
    after, before = hf.trees.by_path(after), hf.trees.by_path(trained)
    mask = after.pop("output_mask")
    assert np.asarray(mask).tolist() == [False, False, False, True]
    assert after.keys() == before.keys()
    for name, leaf in before.items():
        np.testing.assert_array_equal(after[name], leaf)
    assert info()["form"] == form
    assert info()["left_out"] == (["opt_state", "step"] if path == "state" else [])
    assert sorted(each.name for each in folder.iterdir() if "." == each.name[0]) == []


def test_what_was_asked_and_found_is_written_and_printed(folder, capsys):
    options = "--classes", "3", "1", "--method", "logit_mask", "--json"
    assert forget(*options) == 0
    found = info()
    assert json.loads(capsys.readouterr().out) == found
    assert found["method"] == "logit_mask"
    there = int(np.isin(TRAIN.y, [1, 3]).sum())
    assert found["request"] == {"classes": [3, 1], "num_rows": there}
    assert found["reads"] == {"before": [], "init": [], "unlearn": ["classes"]}
    accuracy = found["accuracy"]
    assert accuracy["forget_accuracy_train"]["before"] > 0.9
    assert accuracy["forget_accuracy_train"]["after"] == 0
    assert accuracy["retain_accuracy_train"]["after"] > 0.9
    assert "forget_accuracy_test" not in accuracy
    assert found["seconds"].keys() == {"init", "compile", "unlearn", "all"}
    assert found["versions"]["jax"] == jax.__version__
    document = hf.report.read("out/results.json", references=False)
    assert [row["method"] for row in document["rows"]] == ["original", "logit_mask"]
    assert document["config"]["settings"] == {"logit_mask": {}}
    with open("out/report.html") as file:
        page = file.read()
    assert "class 1+3" in page and "The model: MLP." in page
    assert "Seconds of evaluation" in page and "Preset" not in page


def test_what_it_wrote_it_takes_again(folder, capsys):
    options = "--method", "logit_mask"
    assert forget("--classes", "3", *options) == 0
    again = "out/variables.safetensors"
    assert forget("--classes", "1", *options, variables=again, out="second") == 0
    assert forget("--classes", "1", *options, variables="out", out="third") == 2
    assert f"name {again}." in capsys.readouterr().err
    mask = load_file("second/variables.safetensors")["output_mask"]
    assert mask.tolist() == [False, True, False, True]


def test_rows_by_number_and_at_random(folder, capsys):
    np.save("rows.npy", np.array([5, 2]))
    options = "--method", "identity"
    assert forget("--rows", "rows.npy", *options, out="rows") == 0
    assert info("rows")["request"] == {"rows": [2, 5], "num_rows": 2}
    assert forget("--random", "0.1", *options, out="share") == 0
    assert forget("--random", "4", *options, out="count") == 0
    assert info("share")["request"] == info("count")["request"]
    assert info("share")["request"]["num_rows"] == 4
    said = " ".join(capsys.readouterr().out.split())
    assert "not show that they were forgotten" in said


@pytest.mark.slow
def test_a_method_is_set_and_moves_the_model(folder, trained):
    options = "--method", "ascent", "--set", "steps=2", "batch_size=8"
    assert forget("--classes", "3", *options) == 0
    assert len(info()["info"]["loss"]) == 2  # As many steps as were set.
    after = load_file("out/variables.safetensors")
    assert any(
        np.any(after[name] != leaf) for name, leaf in hf.trees.by_path(trained).items()
    )


@pytest.mark.slow
@pytest.mark.parametrize("alpha, is_ruined", [("1e-20", False), ("1e3", True)])
def test_lost_accuracy_is_said_with_a_remedy(folder, capsys, alpha, is_ruined):
    options = "--method", "fisher_noise", "--set", f"alpha={alpha}", "--classes", "3"
    assert forget(*options) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert ("were lost: try another --method" in said) == is_ruined


@pytest.mark.slow
def test_unseen_rows_make_the_whole_report_of_the_default_method(folder, capsys):
    assert forget("--classes", "3", data="data.npz") == 0
    assert info()["method"] == "pgu"
    assert info()["settings"] == dataclasses.asdict(hf.PGUConfig())
    accuracy = info()["accuracy"]
    assert accuracy["forget_accuracy_test"]["before"] > 0.5
    assert accuracy["forget_accuracy_test"]["after"] < 0.2
    assert accuracy["retain_accuracy_test"]["after"] > 0.5
    document = hf.report.read("out/results.json", references=False)
    assert "relearn_steps" in document["rows"][1]["metrics"]
    printed = capsys.readouterr().out
    assert "forgotten rows, test" in printed and "pgu, asked to forget" in printed


@pytest.mark.slow
def test_test_rows_are_held_out_for_single_rows(folder, capsys):
    assert forget("--random", "4", data="data.npz") == 0
    found = info()
    assert found["settings"]["optimizer"] == "adam"  # As PGUConfig.rows has it.
    config = json.loads((folder / "out/results.json").read_text())["config"]
    assert config["settings"] == {"pgu": found["settings"]}
    assert found["probe_of_test_rows"] and "probe" in found["reads"]["init"]
    accuracy = found["accuracy"]["retain_accuracy_train"]
    assert accuracy["after"] > accuracy["before"] - 0.05
    assert "half of the test rows" in capsys.readouterr().err


def test_test_rows_are_the_probe_or_are_counted():
    data = inputs.spare_probe("data.npz", inputs.Data(TRAIN, TEST))
    assert data.train is TRAIN
    parts = [set(each.id.tolist()) for each in (data.probe, data.test)]
    assert not parts[0] & parts[1] and parts[0] | parts[1] == set(TEST.id.tolist())
    assert [len(part) for part in parts] == [20, 20]


BAD = {
    "no variables": (dict(variables="nowhere"), (), "is not there: name the folder"),
    "a pickle": (dict(variables="my_networks.py"), (), "no pickle is loaded"),
    "cut short": (dict(variables="cut.safetensors"), (), "cannot be read"),
    "no checkpoint": (dict(variables="empty"), (), "cannot be read by Orbax"),
    "other shapes": (dict(variables="other.safetensors"), (), "do not fit the clas"),
    "bare params": (
        dict(variables="bare.safetensors"),
        (),
        r"missing params/Dense_0/bias \(is it Dense_0/bias\?\), params/Dense_0/kernel "
        r"\(is it Dense_0/kernel\?\); unexpected Dense_0/bias, Dense_0/kernel. "
        "Expected .* by its path: params/Dense_0/bias, params/Dense_0/kernel",
    ),
    "another model": ({}, ("--model", "my_networks:wider"), "missing params/Dense_1/"),
    "other names": (dict(variables="dots.safetensors"), (), "unexpected fc.weight. Ex"),
    "no factory": ({}, ("--model", "my_networks"), "must be MODULE:FACTORY"),
    "no module": ({}, ("--model", "nowhere:make"), "ModuleNotFoundError"),
    "no name": ({}, ("--model", "my_networks:make"), "has no attribute 'make'"),
    "it raises": ({}, ("--model", "my_networks:broken"), "no such width"),
    "not called": (
        {},
        ("--model", "my_networks:of_class"),
        "the class MLP: return MLP",
    ),
    "not finite": (
        dict(variables="nan.safetensors"),
        (),
        "finite at params/Dense_0/bi",
    ),
    "another shape": (
        dict(data="flat.npz"),
        (),
        "x_test and y_test: x_test must have",
    ),
    "bad pixels": (dict(data="nans.npz"), (), "nans.npz, x_test and y_test: data.x is"),
    "a number": ({}, ("--model", "my_networks:number"), "a Flax Linen module.*got int"),
    "no data": (dict(data="nowhere.npz"), (), "nowhere.npz cannot be read"),
    "pickled data": (dict(data="pickled.npz"), (), "no pickle is loaded"),
    "no labels": (dict(data="unlabelled.npz"), (), "must hold x and y; it holds x"),
    "half a test": (dict(data="half.npz"), (), "must hold x_test and y_test"),
    "data's names": (dict(data="named.npz"), (), "it holds images, labels"),
    "seen": (dict(data="seen.npz"), (), "test must be held out of training"),
    "many labels": (dict(data="many.npz"), (), "data.y must hold labels in"),
    "no rows": ({}, ("--rows", "nowhere.npy"), "--rows nowhere.npy cannot be read"),
    "an archive": ({}, ("--rows", "train.npz"), "must be an .npy file"),
    "wrong rows": (
        {},
        ("--rows", "wrong.npy"),
        r"--rows wrong.npy: rows must lie in \[0, 40\)",
    ),
    "no class": ({}, ("--classes",), "classes is empty"),
    "a class": (
        {},
        ("--classes", "4"),
        r"--classes 4: classes must lie in .*got \[4\]",
    ),
    "a word": ({}, ("--classes", "three"), "three: labels must be whole numbers"),
    "percent": ({}, ("--random", "20%"), "--random 20%: must be a count, such as 500"),
    "a seed": ({}, ("--seed", "-1"), r"seed must be in 0 to 2147483647, got -1"),
    "none held out": ({}, ("--random", "4"), "hold x_probe and y_probe, .*as kfade, w"),
    "nor for rows": ({}, ("--rows", "rows.npy"), "train.npz must hold x_probe and y"),
    "one test row": (dict(data="one.npz"), ("--random", "4"), "one.npz must hold x_p"),
    "a share": ({}, ("--random", "1.5"), r"--random 1.5: count must be .* got 1.5"),
    "no method": ({}, ("--method", "magic"), "--method magic must be one of .*pgu"),
    "near method": ({}, ("--method", "pguu"), "no such method; did you mean pgu?"),
    "capitals": ({}, ("--method", "PGU"), "no such method; did you mean pgu?"),
    "near data": (dict(data="digist"), (), "no data set 'digist'; did you mean digits"),
    "no guess": ({}, ("--method", "retrain"), "--method retrain must be one of .*pgu"),
    "in need": ({}, ("--method", "dihyfo"), "--method dihyfo must be one of"),
    "no setting": ({}, ("--set", "magic=1"), "pgu has no such setting, but thresh"),
    "near setting": ({}, ("--set", "round=3"), "such setting; did you mean rounds?"),
    "no value": ({}, ("--set", "rounds"), "--set rounds must be NAME=VALUE"),
    "twice": ({}, ("--set", "rounds=3", "--set", "rounds=4"), "--set rounds: given t"),
    "wrong value": ({}, ("--set", "rounds=many"), "rounds must be a whole number"),
    "taken": (dict(out="taken"), (), "taken' holds something, which is kept"),
    "a file": (dict(out="rows.npy"), (), "rows.npy' holds something, which is kept"),
}


@pytest.mark.parametrize("case", BAD)
def test_malformed_input_is_refused_in_one_line(folder, trained, capsys, case):
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "cut.safetensors").write_bytes(whole[:-8])
    (folder / "empty").mkdir()
    (folder / "taken").mkdir()
    (folder / "taken/mine.txt").write_text("mine")
    save_safetensors("other.safetensors", jax.tree.map(lambda leaf: leaf[1:], trained))
    save_safetensors("bare.safetensors", trained["params"])
    save_file({"fc.weight": np.zeros((4, 6), np.float32)}, "dots.safetensors")
    x, y = np.asarray(TRAIN.x), np.asarray(TRAIN.y)
    np.savez("pickled.npz", x=np.array([{}, None]), y=y)
    np.savez("unlabelled.npz", x=x)
    nans = jax.tree.map(lambda leaf: leaf * np.nan, trained)
    save_safetensors("nan.safetensors", nans)
    np.savez("flat.npz", x=x, y=y, x_test=TEST.x[..., None], y_test=TEST.y)
    np.savez("nans.npz", x=x, y=y, x_test=np.nan * TEST.x, y_test=TEST.y)
    np.savez("half.npz", x=x, y=y, x_test=x)
    np.savez("named.npz", images=x, labels=y)
    np.savez("one.npz", x=x, y=y, x_test=TEST.x[:1], y_test=TEST.y[:1])
    np.savez("seen.npz", x=x, y=y, x_test=x, y_test=y)
    np.savez("many.npz", x=x, y=y + 1)
    np.save("rows.npy", np.array([1]))
    np.save("wrong.npy", np.array([40]))
    files, options, message = BAD[case]
    if not {"--rows", "--random", "--classes"} & set(options):
        options += ("--classes", "3")
    before = sorted(folder.rglob("*"))
    assert forget(*options, **files) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.startswith("hyperforget forget: ")
    assert pytest.raises(ValueError, match=message).matches(ValueError(printed.err))
    made = [p for p in folder.rglob("*") if "__pycache__" not in p.parts]
    assert sorted(made) == before


@pytest.mark.parametrize("options", [(), ("--classes", "3", "--random", "2")])
def test_exactly_one_thing_is_to_be_forgotten(folder, capsys, options):
    with pytest.raises(SystemExit) as stop:
        forget(*options)
    assert stop.value.code == 2
    assert "hyperforget forget --help" in capsys.readouterr().err


def test_what_did_not_work_is_said(folder, capsys):
    np.save("rows.npy", np.array([5, 2]))
    options = "--rows", "rows.npy", "--method", "logit_mask"
    assert forget(*options, out="same") == 0
    assert "warning: logit_mask left the model unchanged" in capsys.readouterr().err
    options = "--classes", "3,1", "--set", "learning_rate=3e38", "end_rate=3e38"
    assert forget(*options, "--model", "my_networks:ready", out="broken") == 0
    assert info("broken")["request"]["classes"] == [3, 1]
    said = capsys.readouterr().err
    assert "warning: pgu broke down at step" in said and "(--set)" in said


def test_an_interrupted_run_leaves_nothing_and_says_so(folder, capsys, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("hyperforget_jax.command.forget.answer", interrupted)
    assert forget("--classes", "3") == 130
    assert capsys.readouterr().err.endswith("hyperforget forget: interrupted\n")
    assert not (folder / "out").exists()


def test_nothing_is_left_of_a_run_that_fails_late(folder, monkeypatch):
    def full(*_):
        raise OSError("no space left")

    monkeypatch.setattr("hyperforget_jax.command.forget.write_json", full)
    (folder / "out").mkdir()  # Empty, and so free.
    before = sorted(folder.iterdir())
    assert forget("--classes", "3", "--method", "logit_mask") == 2
    after = [each for each in folder.iterdir() if each.name != "__pycache__"]
    assert sorted(after) == before and not any((folder / "out").iterdir())
