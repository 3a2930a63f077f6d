"""Audit every method: can models that forgot be told from retrained ones?

    python experiments/audit.py --preset digits --tier standard
    python experiments/audit.py --preset digits --check --scenarios class --methods fiun

For every scenario train shadow models, originals and retrained ones, once; let every
method answer for all of them; judge. Leave ``results.json``, a page, and for every cell
a folder that ``hyperforget audit`` reads. A run that was stopped goes on cell by cell.
"""

import dataclasses
import hashlib
import json
import time
from pathlib import Path
from typing import Any, Literal, NamedTuple

import audit_scenes
import dihyfo_artifacts
import dihyfo_presets
import jax
import numpy as np
import recipes
import study as studies
import tyro
from rich.console import Console
from sklearn.metrics import roc_curve

import hyperforget_jax as hf
import runs
from hyperforget_jax import atomic_write, audits, trees

RECIPES = {
    "digits": recipes.RECIPES["digits"],
    "mnist": dataclasses.replace(
        dihyfo_presets.PRESETS["mnist"].recipe, rows=12_000, held_out=2_000
    ),
    "mnist_cnn": recipes.Recipe(
        "mnist", (), 2e-3, 0.1, 400, 64, "cnn-16-32-64", rows=6_000, held_out=1_000
    ),
}
ZOOS = {
    name: dataclasses.replace(dihyfo_presets.QUICKSTART[zoo], recipe=RECIPES[name])
    for name, zoo in (("digits", "digits"), ("mnist", "mnist"))
}
TIERS = {"smoke": 16, "standard": 64, "full": 128}
CLASS_ONLY = ("logit_mask", "dihyfo")
METHODS = ("retrain", *studies.BASELINES, "fiun", "pgu", "dihyfo")

# What is drawn and what is counted: examples that are judged, models whose weights are
# attacked, points of a curve.
MOST, WEIGHED, POINTS, ROWS = 100, 16, 60, 2_000


@dataclasses.dataclass(frozen=True)
class Audit:
    """Audit every method in every scenario."""

    preset: Literal["digits", "mnist", "mnist_cnn"] = "digits"
    """Data set and classifier."""
    tier: Literal["smoke", "standard", "full"] = "standard"
    """How many models a side: 16, 64 or 128. Fewer than 32 have no forgetting score."""
    models: int | None = None
    """Another number of models a side than the tier's."""
    scenarios: tuple[str, ...] = audit_scenes.SCENARIOS
    """What is to be forgotten."""
    methods: tuple[str, ...] = METHODS
    """The methods. logit_mask and dihyfo answer for classes alone; retrain, from seeds
    of its own, is the control that is not to be accused."""
    check: bool = False
    """Compare with the committed record, within its intervals, and fail if it differs:
    by the record's own number of models."""
    resume: bool = False
    """Go on with a run that was stopped."""
    out: Path = Path("runs/audit")
    """Where models, results and the page go."""


class Posed(NamedTuple):
    """Attacks on models posed as trained with what was to be forgotten.

    Attributes:
        scores: by attack, and whether a model had an example, ``[2 K, M]`` each.
        own: bool, ``[2 K, M]``.
    """

    scores: dict[str, np.ndarray]
    own: np.ndarray


def main(config: Audit) -> None:
    """Run the audits and write what they found."""
    console, begin = Console(), time.perf_counter()
    recipe = RECIPES[config.preset]
    runs.check_known("--scenarios", config.scenarios, audit_scenes.SCENARIOS)
    runs.check_known("--methods", config.methods, METHODS)
    committed = Path(__file__).parent / "results" / f"audit-{config.preset}.json"
    record: dict[str, Any] = {}
    if config.check:
        if config.resume:
            raise SystemExit("--check makes a cell anew: leave out --resume.")
        if not committed.exists():
            raise SystemExit(f"--check: there is no record {committed.name}.")
        record = hf.report.read_audit(committed)
        config = dataclasses.replace(config, models=record["config"]["models"])
    models = config.models or TIERS[config.tier]
    if models < 5:
        raise SystemExit(f"--models must be at least 5, got {models}.")
    if not cells_of(config):
        raise SystemExit("logit_mask and dihyfo answer for classes alone.")
    settings = {
        "preset": config.preset,
        "models": models,
        "recipe": recipe.record(),
        "hyper": {name: dict(method.hyper) for name, method in studies.METHODS.items()},
        "examples": MOST,
        "sources": sources(),
    }
    settings = json.loads(json.dumps(settings))  # As it is read again.
    runs.open_folder(config.out, settings, config.resume)
    rows = []
    wanted = cells_of(config)
    for scenario in dict.fromkeys(scenario for scenario, _ in wanted):
        console.log(f"{scenario}: training shadow models")
        scene = audit_scenes.make(scenario, recipe, config.out / scenario)
        cells = Cells(config.preset, scene, models, config.out / scenario, console)
        for method in (method for of, method in wanted if of == scenario):
            row = cells.row(method)
            console.log(f"{scenario}, {method}: {row['verdict']}")
            rows.append(row)
    document = hf.report.audit_document(
        rows,
        preset=config.preset,
        tier="smoke" if models < 32 else "standard" if models < 128 else "full",
        config=settings,
        seconds=time.perf_counter() - begin,
        repository=Path(__file__).parent,
    )
    hf.report.write_audit(config.out / "results.json", document)
    hf.report.write_audit_page(config.out / "report.html", document)
    console.print(f"Report: {config.out / 'report.html'}")
    if config.check and (differences := compared(rows, record["rows"])):
        raise SystemExit("\n".join(differences))


def cells_of(config: Audit) -> list[tuple[str, str]]:
    """List scenarios with the methods that answer for them."""
    return [
        (scenario, method)
        for scenario in config.scenarios
        for method in config.methods
        if scenario == "class" or method not in CLASS_ONLY
        if method != "dihyfo" or config.preset in ZOOS
    ]


def sources() -> str:
    """Compute a digest of the code: rows of other code are not gone on with."""
    here = Path(__file__).parent
    files = [*Path(hf.__file__).parent.rglob("*.py"), *here.glob("*.py")]
    text = b"".join(path.read_bytes() for path in sorted(files))
    return hashlib.sha256(text).hexdigest()


class Cells:
    """The cells of one scenario, which share their shadow models."""

    def __init__(self, preset, scene, models, out, console):
        self.preset, self.scene, self.out = preset, scene, out
        self.console, self.models = console, models
        self.recipe = RECIPES[preset]
        self.classifier = self.recipe.classifier
        # Apart: a fold of a key may be one of its splits.
        keys = jax.random.split(jax.random.key(7), 3)
        self.key_train, self.key_unlearn, self.key_weights = keys
        self._shadows: audits.Shadows | None = None
        self._references: dict[str, Any] | None = None

    def row(self, method: str) -> dict[str, Any]:
        """Return a cell's row, made now or in a run before."""
        path = self.out / method / "row.json"
        if not path.exists():
            row = self._row(method)
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

    def _row(self, method: str) -> dict[str, Any]:
        shadows, request = self._shadow_models(), self.scene.request
        unlearner = self._unlearner(method)
        directory = self.out / method / "models"
        begin, is_fresh = time.perf_counter(), not directory.exists()
        unlearned = audits.unlearn_shadows(
            jax.random.fold_in(self.key_unlearn, METHODS.index(method)),
            unlearner,
            shadows,
            request,
            directory=directory,
        )
        seconds = time.perf_counter() - begin
        claim = audits.shadow_claim(
            self.classifier, shadows, unlearned, request, most=MOST
        )
        audits.save_folder(self.out / method, *claim)
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
            # With compilation and preparation, spread over all models.
            seconds={"unlearn": seconds / len(shadows.included)} if is_fresh else None,
        )

    def _unlearner(self, method: str) -> hf.Unlearner:
        if method == "retrain":
            return self.recipe.retrain(self.classifier)
        if method == "pgu":
            return hf.pgu(self.classifier, probe=self.scene.splits.probe)
        if method != "dihyfo":
            return studies.METHODS[method](self.classifier)
        artifacts = dihyfo_artifacts.Artifacts(
            ZOOS[self.preset],
            self.out.parent / "dihyfo",
            self.scene.splits,
            self.classifier,
        )
        trained = artifacts.trained("dihyfo_2", dihyfo_presets.Variant())
        return hf.dihyfo(self.classifier, *trained)

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
            request.split(self.scene.splits.test)[1],
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
        retain_test = request.split(scene.splits.test)[1]
        retained = request.retain
        some = np.flatnonzero(np.asarray(retained.weight))[:ROWS]
        there = np.flatnonzero(np.asarray(request.forget.weight))
        parts = {
            "retain_accuracy_train": retained.take(some),
            "retain_accuracy_test": retain_test,
            "forget_accuracy_train": request.forget.take(there),
        }
        if scene.held_out is not None:
            is_class = scene.name == "class"
            name = "forget_accuracy_test" if is_class else "attack_success"
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


def attacks(posed: Posed, floor: Posed, original: Posed) -> list[audits.Audited]:
    """Tell how well each attack tells models apart, beside floor and original."""
    found = []
    for name in posed.scores:

        def auc(of, rows=slice(None), name=name):
            scores, own = of.scores[name][rows], of.own[rows]
            if own.all() or not own.any():  # Of few models a draw may lack one side.
                return np.nan
            return audits.rates(scores[own], scores[~own]).auc

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


def compared(rows, recorded) -> list[str]:
    """Say where rows are farther from recorded ones than their intervals explain.

    Four standard errors of the difference, since there are many audits; and a fiftieth,
    for values whose spread is nought.
    """
    before = {(row["scenario"], row["method"]): row for row in recorded}
    found = []
    for row in rows:
        place = (row["scenario"], row["method"])
        if place not in before:
            found.append(f"{place}: is not in the record.")
            continue
        own, old = (
            {each["audit"]: each for each in of["audits"]}
            for of in (row, before[place])
        )
        if own.keys() != old.keys():
            found.append(
                f"{place}: has other audits, {sorted(own.keys() ^ old.keys())}."
            )
        for name in own.keys() & old.keys():
            pair = own[name], old[name]
            if any(each["interval"] is None for each in pair):
                continue
            halves = [(high - low) / 2 for low, high in (e["interval"] for e in pair)]
            most = max(0.02, 4 * np.hypot(*halves) / 1.96)
            gap = abs(pair[0]["value"] - pair[1]["value"])
            if gap > most:
                found.append(
                    f"{place}: {name} is {gap} from the record, beyond {most}."
                )
        if row["accused_by"] != before[place]["accused_by"]:
            found.append(
                f"{place}: told by {row['accused_by']}, and in the record by "
                f"{before[place]['accused_by']}."
            )
    return found


if __name__ == "__main__":
    try:
        main(tyro.cli(Audit))
    except KeyboardInterrupt:
        raise SystemExit(
            "Stopped. The same command with --resume goes on from here."
        ) from None
