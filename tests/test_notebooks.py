"""Notebooks are in step with their scripts, hold no output, and do what they say."""

import importlib.util
import os
import pathlib
import re
import shutil
import subprocess
import sys

import jupytext
import numpy as np
import pytest
from PIL import Image

from tests import scripts

ROOT = pathlib.Path(__file__).parents[1]
FOLDER = ROOT / "notebooks"
SCRIPTS = sorted(FOLDER.glob("*.py"))

each_notebook = pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)

# What must hold of a notebook's own names at its end.
CLAIMS = {
    "1_forget_a_class": """
assert found["original"]["forget_accuracy_test"] > 0.9
assert all(found[name]["forget_accuracy_test"] <= 0.05 for name in methods)
assert found["logit mask"]["relearn_steps"] == 0 < found["PGU"]["relearn_steps"]
""",
    "2_your_own_model": """
for before, after in pairs.values():
    assert before[FORGET] > 0.8 and after[FORGET] <= 0.05
    assert np.mean(after) > np.mean(before) - 0.15
assert "u-lira" in judgement.accused_by
""",
    "3_hypernetwork": """
assert before[gone].mean() > 0.9 and after[gone].mean() < 0.1
assert after[others].mean() > before[others].mean() - 0.05
""",
    "4_federated_network": """
assert tuple(asked) == (f"client{CLIENTS}",)
assert on_digit["before"]["phone1"] > 0.5
assert max(on_digit["after"][name] for name in plan.graph.names) <= 0.05
""",
    "5_audit": """
assert judgements["logit mask"].accused_by and judgements["FIUn"].accused_by
assert not judgements["retraining"].accused_by
""",
    "6_many_models": """
assert len(leaf.sharding.device_set) == devices == jax.device_count()
assert before.mean() > 0.9 and after[:, gone].mean() < 0.05
""",
}

RUN = """
import runpy, sys
names = runpy.run_path(sys.argv[1])
exec(sys.argv[2], names)
names["figure"].savefig("picture.png")
"""


def cells(path):
    return [(cell.cell_type, cell.source) for cell in jupytext.read(path).cells]


@each_notebook
def test_a_pair_is_in_step(script):
    pair = script.with_suffix(".ipynb")
    assert cells(script) == cells(pair), f"jupytext --sync notebooks/{script.name}"


@each_notebook
def test_nothing_of_a_run_is_kept(script):
    pair = script.with_suffix(".ipynb")
    for cell in jupytext.read(pair).cells:
        if cell.cell_type == "code":
            assert not cell.outputs and cell.execution_count is None
    for path in (script, pair):
        assert not re.search(r"/(home|root|tmp|usr|work|content)/", path.read_text())


@each_notebook
def test_a_notebook_installs_first_and_uses_public_names(script):
    code = [source for kind, source in cells(script) if kind == "code"]
    assert code[0] == install_cell()
    assert not re.search(r"hf\.(\w+\.)*_|from experiments|import experiments", code[1])
    titles = [source for kind, source in cells(script) if kind == "markdown"]
    for target in re.findall(r"\]\(([^)#]+)", "".join(titles)):
        assert target.startswith("https:") or (FOLDER / target).exists(), target


def install_cell():
    return next(source for kind, source in cells(SCRIPTS[0]) if kind == "code")


@pytest.mark.parametrize(
    ("there", "installed"),
    [
        ({}, "hyperforget-jax"),
        ({"nvidia-smi": "there"}, "hyperforget-jax[cuda]"),
        ({"COLAB_TPU_ADDR": "10.0.0.2:8470"}, "hyperforget-jax[tpu]"),
        ({"COLAB_TPU_1VM": "1", "nvidia-smi": "there"}, "hyperforget-jax[tpu]"),
        ({"COLAB_TPU_1VM": ""}, "hyperforget-jax"),
    ],
)
def test_what_is_installed_fits_the_machine(there, installed, monkeypatch):
    asked = []
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(shutil, "which", there.get)
    monkeypatch.setattr(subprocess, "run", lambda command, check: asked.append(command))
    for name in ("COLAB_TPU_ADDR", "COLAB_TPU_1VM", "TPU_ACCELERATOR_TYPE"):
        monkeypatch.setenv(name, there.get(name, ""))
    exec(install_cell(), {})
    assert [command[-1] for command in asked] == [installed]


def test_nothing_is_installed_over_what_is_there(monkeypatch):
    def refuse(*given, **options):
        raise AssertionError(given)

    monkeypatch.setattr(subprocess, "run", refuse)
    exec(install_cell(), {})


@pytest.mark.slow
@each_notebook
def test_a_notebook_runs(script, tmp_path):
    folder = shutil.copytree(FOLDER, tmp_path / "notebooks")
    done = subprocess.run(
        [sys.executable, "-c", RUN, script.name, CLAIMS[script.stem]],
        cwd=folder,
        env={**os.environ, "MPLBACKEND": "agg", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    with Image.open(folder / "picture.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    assert len(np.unique(pixels, axis=0)) > 30  # Colours: it is not blank.


def test_every_notebook_has_its_claim_and_its_line():
    assert {script.stem for script in SCRIPTS} == set(CLAIMS)
    (tables,) = scripts.load("tables.notebooks")
    for script in SCRIPTS:
        assert f"({script.stem}.ipynb)" in tables.overview()


def test_badges_lead_to_the_repository_that_the_project_names():
    (tables,) = scripts.load("tables.notebooks")
    where = "https://colab.research.google.com/github/a/b/blob/main/notebooks"
    made = tables.overview("https://github.com/a/b/")
    for line, script in zip(made.splitlines(), SCRIPTS, strict=True):
        assert line.endswith(f"({where}/{script.stem}.ipynb)")
