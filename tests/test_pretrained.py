"""The models that the package ships are whole, and are what their manifest says."""

import importlib.resources
import json

import jax
import numpy as np
import pytest
import safetensors.numpy

import hyperforget_jax as hf

FOLDER = importlib.resources.files("hyperforget_jax.pretrained") / "digits"


def test_the_package_has_digits():
    arrays, text = FOLDER / "arrays.safetensors", (FOLDER / "manifest.json").read_text()
    manifest = json.loads(text)
    held = safetensors.numpy.load(arrays.read_bytes())
    assert hf.checkpointing.digest(held) == manifest["digest"]
    assert sum(each.nbytes for each in held.values()) < 3e6
    assert manifest["dirty"] is False and manifest["config"]["seeds"] == 5
    assert manifest["command"] == "python experiments/pretrained.py"
    accuracies = manifest["accuracies"]
    for name in ("retrain", "dihyfo"):
        assert max(accuracies[name]["forget_accuracy_test"]) < 0.02
        assert min(accuracies[name]["retain_accuracy_test"]) > 0.95


def test_altered_arrays_are_refused(tmp_path):
    for name in ("arrays.safetensors", "manifest.json"):
        (tmp_path / name).write_bytes((FOLDER / name).read_bytes())
    with open(tmp_path / "arrays.safetensors", "r+b") as file:
        file.seek(-3, 2)
        file.write(b"\1\2\3")
    with pytest.raises(hf.checkpointing.CorruptCheckpointError, match="altered"):
        hf.pretrained.load(directory=tmp_path)


def test_models_that_are_not_there_have_their_command(tmp_path, monkeypatch):
    monkeypatch.setenv("HYPERFORGET_CACHE_DIR", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="pretrained.py --preset mnist"):
        hf.pretrained.load("mnist")
    for dataset in ("digit", "../digits", ""):
        with pytest.raises(FileNotFoundError, match="of 'digits' and of 'mnist', not"):
            hf.pretrained.load(dataset)


@pytest.mark.slow
def test_they_are_as_accurate_as_their_manifest_says(tmp_path):
    made, test = hf.pretrained.load(), hf.data.load("digits").test
    of_all = hf.models.population_logits(made.classifier, made.originals, test.x)
    right = np.mean(np.asarray(of_all).argmax(-1) == np.asarray(test.y))
    # Other processors round otherwise, which may move a row or two of 2,000.
    said = made.manifest["accuracies"]
    assert abs(right - said["original"]["accuracy_test"][0]) < 0.002
    without = hf.trees.take(made.retrained, 3)
    logits = hf.models.population_logits(made.classifier, without, test.x)
    assert not np.any(np.asarray(logits).argmax(-1) == 3)

    arrays = {
        "originals": made.originals,
        "retrained": made.retrained,
        "hypernet_params": made.hypernet_params,
    }
    beside = made.hypernetwork, {"config": made.manifest["config"]}
    network = hf.models.MLP((64,))
    hf.pretrained.save(tmp_path / "again", "digits", network, arrays, *beside)
    again = hf.pretrained.load(directory=tmp_path / "again")
    assert again.classifier == made.classifier
    assert again.hypernetwork == made.hypernetwork
    assert again.manifest["digest"] == made.manifest["digest"]
    jax.tree.map(np.testing.assert_array_equal, again[2:4], made[2:4])
    with pytest.raises(ValueError, match="'digits', not 'mnist'"):
        hf.pretrained.load("mnist", directory=tmp_path / "again")
