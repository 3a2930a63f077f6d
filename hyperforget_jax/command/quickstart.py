"""``hyperforget quickstart``: a class of digits forgotten, beside retraining."""

import dataclasses
import pathlib
import sys
from typing import Any

import jax
import optax
from rich.console import Console

import hyperforget_jax as hf
from hyperforget_jax import atomic_write
from hyperforget_jax.base import Array, Variables
from hyperforget_jax.command.answer import answer

__all__ = ["Quickstart"]

_STEPS = 800
_RECIPE: dict[str, Any] = dict(
    optimizer=optax.adamw(optax.cosine_decay_schedule(5e-3, _STEPS), weight_decay=1.0),
    steps=_STEPS,
    batch_size=64,
)


@dataclasses.dataclass(frozen=True)
class Quickstart:
    """Train classifiers on digits, unlearn a class, and compare with retraining.

    By logit_mask, finetune, fiun and pgu. Writes results.json and report.html. Takes
    at most three minutes on two cores.
    """

    forget: tuple[int, ...] = (3,)
    """Labels of the classes to forget."""
    seeds: int = 5
    """Number of models by training seed; means of fewer than 5 are not reliable."""
    out: pathlib.Path = pathlib.Path("runs/quickstart")
    """Folder to write to. It must be empty, or not exist yet."""

    def run(self) -> int:
        """Train, forget, evaluate, write, print, and return the exit code."""
        hf.checks.check_sizes(seeds=self.seeds)
        with atomic_write.new_folder("--out", self.out) as folder:
            document = _study(self, folder)
        console = Console()
        table = hf.report.table(
            document["rows"],
            min_seeds=min(5, self.seeds),
            references=self.seeds > 1,  # One retrained model has no ceiling.
        )
        console.print(table)
        if self.seeds < 5:
            console.print(
                f"A smoke run: by fewer than five models ({self.seeds}) these numbers "
                "mean nothing.",
                highlight=False,
            )
        console.print(
            f"Report: {self.out / 'report.html'}", markup=False, soft_wrap=True
        )
        return 0


def _study(options: Quickstart, folder: pathlib.Path) -> dict[str, Any]:
    splits = hf.data.load("digits")
    classifier = hf.from_linen(hf.models.MLP((64,)))
    request = hf.forget_classes(splits.train, options.forget)
    _say(f"Training {options.seeds} models, and as many without the forgotten classes.")
    key_fit, key_retrain, key_methods = jax.random.split(jax.random.key(0), 3)
    originals, retrained = (
        hf.fit_population(key, classifier, data, members=options.seeds, **_RECIPE)
        for key, data in ((key_fit, splits.train), (key_retrain, request.retain))
    )
    methods = {
        "logit_mask": hf.logit_mask(classifier),
        "finetune": hf.finetune(classifier),
        "fiun": hf.fiun(classifier),
        "pgu": hf.pgu(classifier, probe=splits.probe),
    }
    models, seconds = {}, {}
    for number, (name, unlearner) in enumerate(methods.items()):
        _say(f"Unlearning by {name}.")
        key = jax.random.fold_in(key_methods, number)
        models[name], seconds[name] = _answer_each(
            key, unlearner, originals.variables, request, options.seeds
        )
    _say("Evaluating.")
    return hf.report.compare(
        folder,
        classifier,
        models,
        request,
        splits.test,
        original=originals.variables,
        retrained=retrained.variables,
        dataset="digits",
        access={name: unlearner.access for name, unlearner in methods.items()},
        seconds=seconds,
    )


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")


def _answer_each(
    key: Array,
    unlearner: hf.Unlearner,
    variables: Variables,
    request: hf.ForgetRequest,
    seeds: int,
) -> tuple[Variables, dict[str, float]]:
    """Answer for every seed's model at once; seconds are those of one."""
    of_each = unlearner._replace(
        init=jax.vmap(unlearner.init, (0, 0, None)),
        unlearn=jax.vmap(unlearner.unlearn, (0, 0, None)),
    )
    keys = tuple(jax.random.split(key, (2, seeds)))
    after, seconds, _ = answer(keys, of_each, variables, request)
    return after, {
        phase: each if phase == "compile" else each / seeds
        for phase, each in seconds.items()
    }
