"""The script for accelerators: parts that are kept, and its smallest form on a CPU."""

import inspect
import os
import pathlib
import typing

import pytest

import hyperforget_jax as hf
from tests import scripts


def row(name):
    return hf.report.results_row(
        name,
        [{"seconds": 1.0}],
        dataset="noise",
        model="none",
        scenario="speed",
        request="none",
        access=None,
        seconds=None,
    )


def test_parts_are_done_once_in_the_time_there_is_and_fail_alone(tmp_path, monkeypatch):
    (script,) = scripts.load("accelerator")
    called, broken = [], {"fiun"}

    def part(name, seconds):
        def measure(console):
            called.append(name)
            if name in broken:
                raise ValueError(f"{name} cannot be measured")
            return [row(name)]

        return script.Part(seconds, measure)

    parts = {"utilisation": part("utilisation", 0), "fiun": part("fiun", 0)}
    parts |= {"pgu": part("pgu", 1e6), "dihyfo": part("dihyfo", 0)}
    monkeypatch.setitem(script.PARTS, "smallest", parts)
    chosen = "--parts utilisation fiun pgu --size smallest".split()

    def run(*options):
        called.clear()
        done = scripts.run("accelerator", "--out", str(tmp_path), *chosen, *options)
        document = hf.report.read(tmp_path / "results.json", references=False)
        names = [each["method"] for each in document["rows"]]
        return done, names, document["config"]["missing"]

    done, names, missing = run()
    assert done.returncode == 1 and "failed, see above: fiun" in done.stderr
    assert called == ["utilisation", "fiun"] and names == ["utilisation"]
    assert missing == {"fiun": "ValueError", "pgu": "no time was left"}

    done, _, _ = run()
    assert done.returncode == 2 and "give --resume" in done.stderr and not called

    broken.clear()
    done, names, missing = run("--resume", "--budget", "2e6")
    assert done.returncode == 0, done.stderr
    assert called == ["fiun", "pgu"]  # What was done is not done again.
    assert names == ["utilisation", "fiun", "pgu"] and missing == {}
    assert (tmp_path / "parts" / "pgu.json").exists()


def test_the_full_size_is_not_for_a_cpu(tmp_path):
    done = scripts.run("accelerator", "--out", str(tmp_path / "run"))
    assert done.returncode == 2 and "--size smallest" in done.stderr
    assert not (tmp_path / "run").exists()


def test_every_part_can_be_called_and_is_in_both_sizes():
    (script,) = scripts.load("accelerator")
    names = list(typing.get_args(script.Name))
    for parts in script.PARTS.values():
        assert list(parts) == names == list(script.Accelerator().parts)
        for part in parts.values():
            inspect.signature(part.measure).bind(None)
    assert sum(part.seconds for part in script.PARTS["full"].values()) <= 600


@pytest.mark.slow
def test_a_step_costs_what_its_products_cost():
    (script,) = scripts.load("accelerator_utilisation")
    classifier = hf.from_linen(hf.models.MLP((128,)))
    found = script.step_flops(classifier, script.noise(64, (784,)), 32)
    first, second = 2 * 32 * 784 * 128, 2 * 32 * 128 * 10
    # Forward, and gradients of kernels and of what the second layer is given.
    products = 2 * first + 3 * second
    assert products < found < 1.05 * products


@pytest.mark.slow
def test_the_smallest_form_measures(tmp_path):
    folder = os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")
    if not (pathlib.Path(folder).expanduser() / "cifar10").is_dir():
        pytest.skip("CIFAR-10 is not prepared")
    # The benchmarks, which have been there before, take a minute more.
    options = "--size smallest --parts utilisation resnet18 --out".split()
    done = scripts.run("accelerator", *options, str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    document = hf.report.read(tmp_path / "results.json", references=False)
    assert document["config"]["device"]["count"] == 8
    assert set(document["config"]["parts"]) == {"utilisation", "resnet18"}
    rows = {each["method"]: each["metrics"] for each in document["rows"]}
    for trained in ("population", "resnet-18"):
        rates = rows[trained]
        assert rates["flops_per_second"]["min"] > 0
        product = rows["product/float32"]["flops_per_second"]["values"][0]
        assert rates["ratio_to_float32"]["values"][0] == pytest.approx(
            rates["flops_per_second"]["values"][0] / product
        )
    of_images = {
        each["method"]: each["metrics"]
        for each in document["rows"]
        if each["dataset"] == "cifar10"
    }
    assert list(of_images) == ["original", "retrain", "pgu", "fiun"]
    for each in of_images.values():
        assert {"forget_accuracy_test", "retain_accuracy_test"} <= each.keys()
    for method in ("pgu", "fiun"):
        assert of_images[method]["ratio_to_retraining"]["min"] > 0
    assert of_images["pgu"] != of_images["original"]
