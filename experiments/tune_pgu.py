"""Where the defaults of projected-gradient unlearning stand on a grid around them.

    python experiments/tune_pgu.py --out runs/tune-pgu

On digits, on models of training seeds that no table uses. Every point answers each
class in turn, on the recipe of the class tables, and four draws of random rows, on the
recipe that memorises. Half of the probe split is given to the method and the other half
measures: the Jensen-Shannon divergence from the retrained model of the same seed on the
forgotten training rows, plus that on the measuring rows that stay, means over requests;
the score of a point is the mean of both scenarios, less is better. The test split is
not read.

The defaults were found in trials before this script was written, so it did not choose
them and tells how good they are: they are marked ``chosen``, and ``best`` is the best.
"""

import dataclasses
import functools
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pgu
import recipes
import tuning
import tyro
from rich.console import Console

import hyperforget_jax as hf
import runs

# Far from the seeds of the tables, which begin at zero.
_KEY = 2_000
_DRAWS = 4


@dataclasses.dataclass(frozen=True)
class Tune:
    """Measure a grid around the defaults on the probe split."""

    preset: str = "digits"
    """Data, classifiers and recipes, as for pgu.py."""
    seeds: int = 5
    """Training seeds, none of which a table uses."""
    points: tuple[int, ...] = ()
    """Which points of the grid to measure, by number; all if there are none."""
    resume: bool = False
    """Go on with a run that was stopped: its models are not trained again."""
    out: Path = Path("runs/tune-pgu")
    """Where models and results go."""


GRID: tuning.Grid = {
    "learning_rate": (2.0, 4.0, 8.0, 16.0),
    "threshold": (0.01, 0.03, 0.1, 0.3, 1.0),
    "shrink": (0.5, 0.7, 0.9),
}
# The last step's rate is this share of the first one's.
_END = 0.2


def main(config: Tune) -> None:
    """Run the grid and write every point, the best first."""
    console, begin = Console(), time.perf_counter()
    runs.check_known("--preset", (config.preset,), pgu.PRESETS)
    preset = pgu.PRESETS[config.preset]
    trained = {"class": preset.classes[0], "rows": preset.memorising}
    record = {
        "preset": config.preset,
        "seeds": config.seeds,
        "class": trained["class"].record(),
        "rows": trained["rows"].record(),
        "grid": GRID,
    }
    runs.open_folder(config.out, record, config.resume)
    found = {
        name: _sweep(config, preset, name, recipe, console)
        for name, recipe in trained.items()
    }
    default = {name: getattr(hf.PGUConfig(), name) for name in GRID}
    ranked = []
    for number, point in enumerate(tuning.points(GRID, config.points)):
        metrics = {
            f"js_{part}_{name}": values
            for name, of_points in found.items()
            for part, values in of_points[number].items()
        }
        # The mean of both scenarios, each the sum of both parts.
        metrics["score"] = np.sum([*metrics.values()], axis=0) / len(found)
        ranked.append(tuning.Point(point, metrics))
    ranked.sort(key=lambda point: point.metrics["score"].mean())
    ranked = [
        point._replace(factors={"best": place == 0})
        for place, point in enumerate(ranked)
    ]
    given = trained["class"].load().probe
    rows = tuning.rows(
        "pgu",
        ranked,
        lambda place: ranked[place].hyper == default,
        dataset=trained["class"].dataset,
        model=trained["class"].model,
        scenario="class and rows",
        request=f"each class; {_DRAWS} draws of rows",
        access=hf.pgu(trained["class"].classifier, probe=given).access,
    )
    runs.write(config, rows, record, begin, references=False)
    console.print(tuning.table(rows, ["js_forget_class", "js_forget_rows", "score"]))


def _sweep(
    config: Tune,
    preset: pgu.Preset,
    name: str,
    recipe: recipes.Recipe,
    console: Console,
) -> list[dict[str, np.ndarray]]:
    """Measure divergences from retrained models at every point, ``[seeds]``."""
    splits, classifier = recipe.load(), recipe.classifier
    given, measuring = (
        splits.probe.take(jnp.arange(half, splits.probe.y.shape[0], 2))
        for half in range(2)
    )
    console.log(f"{name}: training {config.seeds} models")
    originals = recipe.train(
        jax.random.key(_KEY), splits.train, config.seeds, config.out / name
    ).variables
    asked = _asked(name, preset, splits.train)

    def models_of(unlearner, key, variables, data):
        """What becomes of one original at every request, ``[requests, ...]``."""
        key_init, key_unlearn = jax.random.split(key)
        state = unlearner.init(key_init, variables, data)
        keys = jax.random.split(key_unlearn, asked.classes.shape[0])
        requests = asked._replace(data=data)
        return hf.unlearn_each(unlearner, keys, state, requests)[0].variables

    @jax.jit
    def retrain(keys, originals, data):
        own = functools.partial(models_of, recipe.retrain(classifier))
        return jax.vmap(own, (0, 0, None))(keys, originals, data)

    def apart(variables, retrained, rows, classes, data):
        """Divergence on forgotten training rows, and on measuring rows that stay."""

        def divergence(x, weight):
            logits = (classifier.apply(model, x) for model in (variables, retrained))
            found = hf.metrics.jensen_shannon(*logits)
            return hf.losses.weighted_mean(found, weight.astype(jnp.int32))

        gone = hf.ForgetRequest(data, rows, classes).covers(data)
        stays = ~classes[measuring.y]
        return divergence(data.x, gone), divergence(measuring.x, stays)

    def evaluate(hyper, keys, originals, retrained, data, given):
        config = hf.PGUConfig(end_rate=_END * hyper["learning_rate"], **hyper)
        unlearner = hf.pgu(classifier, config, probe=given)

        def of_seed(key, variables, retrained):
            models = models_of(unlearner, key, variables, data)
            each = jax.vmap(apart, (0, 0, 0, 0, None))
            return each(models, retrained, asked.rows, asked.classes, data)

        return jax.vmap(of_seed)(keys, originals, retrained)

    keys = jax.random.split(jax.random.key(_KEY + 1), 2 * config.seeds)
    console.log(
        f"{name}: retraining {config.seeds} x {asked.classes.shape[0]} retrained"
    )
    retrained = retrain(keys[: config.seeds], originals, splits.train)
    console.log(f"{name}: the grid")
    found = tuning.sweep(
        evaluate,
        GRID,
        keys[config.seeds :],
        originals,
        retrained,
        splits.train,
        given,
        chosen=config.points,
    )
    return [
        {"forget": forget.mean(axis=-1), "retain": retain.mean(axis=-1)}
        for _, (forget, retain) in found
    ]


def _asked(name: str, preset: pgu.Preset, train: hf.Examples) -> hf.ForgetRequest:
    """The requests of a scenario, stacked."""
    if name == "class":
        return hf.forget_each_class(train)
    order = jax.random.permutation(jax.random.key(_KEY + 2), train.y.shape[0])
    count = round(preset.share * train.y.shape[0])
    requests = [
        hf.forget_rows(train, np.asarray(order[number * count : (number + 1) * count]))
        for number in range(_DRAWS)
    ]
    rows, classes = zip(*(request[1:] for request in requests), strict=True)
    return hf.ForgetRequest(train, jnp.stack(rows), jnp.stack(classes))


if __name__ == "__main__":
    main(tyro.cli(Tune))
