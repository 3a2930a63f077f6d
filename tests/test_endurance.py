"""Long jobs that are killed and gone on with, by the study's own harness in short."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from tests import scripts


@pytest.mark.slow
def test_a_killed_job_ends_as_one_that_nobody_killed(tmp_path):
    out = tmp_path / "out"
    # What users run: one device, and no cheaper compilation.
    env = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    root = pathlib.Path(__file__).parents[1]
    env["PYTHONPATH"] = os.pathsep.join([str(root), env.get("PYTHONPATH", "")])
    script = scripts.EXPERIMENTS / "endurance.py"
    # Two kinds of five: test_population.py kills a population.
    options = ["--jobs", "zoo", "networks", "--kills", "1", "--out", str(out)]
    command = [sys.executable, script, *options]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + done.stdout
    rows = json.loads((out / "results.json").read_text())["rows"]
    assert {row["method"] for row in rows} == {"zoo", "networks"}
    for row in rows:
        found = {name: one["values"][0] for name, one in row["metrics"].items()}
        assert (found["kills"], found["ends"], found["differ"]) == (1, 1, 0)


def test_an_unknown_job_is_refused_by_name(tmp_path):
    run = scripts.run("endurance", "--jobs", "sleeping", "--out", str(tmp_path / "out"))
    assert run.returncode != 0
    assert "; got sleeping." in run.stderr
    assert not (tmp_path / "out").exists()
