"""Train the models that the package ships, or the same of MNIST, into the cache.

    python experiments/pretrained.py
    python experiments/pretrained.py --preset mnist

Classifiers of five seeds, the same retrained without each class, and a hypernetwork.
``hf.pretrained.load`` reads what is written, and ``hyperforget app`` shows it. Digits
are as ``quickstart.py`` trains them, and take two to three minutes on two cores.
"""

import dataclasses
import tempfile
import time
from pathlib import Path
from typing import Any, Literal

import dihyfo_artifacts
import dihyfo_presets
import numpy as np
import recipes
import study as studies
import tyro

import hyperforget_jax as hf
from hyperforget_jax import trees
from hyperforget_jax.data.cache import cache_folder

SEEDS = 5
RECIPES = {
    "digits": recipes.RECIPES["digits"],
    # Some of the rows and a quarter of the pixels: for five minutes of one core, and a
    # page that answers at once.
    "mnist": dataclasses.replace(
        recipes.RECIPES["mnist"],
        hidden=(64,),
        weight_decay=0.3,
        network="mlp-64-pooled",
        steps=1_500,
        rows=12_000,
        held_out=2_000,
        judged=2_000,
    ),
}
PACKAGE = Path(__file__).parents[1] / "hyperforget_jax" / "pretrained"
SHOWN = ("accuracy_test", "forget_accuracy_test", "retain_accuracy_test")


@dataclasses.dataclass(frozen=True)
class Pretraining:
    """Train the models that the package ships, or the same of MNIST."""

    preset: Literal["digits", "mnist"] = "digits"
    """Data set and classifier."""
    out: Path | None = None
    """A folder that is not there yet; by default in the package, or in the cache."""


def main(config: Pretraining) -> None:
    """Train, evaluate every class, and save."""
    begin, preset = time.perf_counter(), config.preset
    usual = PACKAGE if preset == "digits" else cache_folder() / "pretrained"
    out = config.out or usual / preset
    recipe = RECIPES[preset]
    zoo = dataclasses.replace(dihyfo_presets.QUICKSTART[preset], recipe=recipe)
    network = hf.models.PooledMLP if recipe.network else hf.models.MLP
    with tempfile.TemporaryDirectory() as folder:
        study = studies.Study("pretrained", recipe, SEEDS, Path(folder))
        artifacts = dihyfo_artifacts.Artifacts(
            zoo, study.out / "dihyfo", study.splits, study.classifier
        )
        study.console.log(f"a zoo of {zoo.starts} classifiers, and a hypernetwork")
        trained = artifacts.trained("dihyfo_2", dihyfo_presets.Variant())
        methods = {
            "logit_mask": studies.METHODS["logit_mask"],
            "dihyfo": studies.Method(lambda c: hf.dihyfo(c, *trained), {}),
        }
        retrained = []
        for label in range(10):
            study.forget_classes((label,), methods, longer=False)
            retrained.append(study.models["retrain"])
    document = hf.report.results_document(
        study.rows,
        preset=preset,
        config={
            "seeds": SEEDS,
            "recipe": recipe.record(),
            "hypernetwork": zoo.quickstart_record(),
        },
        seconds=time.perf_counter() - begin,
        repository=Path(__file__).parent,
    )
    record = {
        name: document[name] for name in document if name not in ("schema", "rows")
    }
    arrays = {
        "originals": study.originals,
        "retrained": trees.stack(retrained),
        "hypernet_params": trained.params,
    }
    if recipe.rows is not None:
        arrays["train_ids"] = study.splits.train.id
    hf.pretrained.save(
        out,
        recipe.dataset,
        network(recipe.hidden),
        arrays,
        trained.network,
        record | {"accuracies": accuracies(study.rows)},
    )
    study.console.print(hf.report.table(study.rows))
    study.console.print(f"Written to {out}", soft_wrap=True)


def accuracies(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Collect means over seeds, by method, metric and class."""
    found: dict[str, Any] = {}
    for row in rows:
        own = found.setdefault(row["method"], {name: [] for name in SHOWN})
        for name in SHOWN:
            own[name].append(float(np.round(row["metrics"][name]["mean"], 5)))
    return found


if __name__ == "__main__":
    main(tyro.cli(Pretraining))
