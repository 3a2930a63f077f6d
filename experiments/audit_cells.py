"""One cell of a table of audits: one method in one scenario."""

import json
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import audit_scenes
import jax
import jax.numpy as jnp
import numpy as np
import study as studies
from audit_attacks import Posed, attacks, curves
from recipes import Recipe

import hyperforget_jax as hf
import runs
from hyperforget_jax import audits, trees

# What is counted at the most: examples that are judged, models whose weights are
# attacked, rows that accuracy is measured on.
MOST, WEIGHED, ROWS = 100, 16, 2_000


class Cells:
    """The cells of one scenario, which share their shadow models.

    Attributes:
        recipe: how models are trained.
        scene: what is to be forgotten.
        models: how many a side.
        out: the scenario's folder.
        is_timed: whether requests are timed, which an idle machine alone is good for.
        most: how many examples are judged at the most.
        shadows: models that are trained already; by default they are trained.
    """

    def __init__(
        self,
        recipe: Recipe,
        scene: audit_scenes.Scene,
        models: int,
        out: Path,
        is_timed: bool = True,
        *,
        most: int = MOST,
        shadows: audits.Shadows | None = None,
    ):
        self.recipe, self.scene, self.models, self.out = recipe, scene, models, out
        self.is_timed, self.most = is_timed, most
        self.classifier = recipe.classifier
        # Apart: a fold of a key may be one of its splits.
        keys = jax.random.split(jax.random.key(7), 3)
        self.key_train, self.key_unlearn, self.key_weights = keys
        self._shadows = shadows
        self._references: dict[str, Any] | None = None

    def row(
        self,
        method: str,
        make: Callable[[], hf.Unlearner],
        settings: Mapping[str, float | str] | None = None,
    ) -> dict[str, Any]:
        """Return a cell's row, made now or in a run before by the same settings."""
        path = path_of(self.out, method, settings)
        if not path.exists():
            runs.keep(path, self._row(method, make(), settings, path.parent))
        return json.loads(path.read_text())

    def shadow_models(self) -> audits.Shadows:
        """Return the shadow models, trained now or in a run before."""
        if self._shadows is None:
            self._shadows = self._train()
        return self._shadows

    def _train(self) -> audits.Shadows:
        recipe = self.recipe
        return audits.train_shadows(
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

    def _adapted(self, method: str, unlearner: hf.Unlearner) -> hf.Unlearner:
        """Let a method answer such requests."""
        del method  # One is as another here.
        if self.scene.in_turn:
            return audit_scenes.in_turn(unlearner, self.scene.in_turn)
        return unlearner

    def _row(self, method, unlearner, settings, folder: Path) -> dict[str, Any]:
        unlearner = self._adapted(method, unlearner)
        unlearned = self._answers(method, unlearner, folder / "models")
        claim = self.claim(unlearned)
        audits.save_folder(folder, *claim)
        judgement = audits.judge(*claim)
        references = self._reference_audits()
        posed = self.posed(unlearned)
        found = attacks(posed, references["floor"], references["original"])
        found += self._further(unlearned, posed)
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
            **self._costs(method, unlearner),
        )

    def _answers(self, method: str, unlearner: hf.Unlearner, folder: Path):
        """Unlearn all originals."""
        return audits.unlearn_shadows(
            jax.random.fold_in(self.key_unlearn, zlib.crc32(method.encode())),
            unlearner,
            self.shadow_models(),
            self.scene.request,
            directory=folder,
        )

    def _costs(self, method: str, unlearner: hf.Unlearner) -> dict[str, Any]:
        del method  # One is as another here.
        if not self.is_timed:
            return {}
        one = trees.take(self.shadow_models().original, 0)
        return costs(unlearner, one, self.scene.request)

    def _reference_audits(self) -> dict[str, Any]:
        """Measure retrained and original models, once for all methods."""
        if self._references is None:
            shadows = self.shadow_models()
            count = len(shadows.included)
            spare = trees.take(shadows.retrained, slice(count, None))
            self._references = {
                "floor": self.posed(spare),
                "original": self.posed(shadows.original),
                "metrics": {
                    "retrained": self._metrics(spare),
                    "original": self._metrics(shadows.original),
                },
            }
        return self._references

    def claim(self, unlearned) -> audits.Claim:
        """Collect what unlearned models and the others say of the rows."""
        return audits.shadow_claim(
            self.classifier,
            self.shadow_models(),
            unlearned,
            self.scene.request,
            most=self.most,
        )

    def posed(self, models) -> Posed:
        """Attack models posed as trained with the rows, beside retrained ones."""
        shadows, request = self.shadow_models(), self.scene.request
        pool, population = audits.pose(
            self.classifier,
            shadows,
            models,
            request,
            self.scene.retained,
            most=self.most,
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

    def _further(self, unlearned, posed: Posed) -> list[audits.Audited]:
        """Attack the weights of some models; of half of the rows there is no kind."""
        del posed  # Of the rows alone.
        if self.scene.halves:
            return []
        shadows = self.shadow_models()
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
            # Neighbours are classified beside a few retrained models, of whose own
            # spread these values know nothing.
            interval = None
            if name != "neighbours":
                interval = (float(mean - half), float(mean + half))
            floor, original = beside
            listed.append(audits.Audited(name, float(mean), interval, floor, original))
        return listed

    def accuracies(self, models) -> dict[str, np.ndarray]:
        """Measure each model, ``[K]``, on what is its own to forget and on the rest."""
        scene, shadows = self.scene, self.shadow_models()
        request = scene.request
        retained = request.retain
        # As many rows whatever their weights, so that all share a compilation.
        some = jnp.argsort(retained.weight == 0)[:ROWS]
        parts = {
            "retain_accuracy_train": retained.take(some),
            "retain_accuracy_test": scene.retained,
            "forget_accuracy_train": request.forget,
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
                weight = shadows.included
            found[name] = np.average(right, axis=1, weights=weight)
        return found

    def _metrics(self, models) -> dict[str, dict[str, float]]:
        return {
            name: {
                kind: float(getattr(values, kind)())
                for kind in ("mean", "std", "min", "max")
            }
            for name, values in self.accuracies(models).items()
        }


def path_of(out: Path, method: str, settings: Mapping[str, float | str] | None) -> Path:
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
        return studies.timed(step, *arguments)

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
