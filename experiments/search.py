"""Choose every method's settings by one random search, the same for all.

    python experiments/search.py --preset digits
    python experiments/search.py --preset digits --methods salun  # its cells alone

Every method has as many trials in every scenario: its own defaults, and settings drawn
at random from ``spaces.py``. Each trial answers one request with several models, of
training seeds that no table uses, and of other classes and rows. The goal is the same
for all, and is to be small: how far the models are from retrained ones, in the
logit-scaled confidence ``log p_y - log(1 - p_y)`` of labels, which is what attacks see.
Of every example it is the distance between the distributions over models
(Wasserstein-1, in nats, differences cut off at 10), and the goal is the mean of

- the distance on what is to be forgotten, training rows and held-out ones of the kind,
- and that on held-out rows of what is retained.

Held-out rows are the probe split's; the test split is not read. The divergences of
outputs are recorded too, and choose nothing: they are blind to how sure a model is that
an answer is wrong. The best trial becomes the recipe, ``hf.recipes.load``.
"""

import dataclasses
import functools
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import audit
import audit_scenes
import jax
import jax.numpy as jnp
import numpy as np
import spaces
import tuning
import tyro
from rich.console import Console

import hyperforget_jax as hf
import runs
from hyperforget_jax import atomic_write

# Requests that are for one class each, and are answered by the settings for that.
OF_A_CLASS = ("sequence", "inherited")
SCENARIOS = tuple(name for name in audit_scenes.SCENARIOS if name not in OF_A_CLASS)
# The tables' class is 3, and their seeds are 7 and 11.
LABEL, SEED = 8, 1_000
STATIC = ("steps", "max_epochs", "objective")
# Nothing counts as farther apart: nats of confidence, and of divergence.
FARTHEST, WORST = 10.0, float(np.log(2))


@dataclasses.dataclass(frozen=True)
class Search:
    """Choose every method's settings."""

    preset: Literal["digits", "mnist", "mnist_cnn"] = "digits"
    """Data set and classifier."""
    scenarios: tuple[str, ...] = SCENARIOS
    """What is to be forgotten."""
    methods: tuple[str, ...] = tuple(spaces.SPACES)
    """The methods to tune."""
    trials: int = 16
    """Settings to try, for every method in every scenario."""
    seeds: int = 5
    """Models that answer, and retrained ones beside them."""
    record: Path | None = None
    """A record to go on from: what it has of other methods is not searched again."""
    resume: bool = False
    """Go on with a run that was stopped, or with other methods and scenarios."""
    out: Path = Path("runs/search")
    """Where models, results and recipes go."""


def main(config: Search) -> None:
    """Run the trials that are missing, and write all there are."""
    console, begin = Console(), time.perf_counter()
    runs.check_known("--scenarios", config.scenarios, SCENARIOS)
    runs.check_known("--methods", config.methods, spaces.SPACES)
    record = {
        "preset": config.preset,
        "trials": config.trials,
        "seeds": config.seeds,
        "recipe": audit.RECIPES[config.preset].record(),
    }
    asked = [
        (scenario, method)
        for scenario in config.scenarios
        for method in config.methods
        if answers(method, scenario)
    ]
    if not asked:
        runs.refuse("None of these methods answers such requests.")
    read = functools.partial(hf.report.read, references=False)
    before = runs.rows_to_go_on_from(config.record, record, read)
    runs.open_folder(config.out, record, config.resume)
    _lay_out(before, config.out, asked)
    trials: Trials | None = None
    for scenario, method in asked:
        path = config.out / scenario / f"{method}.json"
        if not path.exists():
            if trials is None or trials.scene.name != scenario:
                trials = Trials(config, scenario)
            since = time.perf_counter()
            rows = trials.rows(method)
            runs.keep(path, rows)
            goal = rows[0]["metrics"]["goal"]["mean"]
            seconds = time.perf_counter() - since
            console.log(f"{scenario}, {method}: {goal:.4f} ({seconds:.0f} s)")
    rows = [
        row
        for scenario in SCENARIOS
        for method in spaces.SPACES
        if (path := config.out / scenario / f"{method}.json").exists()
        for row in json.loads(path.read_text())
    ]
    runs.write(config, rows, record, begin, references=False)
    with atomic_write.replace_file(config.out / "recipes.json") as file:
        json.dump(chosen(rows), file, indent=2)
    console.print(f"Recipes: {config.out / 'recipes.json'}")


def _lay_out(before, out: Path, asked) -> None:
    """Write a record's trials where a run looks for its own, but those asked for."""
    cells: dict[tuple[str, str], list[Any]] = {}
    for row in before:
        cells.setdefault((row["scenario"], row["method"]), []).append(row)
    for (scenario, method), rows in cells.items():
        if (scenario, method) not in asked:
            runs.keep(out / scenario / f"{method}.json", rows)


def answers(method: str, scenario: str) -> bool:
    """Whether a method answers such requests."""
    return scenario in audit_scenes.OF_CLASSES or method not in spaces.CLASS_ONLY


def chosen(rows) -> dict[str, Any]:
    """Collect the best settings, by scenario and method, as recipes are read."""
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        settings = dict(row["factors"])
        settings.pop("place")
        if settings.pop("chosen"):
            found.setdefault(row["scenario"], {})[row["method"]] = settings
    first = rows[0]
    return {"dataset": first["dataset"], "model": first["model"], "recipes": found}


class Trials:
    """The trials of one scenario, which share their models."""

    def __init__(self, config: Search, scenario: str):
        self.recipe = recipe = audit.RECIPES[config.preset]
        self.classifier, self.trials = recipe.classifier, config.trials
        out = config.out / scenario
        scene = audit_scenes.make(
            scenario,
            recipe,
            out,
            halves=False,
            held_out="probe",
            label=LABEL,
            seed=SEED,
        )
        self.scene = scene
        # Apart from the key of what is drawn.
        keys = jax.random.split(jax.random.key(SEED + 1), 3)
        self.originals, self.retrained = (
            recipe.train(key, data, config.seeds, out / name).variables
            for name, key, data in (
                ("originals", keys[0], scene.splits.train),
                ("retrained", keys[1], scene.request.retain),
            )
        )
        self.keys = jax.random.split(keys[2], config.seeds)
        there = jnp.flatnonzero(scene.request.forget.weight)
        self.judged = {
            "forgotten": scene.request.forget.take(there),
            "retained": scene.retained,
        }
        if scene.held_out is not None:
            self.judged["held_out"] = scene.held_out

    def measure(self, method: str, settings) -> list[tuning.Point]:
        """Measure a method at some settings, the nearest first."""
        classifier, make = self.classifier, hf.recipes.MAKERS[method]
        given = spaces.given(method, self.scene.name, self.scene.splits.probe)

        def evaluate(settings, keys, originals, retrained, request, given, judged):
            unlearner = make(classifier, **settings, **given)

            def answer(key, variables):
                key_init, key_unlearn = jax.random.split(key)
                state = unlearner.init(key_init, variables, request.data)
                return unlearner.unlearn(key_unlearn, state, request)[0].variables

            unlearned = jax.vmap(answer)(keys, originals)
            return distances(classifier, unlearned, retrained, judged)

        found = tuning.measure(
            evaluate,
            settings,
            self.keys,
            self.originals,
            self.retrained,
            self.scene.request,
            given,
            self.judged,
            static=STATIC,
        )
        ranked = [tuning.Point(settings, metrics) for settings, metrics in found]
        return sorted(ranked, key=lambda point: point.metrics["goal"].mean())

    def about(self, method: str, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Say what rows of a method are about; with any settings it reads the same."""
        given = spaces.given(method, self.scene.name, self.scene.splits.probe)
        unlearner = hf.recipes.MAKERS[method](self.classifier, **settings, **given)
        return {
            "dataset": self.recipe.dataset,
            "model": self.recipe.model,
            "scenario": self.scene.name,
            "request": self.scene.what,
            "access": unlearner.access,
        }

    def rows(self, method: str) -> list[dict[str, Any]]:
        """Measure a method's trials, and make a row of each, the nearest first."""
        drawn = spaces.draws(method, self.scene.name, self.trials)
        ranked = self.measure(method, drawn)
        return tuning.rows(
            method, ranked, lambda place: place == 0, **self.about(method, drawn[0])
        )


def distances(classifier, models, retrained, judged) -> dict[str, jax.Array]:
    """Compute how far models are from retrained ones, and the goal.

    As many models as retrained ones. A model that is not finite is as far as can be.

    Returns:
        Arrays ``[models]``: of goals, a number for each order statistic over models; of
        the others, for each model.
    """

    def logits(variables, examples):
        return jax.vmap(lambda each: classifier.apply(each, examples.x))(variables)

    gap, apart, right = {}, {}, {}
    for name, examples in judged.items():
        own, references = logits(models, examples), logits(retrained, examples)
        gap[name] = confidence_distance(own, references, examples)
        divergence = jax.vmap(
            lambda one, examples=examples, references=references: (
                hf.metrics.mean_distance(
                    hf.metrics.jensen_shannon, one, references, examples.weight
                )
            )
        )(own)
        # A mask's minus infinity is no failure, and NaN is.
        fails = jnp.any(jnp.isnan(own), axis=(1, 2)) | jnp.isnan(divergence)
        apart[name] = jnp.where(fails, WORST, divergence)
        right[name] = jax.vmap(hf.metrics.accuracy, (0, None, None))(
            own, examples.y, examples.weight
        )

    def forgotten(of):
        kinds = [of[name] for name in ("forgotten", "held_out") if name in of]
        return jnp.mean(jnp.stack(kinds), axis=0)

    return {
        "goal": (forgotten(gap) + gap["retained"]) / 2,
        "goal_forgotten": forgotten(gap),
        "goal_retained": gap["retained"],
        "js_forgotten": forgotten(apart),
        "js_retained": apart["retained"],
        "forget_accuracy_train": right["forgotten"],
        "retain_accuracy_probe": right["retained"],
    }


def confidence_distance(logits, references, examples) -> jax.Array:
    """Compare confidences of two populations, by order statistics over models.

    Args:
        logits: ``[S, N, C]``.
        references: other models', ``[S, N, C]``.
        examples: ``[N]``, with labels and weights.

    Returns:
        Nats, ``[S]``, whose mean is the Wasserstein-1 distance.
    """

    def ordered(logits):
        found = jax.vmap(hf.losses.margin, (0, None))(logits, examples.y)
        return jnp.sort(found, axis=0)

    gap = jnp.abs(ordered(logits) - ordered(references))
    # NaN sorts last; infinities of both are no distance, which no model has.
    gap = jnp.where(jnp.isnan(gap), FARTHEST, jnp.minimum(gap, FARTHEST))
    return jnp.average(gap, axis=1, weights=examples.weight)


if __name__ == "__main__":
    with runs.resumable():
        main(tyro.cli(Search))
