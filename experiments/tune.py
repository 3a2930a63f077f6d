"""Choose the methods' defaults, on the probe of training seeds that no table uses.

    python experiments/tune.py --out runs/tune

Every grid point answers all ten class requests on five models of their own training
seeds. Forget and retain accuracy are taken on the probe split, which no model was
trained on, and the score is their product, (1 - forget) * retain: one is a model that
never errs on what it keeps and never hits what it forgot. The test split is not read.
Chosen is the point with the fewest steps whose score is within one standard error (over
seeds) of the best. The library's defaults are the chosen points; a test holds them so.
"""

import dataclasses
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import recipes
import study as studies
import tuning
import tyro
from rich.console import Console

import hyperforget_jax as hf
import runs

# Far from the seeds of the tables, which begin at zero.
_KEY = 1_000


@dataclasses.dataclass(frozen=True)
class Tune:
    """Choose defaults on the probe split."""

    preset: str = "digits"
    """Data set and classifier."""
    seeds: int = 5
    """Training seeds."""
    methods: tuple[str, ...] = ("ascent", "finetune", "neggrad_plus", "ssd")
    """The methods to tune."""
    points: tuple[int, ...] = ()
    """Which points of each grid to measure, by number; all if there are none."""
    resume: bool = False
    """Go on with a run that was stopped: its models are not trained again."""
    out: Path = Path("runs/tune")
    """Where models and results go."""


RATES = (3e-4, 1e-3, 3e-3, 1e-2)
GRIDS: dict[str, tuning.Grid] = {
    "ascent": {"steps": (5, 10, 20, 40, 80), "rate": RATES},
    "finetune": {"steps": (100, 200, 400), "rate": RATES},
    "neggrad_plus": {"steps": (50, 100, 200), "rate": RATES, "beta": (0.5, 0.8, 0.95)},
    "ssd": {"alpha": (1.0, 2.0, 3.0, 5.0, 8.0), "strength": (0.1, 0.3, 1.0)},
}


def main(config: Tune) -> None:
    """Run the grids and write every point, the best first."""
    console, begin = Console(), time.perf_counter()
    recipe = recipes.RECIPES[config.preset]
    splits, classifier = hf.data.load(recipe.dataset), recipe.classifier
    record = studies.record_of(config, recipe)
    runs.open_folder(config.out, record, config.resume)
    originals = recipe.train(
        jax.random.key(_KEY), splits.train, config.seeds, config.out / "originals"
    ).variables
    requests = hf.forget_each_class(splits.train)
    keys = jax.random.split(jax.random.key(_KEY + 1), config.seeds)
    rows = []
    for method in config.methods:
        make, grid = studies.METHODS[method].make, GRIDS[method]

        def evaluate(hyper, keys, originals, requests, probe, make=make):
            answer = _answerer(classifier, make(classifier, **hyper))
            return jax.vmap(answer, (0, 0, None, None))(
                keys, originals, requests, probe
            )

        found = tuning.measure(
            evaluate,
            tuning.points(grid, config.points),
            keys,
            originals,
            requests,
            splits.probe,
            static={"steps"} & set(grid),
        )
        ranked = [
            tuning.Point(
                hyper,
                {
                    "forget_accuracy_probe": forget.mean(1),
                    "forget_accuracy_probe_worst_class": forget.max(1),
                    "retain_accuracy_probe": retain.mean(1),
                    "retain_accuracy_probe_worst_class": retain.min(1),
                    "score": np.mean((1 - forget) * retain, axis=1),
                },
            )
            for hyper, (forget, retain) in found
        ]
        ranked.sort(key=lambda point: -point.metrics["score"].mean())
        chosen = _chosen(ranked)
        rows += tuning.rows(
            method,
            ranked,
            lambda place, chosen=chosen: place == chosen,
            dataset=recipe.dataset,
            model=recipe.model,
            scenario="class",
            request="each class",
            access=make(classifier, **ranked[0].hyper).access,
        )
    runs.write(config, rows, record, begin, references=False)
    console.print(
        tuning.table(rows, ["forget_accuracy_probe", "retain_accuracy_probe", "score"])
    )


def _answerer(classifier, unlearner):
    """Accuracies after every request: ``(forget [C], retain [C])``."""

    def accuracies(variables, covered, probe):
        logits = classifier.apply(variables, probe.x)
        return (
            hf.metrics.accuracy(logits, probe.y, covered),
            hf.metrics.accuracy(logits, probe.y, 1 - covered),
        )

    def answer(key, variables, requests, probe):
        key_init, key_unlearn = jax.random.split(key)
        keys = jax.random.split(key_unlearn, requests.classes.shape[0])
        state = unlearner.init(key_init, variables, requests.data)
        states, info = hf.unlearn_each(unlearner, keys, state, requests)
        covered = requests.classes[:, probe.y].astype(jnp.int32)
        forget, retain = jax.vmap(accuracies, (0, 0, None))(
            states.variables, covered, probe
        )
        # A point that diverges somewhere scores nothing there.
        well = getattr(info, "failed_at", jnp.full(forget.shape, -1)) < 0
        return jnp.where(well, forget, 1), jnp.where(well, retain, 0)

    return answer


def _chosen(ranked: list[tuning.Point]) -> int:
    """Find the quickest point that is not clearly worse than the best."""
    best = ranked[0].metrics["score"]
    least = best.mean() - best.std(ddof=1) / np.sqrt(best.size)
    good = [i for i, one in enumerate(ranked) if one.metrics["score"].mean() >= least]
    return min(good, key=lambda i: (ranked[i].hyper.get("steps", 0), i))


if __name__ == "__main__":
    main(tyro.cli(Tune))
