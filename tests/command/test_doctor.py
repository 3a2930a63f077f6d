"""``hyperforget doctor``: what it finds, and what it says to do."""

import importlib.metadata
import json

import jax
import pytest

from hyperforget_jax.command import main


def doctor(capsys):
    code = main(["doctor", "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_it_says_what_is_there(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "sets"))
    monkeypatch.setenv("HYPERFORGET_CACHE_DIR", str(tmp_path / "cache/mine"))
    code, found = doctor(capsys)
    assert (code, found["missing"], found["ready"]) == (0, [], True)
    assert found["packages"]["jax"]["installed"] == jax.__version__
    assert all(each["supported"] for each in found["packages"].values())
    assert "pandas" not in found["packages"]  # An extra's.
    assert found["devices"] == ["cpu: cpu"] * jax.device_count()
    assert found["folders"]["data"] == str(tmp_path / "sets")
    assert found["data"]["digits"] == "ready"
    assert found["data"]["mnist"] == "not prepared"
    assert any("mnist" in each and "TFDS_DATA_DIR" in each for each in found["advice"])
    assert not any("HYPERFORGET_CACHE_DIR" in each for each in found["advice"])
    assert main(["doctor"]) == 0
    assert "The quickstart can run." in capsys.readouterr().out


def test_a_prepared_set_is_found(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    prepared = tmp_path / "mnist/3.0.1"
    prepared.mkdir(parents=True)
    (prepared / "dataset_info.json").write_text("{}")
    assert doctor(capsys)[1]["data"]["mnist"] == "ready"


def test_what_is_missing_or_too_old_has_its_remedy(capsys, monkeypatch):
    def wanted(package):
        return ["numpy>=999", "not-a-package-of-ours>=1", 'nor-this; extra == "more"']

    monkeypatch.setattr(importlib.metadata, "requires", wanted)
    code, found = doctor(capsys)
    assert code == 1 and not found["ready"]
    assert not found["packages"]["numpy"]["supported"]
    assert len(found["missing"]) == 2
    assert "pip install 'numpy>=999'" in found["missing"][0]
    assert "not-a-package-of-ours is not installed" in found["missing"][1]
    assert main(["doctor"]) == 1
    assert "Not ready." in capsys.readouterr().out


def test_no_device_and_no_digits(capsys, monkeypatch):
    def fails(*_):
        raise RuntimeError("Unable to initialize backend 'tpu'")

    monkeypatch.setattr(jax, "devices", fails)
    monkeypatch.setattr("hyperforget_jax.data.load", fails)
    code, found = doctor(capsys)
    assert code == 1 and found["devices"] == []
    assert found["data"]["digits"] == "damaged"
    assert "JAX_PLATFORMS" in found["missing"][0]
    assert "scikit-learn" in found["missing"][1]


def test_a_package_that_is_not_installed(capsys, monkeypatch):
    def fails(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "metadata", fails)
    code, found = doctor(capsys)
    assert code == 1 and found["missing"] == [
        "hyperforget-jax is not installed: pip install ."
    ]


@pytest.mark.parametrize("arguments", [[], ["doctor", "1"], ["app", "--port", "x"]])
def test_other_commands_and_options_exit_with_two(arguments):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
