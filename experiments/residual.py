"""A residual network on all of CIFAR-10 forgets: a class, random rows, four in turn.

    python experiments/residual.py --scenarios class --out runs/residual

Originals and retrained models have seeds of their own and take about 25 minutes of a
core each, one after another: a run that was stopped goes on within them. Methods are at
their defaults, ``pgu`` with the probe as its held-out rows; for random rows it is
``pgu/rows``, with its settings for these. None was tuned on these data. They answer for
all seeds in one program. What retraining takes is measured over a few steps and
multiplied.
"""

import dataclasses
import time
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import recipes
import study as studies
import tyro
from rich.console import Console

import hyperforget_jax as hf
import runs
from hyperforget_jax import trees

SCENARIOS = ("class", "sequence", "random")
# What is forgotten: of classes the first one, and then the others in turn.
LABELS, SHARE = (3, 5, 7, 9), 0.02
TIMED_STEPS = 20


@dataclasses.dataclass(frozen=True)
class Residual:
    """A residual network on all of CIFAR-10 forgets."""

    preset: Literal["cifar10_resnet8"] = "cifar10_resnet8"
    """Data set and classifier."""
    seeds: int = 3
    """Training seeds."""
    scenarios: tuple[str, ...] = SCENARIOS
    """What is asked: class, sequence (three classes after that one), random (2 % of the
    rows)."""
    methods: tuple[str, ...] = (
        *("logit_mask", "finetune", "ascent", "neggrad_plus"),
        *("msg", "l1_sparse", "fcs", "fiun", "pgu"),
    )
    """The methods to compare with retraining. Masks answer for classes alone."""
    resume: bool = False
    """Go on with a run that was stopped, or with other scenarios."""
    out: Path = Path("runs/residual")
    """Where models and results go."""


def key_of_class(label: int) -> jax.Array:
    """What a request for a class is answered by."""
    return jax.random.fold_in(jax.random.key(1), label)


def retrained_key(key: jax.Array) -> jax.Array:
    """What the retrained models of a request are trained from."""
    return jax.random.fold_in(key, zlib.crc32(b"retrain"))


class Study(studies.Study):
    """A study whose retrained models are trained one by one, and gone on with."""

    def __post_init__(self):
        super().__post_init__()
        self.states: dict[str, Any] = {}  # Of every method, after a class.

    def retrain(self, folder, request, key) -> studies.Answer:
        models = self.recipe.train(
            retrained_key(key), request.retain, self.seeds, folder / "retrained"
        ).variables
        seconds = {"init": 0.0, "unlearn": self._seconds(request), "compile": 0.0}
        return studies.Answer(models, seconds, {})

    def _seconds(self, request: hf.ForgetRequest) -> float:
        """Extrapolate what it takes to retrain a model from a few steps."""
        steps = min(TIMED_STEPS, self.recipe.steps)
        few = dataclasses.replace(self.recipe, steps=steps)
        unlearner = few.retrain(self.classifier)
        unlearn = jax.jit(unlearner.unlearn)
        one = trees.take(self.originals, 0)
        state = unlearner.init(jax.random.key(0), one, request.data)
        studies.timed(unlearn, jax.random.key(1), state, request)
        _, seconds = studies.timed(unlearn, jax.random.key(1), state, request)
        return seconds / steps * self.recipe.steps


def main(config: Residual) -> None:
    """Run the study and write what it found."""
    console, begin = Console(), time.perf_counter()
    runs.check_known("--scenarios", config.scenarios, SCENARIOS)
    recipe = recipes.RECIPES[config.preset]
    own = {name: method.hyper for name, method in RIVALS.items()}
    record = studies.record_of(config, recipe, own)
    record.pop("scenarios")
    runs.open_folder(config.out, record, config.resume)
    study = Study("residual", recipe, config.seeds, config.out, console)
    probe = study.splits.probe
    made = studies.METHODS | RIVALS
    made["pgu"] = studies.Method(lambda c: hf.pgu(c, probe=probe), {})
    methods = {name: made[name] for name in config.methods}
    for scenario in SCENARIOS:
        if scenario in config.scenarios:
            _ASK[scenario](study, methods)
    runs.write(config, study.rows, record, begin)
    shown = ("forget_accuracy_test", "retain_accuracy_test", "js_to_oracle")
    console.print(runs.summary(study.rows, ("request", "method"), dict.fromkeys(shown)))


RIVALS = {
    name: studies.Method(getattr(hf.rivals, name), {})
    for name in ("msg", "l1_sparse", "fcs")
}


def _class(study: Study, methods: Mapping[str, studies.Method]) -> None:
    """Forget one class, which the others of the sequence may follow."""
    _next_class(study, methods, study.splits.train, 0)


def _sequence(study: Study, methods: Mapping[str, studies.Method]) -> None:
    """Forget three classes more, one after another, and judge all that are gone."""
    if not study.states:
        _class(study, methods)
    data = hf.forget_classes(study.splits.train, LABELS[:1]).retain
    for number in range(1, len(LABELS)):
        data = _next_class(study, methods, data, number)


def _next_class(study: Study, methods, data: hf.Examples, number: int) -> hf.Examples:
    label = LABELS[number]
    request = hf.forget_classes(data, (label,))
    train = study.splits.train
    some = train.take(jnp.arange(study.recipe.judged or train.y.size))
    study.answer(
        "sequence" if number else "class",
        f"class {label}",
        request,
        methods,
        key_of_class(label),
        states=study.states,
        evaluated=hf.forget_classes(some, LABELS[: number + 1]),
        longer=False,
    )
    return request.retain


def _random(study: Study, methods: Mapping[str, studies.Method]) -> None:
    """Forget random rows."""
    probe = study.splits.probe
    asked = dict(methods)
    asked.pop("logit_mask", None)
    if asked.pop("pgu", None):
        asked["pgu/rows"] = studies.Method(
            lambda c: hf.pgu(c, hf.PGUConfig.rows(), probe=probe), {}
        )
    study.answer(
        "random",
        f"{SHARE:.0%} of the rows",
        hf.forget_random(jax.random.key(5), study.splits.train, SHARE),
        asked,
        jax.random.key(6),
        longer=False,
    )


_ASK = {"class": _class, "random": _random, "sequence": _sequence}


if __name__ == "__main__":
    with runs.resumable():
        main(tyro.cli(Residual))
