"""One call makes the record and the page of one's own models and request."""

import json
import textwrap

import jax
import optax
import pytest

import hyperforget_jax as hf
from hyperforget_jax.report import compare, read

pytestmark = pytest.mark.slow


def member(stacked, index=0):
    return jax.tree.map(lambda leaf: leaf[index], stacked)


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """The names of the docstring's example, after it ran."""
    source = compare.__doc__.split("Example::\n")[1].split("Args:")[0]
    source = textwrap.dedent(source).strip()
    assert len(source.splitlines()) <= 11
    names = {
        "hf": hf,
        "jax": jax,
        "optax": optax,
        "out": tmp_path_factory.mktemp("own"),
    }
    exec(source, names)
    return names


def test_the_example_leaves_a_record_and_a_page(example):
    document = read(example["out"] / "results.json")  # References and all.
    assert [row["method"] for row in document["rows"]] == [
        "original",
        "retrain",
        "ceiling",
        "mine",
    ]
    assert all(row["n"] == 2 for row in document["rows"])
    request = example["request"]
    assert all(
        row["num_forgotten"] == int((request.forget.weight > 0).sum())
        and row["num_train"] == len(example["splits"].train.y)
        for row in document["rows"]
    )
    page = (example["out"] / "report.html").read_text()
    for said in ("class 3: ", "<dt>mine</dt>", "Accuracy class by class", "Losses"):
        assert said in page
    retrain = document["rows"][1]["metrics"]
    assert "js_to_oracle" not in retrain and "relearn_steps" in retrain


def test_its_numbers_are_evaluate_s(example):
    document = read(example["out"] / "results.json")
    found = document["rows"][3]["metrics"]
    retrained = example["retrained"].variables
    for seed in range(2):
        alone = hf.evaluate(
            example["classifier"],
            member(example["mine"], seed),
            example["request"],
            example["splits"].test,
            retrained=retrained,
            original=member(example["original"].variables, seed),
        )
        for name in ("forget_accuracy_test", "js_to_oracle", "relearn_steps"):
            assert found[name]["values"][seed] == pytest.approx(alone.metrics[name])


def test_one_model_without_references_is_judged_as_far_as_can_be(example, tmp_path):
    arguments = example["classifier"], {"mine": member(example["mine"])}
    data = example["request"], example["splits"].test
    document = compare(tmp_path, *arguments, *data)
    assert [row["method"] for row in document["rows"]] == ["mine"]
    page = (tmp_path / "report.html").read_text()
    assert "No model was retrained" in page
    assert "one seed: its spread is unknown" in page
    assert "not measured: distance of its outputs from retraining" in page


def test_one_retrained_model_has_no_ceiling(example, tmp_path):
    models = {"mine": [member(example["mine"]), member(example["mine"], 1)]}
    document = compare(
        tmp_path,
        example["classifier"],
        models,
        example["request"],
        example["splits"].test,
        original=member(example["original"].variables),
        retrained=member(example["retrained"].variables),
        access={"mine": hf.Access(unlearn={"forget"})},
        seconds={"mine": {"init": 0, "unlearn": 1, "compile": 2}},
        dataset="my data",
        model="my model",
    )
    original, retrain, mine = document["rows"]
    assert (original["n"], retrain["n"], mine["n"]) == (1, 1, 2)
    assert mine["access"]["unlearn"] == ["forget"] and retrain["access"] is None
    assert (mine["dataset"], mine["model"]) == ("my data", "my model")
    page = (tmp_path / "report.html").read_text()
    assert "how far retrained models are from each other" in page
    json.loads((tmp_path / "results.json").read_text())


@pytest.mark.parametrize(
    "models, options, message",
    [
        ({}, {}, "models is empty"),
        ({"retrain": 0}, {}, r"the names \['retrain'\], which references have"),
        ({"mine": 1}, {"original": 2}, "mine.* has 1 seeds and original has 2"),
        ({"mine": 3}, {}, "mine must be variables of the classifier, or such stacked"),
    ],
)
def test_what_does_not_fit_is_refused(example, tmp_path, models, options, message):
    stacked = example["original"].variables
    broken = {"params": jax.tree.map(lambda leaf: leaf.sum(), stacked["params"])}
    of = {0: stacked, 1: member(stacked), 2: stacked, 3: broken}
    arguments = example["classifier"], {name: of[each] for name, each in models.items()}
    options = {name: of[each] for name, each in options.items()}
    with pytest.raises(ValueError, match=message):
        compare(
            tmp_path, *arguments, example["request"], example["splits"].test, **options
        )
    assert list(tmp_path.iterdir()) == []


def test_a_request_without_data_is_refused(example, tmp_path):
    request = hf.forget_labels([3], num_classes=10)
    with pytest.raises(ValueError, match="carries the training data"):
        models = {"mine": example["mine"]}
        compare(tmp_path, example["classifier"], models, request, None)
