"""One cell of a table of audits: one method in one scenario."""

import json
import time
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import audit_scenes
import jax
import jax.numpy as jnp
import numpy as np
from recipes import Recipe
from sklearn.metrics import roc_curve

import hyperforget_jax as hf
from hyperforget_jax import atomic_write, audits, trees

# What is drawn and what is counted: examples that are judged, models whose weights are
# attacked, points of a curve.
MOST, WEIGHED, POINTS, ROWS = 100, 16, 60, 2_000


class Posed(NamedTuple):
    """Attacks on models posed as trained with what was to be forgotten.

    Attributes:
        scores: by attack, and whether a model had an example, ``[2 K, M]`` each.
        own: bool, ``[2 K, M]``.
    """

    scores: dict[str, np.ndarray]
    own: np.ndarray


class Cells:
    """The cells of one scenario, which share their shadow models.

    Attributes:
        recipe: how models are trained.
        scene: what is to be forgotten.
        models: how many a side.
        out: the scenario's folder.
        is_timed: whether requests are timed, which an idle machine alone is good for.
    """

    def __init__(
        self,
        recipe: Recipe,
        scene: audit_scenes.Scene,
        models: int,
        out: Path,
        is_timed: bool = True,
    ):
        self.recipe, self.scene, self.models, self.out = recipe, scene, models, out
        self.is_timed = is_timed
        self.classifier = recipe.classifier
        # Apart: a fold of a key may be one of its splits.
        keys = jax.random.split(jax.random.key(7), 3)
        self.key_train, self.key_unlearn, self.key_weights = keys
        self._shadows: audits.Shadows | None = None
        self._references: dict[str, Any] | None = None

    def row(
        self,
        method: str,
        make: Callable[[], hf.Unlearner],
        settings: Mapping[str, float] | None = None,
    ) -> dict[str, Any]:
        """Return a cell's row, made now or in a run before by the same settings."""
        path = path_of(self.out, method, settings)
        if not path.exists():
            row = self._row(method, make(), settings, path.parent)
            with atomic_write.replace_file(path) as file:
                json.dump(row, file)
        return json.loads(path.read_text())

    def _shadow_models(self) -> audits.Shadows:
        if self._shadows is None:
            recipe = self.recipe
            self._shadows = audits.train_shadows(
                self.key_train,
                self.classifier,
                self.scene.request,
                recipe.optimizer(recipe.steps),
                recipe.steps,
                models=self.models,
                halves=self.scene.halves,
                batch_size=recipe.batch_size,
                directory=self.out / "shadows",
            )
        return self._shadows

    def _row(self, method, unlearner, settings, folder: Path) -> dict[str, Any]:
        shadows, request = self._shadow_models(), self.scene.request
        if self.scene.in_turn:
            unlearner = audit_scenes.in_turn(unlearner, self.scene.in_turn)
        unlearned = audits.unlearn_shadows(
            jax.random.fold_in(self.key_unlearn, zlib.crc32(method.encode())),
            unlearner,
            shadows,
            request,
            directory=folder / "models",
        )
        claim = audits.shadow_claim(
            self.classifier, shadows, unlearned, request, most=MOST
        )
        audits.save_folder(folder, *claim)
        judgement = audits.judge(*claim)
        references = self._reference_audits(shadows)
        posed = self._posed(unlearned)
        found = attacks(posed, references["floor"], references["original"])
        found += self._weights(shadows, unlearned)
        return hf.report.audit_row(
            judgement,
            more=found,
            method=method,
            scenario=self.scene.name,
            request=self.scene.what,
            dataset=self.recipe.dataset,
            model=self.recipe.model,
            access=unlearner.access,
            metrics=self._metrics(unlearned),
            reference_metrics=references["metrics"],
            roc=curves(posed),
            histograms=audits.histograms(claim),
            settings=settings,
            **self._costs(unlearner),
        )

    def _costs(self, unlearner: hf.Unlearner) -> dict[str, Any]:
        if not self.is_timed:
            return {}
        one = trees.take(self._shadow_models().original, 0)
        return costs(unlearner, one, self.scene.request)

    def _reference_audits(self, shadows) -> dict[str, Any]:
        """Measure retrained and original models, once for all methods."""
        if self._references is None:
            count = len(shadows.included)
            spare = trees.take(shadows.retrained, slice(count, None))
            self._references = {
                "floor": self._posed(spare),
                "original": self._posed(shadows.original),
                "metrics": {
                    "retrained": self._metrics(spare),
                    "original": self._metrics(shadows.original),
                },
            }
        return self._references

    def _posed(self, models) -> Posed:
        """Attack models posed as trained with the rows, beside retrained ones."""
        shadows, request = self._shadow_models(), self.scene.request
        pool, population = audits.pose(
            self.classifier,
            shadows,
            models,
            request,
            self.scene.retained,
            most=MOST,
        )
        # One variance for all examples where there are few models to each.
        options: Any = {
            "variance": "example" if self.models >= 64 else "global",
            "folds": min(8, self.models),
        }
        scores = {
            "u-lira": audits.lira(pool, **options),
            "offline lira": audits.offline_lira(pool, **options),
            "rmia": audits.rmia(pool, population),
        }
        return Posed(scores, pool.is_(audits.IN))

    def _weights(self, shadows, unlearned) -> list[audits.Audited]:
        """Attack the weights of some models; of half of the rows there is no kind."""
        if self.scene.halves:
            return []
        models = {
            "original": shadows.original,
            "retrained": shadows.retrained,
            "unlearned": unlearned,
        }
        some = {name: trees.take(each, slice(WEIGHED)) for name, each in models.items()}
        found = audits.weight_audits(
            self.key_weights,
            self.classifier,
            some,
            self.scene.request,
            self.scene.held_out,
        )
        listed = []
        for name, values in found["unlearned"].items():
            mean = np.mean(values)
            half = 1.96 * np.std(values, ddof=1) / np.sqrt(len(values))
            beside = (float(np.mean(found[k][name])) for k in ("retrained", "original"))
            # Neighbours are told apart beside a few retrained models, of whose own
            # spread these values know nothing.
            interval = None
            if name != "neighbours":
                interval = (float(mean - half), float(mean + half))
            floor, original = beside
            listed.append(audits.Audited(name, float(mean), interval, floor, original))
        return listed

    def _metrics(self, models) -> dict[str, dict[str, float]]:
        """Measure accuracies over models, each on what is its own to forget."""
        scene, shadows = self.scene, self._shadow_models()
        request = scene.request
        retained = request.retain
        some = jnp.flatnonzero(retained.weight)[:ROWS]
        there = jnp.flatnonzero(request.forget.weight)
        parts = {
            "retain_accuracy_train": retained.take(some),
            "retain_accuracy_test": scene.retained,
            "forget_accuracy_train": request.forget.take(there),
        }
        if scene.held_out is not None:
            is_poison = scene.name == "backdoor"
            name = "attack_success" if is_poison else "forget_accuracy_test"
            parts[name] = scene.held_out
        found = {}
        for name, examples in parts.items():
            logits = hf.models.population_logits(self.classifier, models, examples.x)
            right = np.asarray(logits).argmax(-1) == np.asarray(examples.y)
            weight = np.broadcast_to(np.asarray(examples.weight), right.shape)
            if name == "forget_accuracy_train":
                weight = shadows.included[:, there]
            values = np.average(right, axis=1, weights=weight)
            found[name] = {
                kind: float(getattr(values, kind)())
                for kind in ("mean", "std", "min", "max")
            }
        return found


def path_of(out: Path, method: str, settings: Mapping[str, float] | None) -> Path:
    """Name the file of a cell's row: other settings have another."""
    if not settings:
        return out / method / "row.json"
    text = json.dumps(settings, sort_keys=True)
    return out / f"{method}-{zlib.crc32(text.encode()):08x}" / "row.json"


def costs(unlearner: hf.Unlearner, variables, request) -> dict[str, Any]:
    """Time one request to one model, compiled before, and count what is kept for it."""
    key = jax.random.key(0)
    init, unlearn = jax.jit(unlearner.init), jax.jit(unlearner.unlearn)

    def timed(step, *arguments):
        jax.block_until_ready(step(*arguments))
        begin = time.perf_counter()
        found = jax.block_until_ready(step(*arguments))
        return found, time.perf_counter() - begin

    state, before = timed(init, key, variables, request.data)
    _, during = timed(unlearn, key, state, request)
    kept, own = (
        sum(leaf.nbytes for leaf in jax.tree.leaves(tree))
        for tree in (state, variables)
    )
    return {
        "seconds": {"init": before, "unlearn": during},
        "stored_bytes": max(kept - own, 0),
    }


def attacks(posed: Posed, floor: Posed, original: Posed) -> list[audits.Audited]:
    """Tell how well each attack tells models apart, beside floor and original."""
    found = []
    for name in posed.scores:

        def auc(of, rows=slice(None), name=name):
            scores, own = of.scores[name][rows], of.own[rows]
            if own.all() or not own.any():  # Of few models a draw may lack one side.
                return np.nan
            return audits.rates(scores[own], scores[~own], levels=()).auc

        def at(of, level=0.01, name=name):
            scores = of.scores[name]
            return audits.tpr_at(level, scores[of.own], scores[~of.own])

        found.append(
            audits.Audited(
                f"{name}, auc",
                auc(posed),
                audits.bootstrap(lambda rows: auc(posed, rows), len(posed.own)),
                auc(floor),
                auc(original),
            )
        )
        found.append(
            audits.Audited(
                f"{name}, true positives at 1 %",
                at(posed),
                None,
                at(floor),
                at(original),
            )
        )
    return found


def curves(posed: Posed) -> list[dict[str, Any]]:
    """Thin ROC curves out to a logarithmic grid; nothing is interpolated."""
    found = []
    for attack, scores in posed.scores.items():
        false, true, _ = roc_curve(
            posed.own.ravel(), scores.ravel(), drop_intermediate=False
        )
        grid = np.geomspace(1 / np.sum(~posed.own), 1, POINTS)
        best = [float(true[false <= level].max()) for level in grid]
        found.append({"attack": attack, "fpr": grid.tolist(), "tpr": best})
    return found
