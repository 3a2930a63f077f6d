"""Chooses the methods' defaults, on the probe of training seeds that no table uses.

    python experiments/tune.py --out runs/tune

Every grid point answers all ten class requests on five models of their own training
seeds. Forget and retain accuracy are taken on the probe split, which no model was
trained on, and the score is their product, (1 - forget) * retain: one is a model that
never errs on what it keeps and never hits what it forgot. The test split is not read.
Chosen is the point with the fewest steps whose score is within one standard error (over
seeds) of the best. The library's defaults are the chosen points; a test holds them so.
"""

import dataclasses
import itertools
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import recipes
import study as studies
import tyro
from rich.console import Console
from rich.table import Table

import hyperforget_jax as hf

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
    resume: bool = False
    """Go on with a run that was stopped: its models are not trained again."""
    out: Path = Path("runs/tune")
    """Where models and results go."""


RATES = (3e-4, 1e-3, 3e-3, 1e-2)

# Float hyper-parameters are swept by vmap, sizes one by one.
FLOATS: dict[str, dict[str, tuple]] = {
    "ascent": {"rate": RATES},
    "finetune": {"rate": RATES},
    "neggrad_plus": {"rate": RATES, "beta": (0.5, 0.8, 0.95)},
    "ssd": {"alpha": (1.0, 2.0, 3.0, 5.0, 8.0), "strength": (0.1, 0.3, 1.0)},
}
SIZES: dict[str, dict[str, tuple]] = {
    "ascent": {"steps": (5, 10, 20, 40, 80)},
    "finetune": {"steps": (100, 200, 400)},
    "neggrad_plus": {"steps": (50, 100, 200)},
    "ssd": {},
}


def main(config: Tune) -> None:
    """Runs the grids and writes every point, the best first."""
    console, begun = Console(), time.perf_counter()
    recipe = recipes.RECIPES[config.preset]
    splits, classifier = hf.data.load(recipe.dataset), recipe.classifier
    record = studies.record_of(config, recipe)
    studies.open_folder(config.out, record, config.resume)
    originals = recipe.train(
        jax.random.key(_KEY), splits.train, config.seeds, config.out / "originals"
    ).variables
    requests = hf.forget_each_class(splits.train)
    num_classes = requests.classes.shape[0]

    def accuracies(variables, covered):
        logits, y = classifier.apply(variables, splits.probe.x), splits.probe.y
        return (
            hf.metrics.accuracy(logits, y, covered),
            hf.metrics.accuracy(logits, y, 1 - covered),
        )

    covered = jax.vmap(lambda mask: mask[splits.probe.y].astype(jnp.int32))(
        requests.classes
    )

    def answer(unlearner, key, variables, data):
        key_init, key_unlearn = jax.random.split(key)
        keys = jax.random.split(key_unlearn, num_classes)
        state = unlearner.init(key_init, variables, data)
        of_data = requests._replace(data=data)
        states, info = hf.unlearn_each(unlearner, keys, state, of_data)
        # A point that diverges somewhere scores nothing there.
        well = getattr(info, "failed_at", jnp.full(num_classes, -1)) < 0
        forget, retain = jax.vmap(accuracies)(states.variables, covered)
        return jnp.where(well, forget, 1), jnp.where(well, retain, 0)

    def sweep(method, static):
        """Accuracies at every point of the grid's floats, ``[points, seeds, C]``."""
        make, floats = studies.METHODS[method].make, FLOATS[method]
        points = list(itertools.product(*floats.values()))

        def at(point, key, variables, data):
            named = dict(zip(floats, point, strict=True))
            return answer(make(classifier, **named, **static), key, variables, data)

        @jax.jit
        def run(grid, keys, originals, data):
            over_seeds = jax.vmap(at, (None, 0, 0, None))
            return jax.lax.map(
                lambda point: over_seeds(tuple(point), keys, originals, data), grid
            )

        keys = jax.random.split(jax.random.key(_KEY + 1), config.seeds)
        forget, retain = run(jnp.asarray(points), keys, originals, splits.train)
        named = [dict(zip(floats, point, strict=True)) | static for point in points]
        return list(zip(named, np.asarray(forget), np.asarray(retain), strict=True))

    rows, table = [], Table("method", "hyper-parameters", "forget", "retain", "score")
    for method in config.methods:
        sizes = SIZES[method]
        found = []
        for size in itertools.product(*sizes.values()):
            found += sweep(method, dict(zip(sizes, size, strict=True)))
        found.sort(key=lambda item: -_scores(*item[1:]).mean())
        chosen = _chosen(found)
        for place, (named, forget, retain) in enumerate(found):
            rows.append(
                hf.report.results_row(
                    method,
                    [
                        {
                            "forget_accuracy_probe": float(f.mean()),
                            "forget_accuracy_probe_worst_class": float(f.max()),
                            "retain_accuracy_probe": float(r.mean()),
                            "retain_accuracy_probe_worst_class": float(r.min()),
                        }
                        for f, r in zip(forget, retain, strict=True)
                    ],
                    dataset=recipe.dataset,
                    model=recipe.model,
                    scenario="class",
                    request="each class",
                    factors={**named, "place": place, "chosen": place == chosen},
                    access=studies.METHODS[method].make(classifier, **named).access,
                    seconds={"init": 0.0, "unlearn": 0.0, "compile": 0.0},
                )
            )
            if place in (0, chosen):
                table.add_row(
                    method,
                    ", ".join(f"{k}={v:g}" for k, v in named.items()),
                    f"{forget.mean():.3f} (worst {forget.mean(0).max():.3f})",
                    f"{retain.mean():.3f} (worst {retain.mean(0).min():.3f})",
                    f"{_scores(forget, retain).mean():.4f}",
                )
    document = hf.report.results_document(
        rows,
        preset=config.preset,
        config=record,
        seconds=time.perf_counter() - begun,
        repository=Path(__file__).parent,
    )
    hf.report.write(config.out / "results.json", document, references=False)
    console.print(table)


def _scores(forget: np.ndarray, retain: np.ndarray) -> np.ndarray:
    """A score for every seed, from accuracies ``[seeds, C]``."""
    return np.mean((1 - forget) * retain, axis=1)


def _chosen(found: list[tuple[dict, np.ndarray, np.ndarray]]) -> int:
    """The place of the quickest point that is not clearly worse than the best."""
    best = _scores(*found[0][1:])
    least = best.mean() - best.std(ddof=1) / np.sqrt(best.size)
    good = [i for i, point in enumerate(found) if _scores(*point[1:]).mean() >= least]
    return min(good, key=lambda i: (found[i][0].get("steps", 0), i))


if __name__ == "__main__":
    main(tyro.cli(Tune))
