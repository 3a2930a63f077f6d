"""Why a hypernetwork's models are surer than retrained ones, and what helps: trials.

    python experiments/tune_dihyfo.py --out runs/tune-dihyfo

On digits. Every trial changes one thing of the quickstart's preset: how the runs of the
zoo are taught, or what the trained hypernetwork is asked for and how it is sampled. It
is made anew from several seeds of starts, teachers and hypernetwork, and answers for
the same originals, which no zoo has and of seeds that no table uses. The goal is that
of search.py, the distance from retrained models in the confidence of labels, mean over
all classes but that of the tables.

Rows called ``teacher`` are runs of the zoo's own rule from the same originals: what the
hypernetwork is to imitate. ``original`` is what a method that does nothing has, and
``retrain``, from other seeds, is the least that there can be. The test split is not
read.
"""

import dataclasses
import functools
import json
import time
from pathlib import Path
from typing import Any

import audit_scenes
import dihyfo_presets
import jax
import jax.numpy as jnp
import search
import tyro
from rich.console import Console

import hyperforget_jax as hf
import runs
from hyperforget_jax import hypernet, trees

# Far from the seeds of the tables, which begin at zero.
_KEY = 3_000
_CLASSES = [label for label in range(10) if label != audit_scenes.CLASS]
_SHOWN = ("goal", "confidence_forgotten", "retain_accuracy_probe")


@dataclasses.dataclass(frozen=True)
class Tune:
    """Try what may bring a hypernetwork's models nearer to retrained ones."""

    preset: str = "digits"
    """Data, classifier, zoo and hypernetwork, as for quickstart.py."""
    seeds: int = 5
    """Seeds of zoo, teachers and hypernetwork."""
    models: int = 8
    """Originals that are to forget, and retrained models a class."""
    resume: bool = False
    """Go on with a run that was stopped."""
    out: Path = Path("runs/tune-dihyfo")
    """Where models and results go."""


# How runs are taught: fields of the preset. Before these trials it was BEFORE.
BEFORE: dict[str, Any] = {"temperature": 1.0}
TAUGHT: tuple[dict[str, Any], ...] = (
    BEFORE,
    BEFORE | {"forget_rate": 1e-3},
    {"temperature": 2.0},
    {"temperature": 4.0},
    {"temperature": 8.0},
)
# The hypernetworks that are trained, by what their zoos are taught, and how they are
# asked. "retrained" asks for the loss that the teachers have on the forgotten class, on
# training rows, and not for that of the zoo's models.
ASKED: tuple[tuple[dict[str, Any], tuple[dict[str, Any], ...]], ...] = (
    (BEFORE, ({}, {"retrained": True}, {"steps": 20}, {"scale": 0.8})),
    ({"temperature": 4.0}, ({}, {"retrained": True})),
)


def main(config: Tune) -> None:
    """Run the trials that are missing, and write them, the best first."""
    console, begin = Console(), time.perf_counter()
    runs.check_known("--preset", [config.preset], dihyfo_presets.QUICKSTART)
    preset = dihyfo_presets.QUICKSTART[config.preset]
    record = {
        "preset": config.preset,
        "models": config.models,
        "recipe": preset.recipe.record(),
        "dihyfo": preset.quickstart_record(),
        "taught": TAUGHT,
        "asked": ASKED,
    }
    runs.open_folder(config.out, record, config.resume)
    bench = Bench(preset, config, console)
    found = [bench.of_seed(seed) for seed in range(config.seeds)]
    rows = []
    for trial in zip(*found, strict=True):
        method, factors, _ = trial[0]
        rows.append(bench.row(method, factors, [metrics for *_, metrics in trial]))
    order = ("original", "retrain", "teacher", "dihyfo")
    rows.sort(
        key=lambda row: (order.index(row["method"]), row["metrics"]["goal"]["mean"])
    )
    runs.write(config, rows, record, begin, references=False)
    console.print(runs.summary(rows, ("method", "factors"), dict.fromkeys(_SHOWN)))


class Bench:
    """Originals and retrained models, and what is measured of models beside them."""

    def __init__(self, preset: dihyfo_presets.Preset, config: Tune, console: Console):
        self.preset, self.out, self.console = preset, config.out, console
        self.models = config.models
        self.classifier, self.splits = preset.recipe.classifier, preset.recipe.load()
        keys = jax.random.split(jax.random.key(_KEY), 4)
        every = hf.forget_each_class(self.splits.train)
        some = jnp.asarray(_CLASSES)
        self.asked = jnp.asarray(every.classes)[some]
        self.forgotten = jax.vmap(self.splits.train.take)(jnp.asarray(every.rows)[some])
        self.originals = self._train(keys[0], "originals", None)
        self.retrained, self.others = (
            self._train(key, name, _CLASSES)
            for key, name in ((keys[1], "retrained"), (keys[2], "others"))
        )
        self.keys = jax.random.split(keys[3], config.models)

    def of_seed(self, seed: int) -> list[tuple[str, dict[str, Any], dict[str, float]]]:
        """Measure every trial from one seed, or read what was measured before."""
        path = self.out / f"seed-{seed}.json"
        if not path.exists():
            runs.keep(path, self._of_seed(jax.random.key(_KEY + 1 + seed)))
            self.console.log(f"seed {seed}: {path}")
        return json.loads(path.read_text())

    def row(self, method: str, factors, metrics) -> dict[str, Any]:
        """Make the row of a trial."""
        recipe = self.preset.recipe
        return hf.report.results_row(
            method,
            metrics,
            factors=factors,
            dataset=recipe.dataset,
            model=recipe.model,
            scenario="class",
            request=f"each class but {audit_scenes.CLASS}",
            access=None,
            seconds=None,
        )

    def _of_seed(self, key):
        keys = jax.random.split(key, 4)
        originals = trees.stack([self.originals] * len(_CLASSES))
        found = [
            ("original", {}, self._measure(originals)),
            ("retrain", {}, self._measure(self.others)),
        ]
        preset, train = self.preset, self.splits.train
        log_probs = hypernet.retrained_log_probs(
            keys[0],
            self.classifier,
            train,
            masks=preset.masks,
            config=preset.start(),
            members=preset.teachers,
        )
        starts = self._train(keys[1], None, None, members=preset.starts)
        for changes in TAUGHT:
            changed = dataclasses.replace(preset, **changes)

            def zoo(starts, changed=changed):
                return hypernet.edit_zoo(
                    keys[2],
                    self.classifier,
                    train,
                    self.splits.probe,
                    masks=changed.masks,
                    starts=starts,
                    start=changed.start(),
                    forget=changed.forget(),
                    checkpoint_steps=changed.checkpoint_steps,
                    temperature=changed.temperature,
                    log_probs=log_probs,
                )

            ends = _ends(zoo(self.originals))
            found.append(("teacher", changes, self._measure(ends)))
            asked = next((how for taught, how in ASKED if taught == changes), ())
            if asked:
                network = hypernet.build(self.classifier, train.x, changed.network)
                params, _ = hypernet.fit_hypernetwork(
                    keys[3],
                    network,
                    self.classifier,
                    zoo(starts),
                    train,
                    changed.train,
                )
                for how in asked:
                    answers = self._answers(network, params, log_probs, **how)
                    found.append(("dihyfo", changes | how, self._measure(answers)))
        return found

    def _answers(self, network, params, log_probs, retrained=False, **sampling):
        """Let the hypernetwork answer, ``[classes, models, ...]``."""

        @jax.jit
        def answer(keys, originals, params, asked, prompts):
            def one(classes, prompt, key, variables):
                unlearner = hf.dihyfo(
                    self.classifier, network, params, prompt=prompt, **sampling
                )
                state = unlearner.init(key, variables, self.splits.train)
                request = hf.forget_labels([0], num_classes=classes.size)
                request = request._replace(classes=classes)
                return unlearner.unlearn(key, state, request)[0].variables

            of_models = jax.vmap(one, (None, None, 0, 0))
            return jax.vmap(of_models, (0, 0, None, None))(
                asked, prompts, keys, originals
            )

        of_classes = jax.vmap(hypernet.profile, (None, 0))
        prompts = of_classes(params.profiles, self.asked)
        if retrained:
            y = self.splits.train.y
            own = jnp.stack([-jnp.mean(log_probs[c, y == c, c]) for c in _CLASSES])
            prompts = jnp.where(self.asked, own[:, None], prompts)
        return answer(self.keys, self.originals, params, self.asked, prompts)

    def _measure(self, models) -> dict[str, float]:
        """Average over classes and models; ``[classes, models, ...]``."""
        probe = self.splits.probe
        found = _measured(
            self.classifier, models, self.retrained, self.forgotten, self.asked, probe
        )
        return {name: float(value) for name, value in found.items()}

    def _train(self, key, name, classes, members=None) -> Any:
        """Train models, a stack of them for each class that they do without."""
        train, recipe = self.splits.train, self.preset.recipe
        count = members or self.models
        weights = None
        if classes:
            without = [jnp.where(train.y == c, 0, train.weight) for c in classes]
            weights = jnp.repeat(jnp.stack(without), count, axis=0)
        members, folder = count * len(classes or [0]), self.out / name if name else None
        variables = recipe.train(key, train, members, folder, weights).variables
        if not classes:
            return variables
        shape = len(classes), count
        return jax.tree.map(
            lambda leaf: leaf.reshape(*shape, *leaf.shape[1:]), variables
        )


@functools.partial(jax.jit, static_argnums=0)
def _measured(classifier, models, retrained, forgotten, asked, probe):
    """Average what search.py measures, and confidences."""

    def of_class(own):
        models, retrained, forgotten, classes = own
        covered = classes[probe.y]
        judged = {
            "forgotten": forgotten,
            "held_out": probe._replace(weight=jnp.where(covered, probe.weight, 0)),
            "retained": probe._replace(weight=jnp.where(covered, 0, probe.weight)),
        }
        found = search.distances(classifier, models, retrained, judged)
        for name, examples in judged.items():
            logits = hf.models.population_logits(classifier, models, examples.x)
            confidence = jax.vmap(hf.losses.margin, (0, None))(logits, examples.y)
            found[f"confidence_{name}"] = jnp.average(
                confidence.mean(0), weights=examples.weight
            )
        return jax.tree.map(jnp.mean, found)

    found = jax.lax.map(of_class, (models, retrained, forgotten, asked))
    return jax.tree.map(jnp.mean, found)


def _ends(zoo: hypernet.Zoo) -> Any:
    """Return where the runs of every class end, ``[classes, starts, ...]``."""
    return trees.stack(
        [
            jax.tree.map(lambda leaf, c=c: leaf[zoo.masks[:, c], -1], zoo.variables)
            for c in _CLASSES
        ]
    )


if __name__ == "__main__":
    main(tyro.cli(Tune))
