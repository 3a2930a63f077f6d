"""Run every method at its defaults where nothing was tuned, and see what it costs.

    python experiments/off_tuning.py --preset mnist_cnn --out runs/off-tuning-mnist_cnn

A convolutional network with BatchNorm on 6,000 MNIST images, and perceptrons on two
small tables, wine and breast cancer. Every method of the library that has defaults
answers two requests, one class and 2 % of the rows, as a user would: jitted. Recorded
are the accuracy on test rows that stay, before and after, and what warnings there were:
a method that loses much is to say so. Minutes for the images on one core, less for the
tables.
"""

import dataclasses
import json
import time
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import recipes
import study as studies
import tyro
from rich.console import Console
from sklearn import datasets

import hyperforget_jax as hf
import runs
from hyperforget_jax.data.splits import stratified_split
from hyperforget_jax.report.records import write_json


@dataclasses.dataclass(frozen=True)
class _Table(recipes.Recipe):
    """A recipe for a table of scikit-learn: half of it trains, three tenths test."""

    def load(self) -> hf.data.Splits:
        """Load it, each column on a scale of its own that no split decides."""
        x, y = getattr(datasets, f"load_{self.dataset}")(return_X_y=True)
        every = hf.data.examples(((x - x.mean(0)) / x.std(0)).astype("float32"), y)
        train, rest = stratified_split(y, 0.5)
        probe, test = (rest[rows] for rows in stratified_split(y[rest], 0.6))
        parts = (every.take(jnp.asarray(rows)) for rows in (train, probe, test))
        return hf.data.Splits(*parts)

    @property
    def classifier(self) -> hf.Classifier:
        classes = {"wine": 3, "breast_cancer": 2}[self.dataset]
        return hf.from_linen(hf.models.MLP(self.hidden, classes))


RECIPES = {
    "mnist_cnn": recipes.Recipe(
        "mnist",
        (),
        5e-3,
        0.1,
        500,
        128,
        network="cnn-8-16-batchnorm",
        rows=6_000,
        held_out=2_000,
    ),
    "wine": _Table("wine", (32,), 5e-3, 0.1, 300, 32),
    "breast_cancer": _Table("breast_cancer", (32,), 5e-3, 0.1, 300, 32),
}

# A hypernetwork must be trained first; the others train by a recipe of the user's.
_WITHOUT_DEFAULTS = {"dihyfo", "eu_k", "retrain", "sisa"}
_OURS = ("fiun", "pgu", "ascent", "finetune", "logit_mask", "neggrad_plus", "ssd")
METHODS = (
    *_OURS,
    *(f"rivals.{name}" for name in hf.rivals.__all__ if name not in _WITHOUT_DEFAULTS),
)


@dataclasses.dataclass(frozen=True)
class OffTuning:
    """Run every method at its defaults where nothing was tuned."""

    preset: Literal["mnist_cnn", "wine", "breast_cancer"] = "wine"
    """Data set and classifier."""
    seeds: int = 5
    """Training seeds."""
    methods: tuple[str, ...] = METHODS
    """The methods to run, beside retraining."""
    resume: bool = False
    """Go on with a run that was stopped."""
    out: Path = Path("runs/off-tuning")
    """Where models and results go."""


def main(config: OffTuning) -> None:
    """Answer both requests with every method, and write what it cost."""
    console, begin = Console(), time.perf_counter()
    recipe = RECIPES[config.preset]
    runs.check_known("--methods", config.methods, METHODS)
    splits, classifier = recipe.load(), recipe.classifier
    record = {
        "preset": config.preset,
        "seeds": config.seeds,
        "methods": list(config.methods),
        "recipe": recipe.record(),
    }
    runs.open_folder(config.out, record, config.resume)
    originals = recipe.train(
        jax.random.key(0), splits.train, config.seeds, config.out / "originals"
    ).variables
    requests = {
        "class": hf.forget_classes(splits.train, [0]),
        "rows": hf.forget_random(jax.random.key(1), splits.train, 0.02),
    }
    made = {name: _maker(name, splits.probe) for name in config.methods}
    rows = []
    for name, make in {"retrain": recipe.retrain, **made}.items():
        path = config.out / f"{name}.json"
        if not path.exists():
            console.log(name)
            about = requests, config.preset, splits
            found = _rows(name, make(classifier), originals, *about)
            write_json(path, {"rows": list(found)})
        rows += json.loads(path.read_text())["rows"]
    runs.write(config, rows, record, begin, references=False)
    metrics = {"retain_accuracy_test": min, "points_lost": max}
    console.print(runs.summary(rows, ("method", "scenario", "warned"), metrics))


def _maker(name: str, probe: hf.Examples) -> Callable[..., hf.Unlearner]:
    """Find a method, and give it what has no default."""
    family, _, rival = name.rpartition(".")
    make = getattr(hf.rivals if family else hf, rival)
    return lambda classifier: (
        make(classifier, probe=probe) if rival == "regun" else make(classifier)
    )


def _rows(name, unlearner, originals, requests, preset, splits):
    """Answer each request for every seed's model; say what there was to be heard."""
    recipe = RECIPES[preset]
    seeds = jax.tree.leaves(originals)[0].shape[0]
    key = jax.random.fold_in(jax.random.key(2), zlib.crc32(name.encode()))
    keys = jax.random.split(key, (2, seeds))
    init = jax.jit(jax.vmap(unlearner.init, (0, 0, None)))
    unlearn = jax.jit(jax.vmap(unlearner.unlearn, (0, 0, None)))
    arguments = keys[0], originals, splits.train
    (state, in_init), said_in_init = _listen(studies.timed, init, *arguments)

    @jax.jit
    def accuracies(variables, request):
        return jax.vmap(
            lambda own: recipes.accuracies(recipe.classifier, own, splits.test, request)
        )(variables)

    for scenario, request in requests.items():
        arguments = keys[1], state, request
        ((after, _), seconds), said = _listen(studies.timed, unlearn, *arguments)
        said = sorted(said_in_init | said)
        forget, retain = accuracies(after.variables, request)
        forget_before, retain_before = accuracies(originals, request)
        found = {
            "retain_accuracy_test": retain,
            "retain_accuracy_test_before": retain_before,
            "points_lost": 100 * (retain_before - retain),
        }
        if scenario == "class":  # No test row is one of the training rows that go.
            found |= {
                "forget_accuracy_test": forget,
                "forget_accuracy_test_before": forget_before,
            }
        yield hf.report.results_row(
            name,
            [{n: float(each[i]) for n, each in found.items()} for i in range(seeds)],
            dataset=recipe.dataset,
            model=recipe.model,
            scenario=scenario,
            request="class 0" if scenario == "class" else "2 % of the rows",
            access=unlearner.access,
            # With what compiling took.
            seconds={"init": in_init, "unlearn": seconds, "compile": 0.0},
            factors={"world": preset, "warned": bool(said), "warnings": said},
            num_forgotten=int(jnp.sum(request.forget.weight > 0)),
            num_train=int(jnp.sum(splits.train.weight > 0)),
        )


def _listen(function: Callable[..., Any], *arguments: Any) -> tuple[Any, set[str]]:
    """Call a function; return what it gives, and the warnings that users would see."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = function(*arguments)
    # Not what libraries say of their own future.
    kinds = UserWarning, RuntimeWarning
    return found, {str(one.message) for one in caught if one.category in kinds}


if __name__ == "__main__":
    main(tyro.cli(OffTuning))
