"""Presets of the study of hypernetworks: models, zoos and networks."""

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import optax
import recipes

from hyperforget_jax import hypernet


def _pairs(seen: int) -> tuple[tuple[tuple[int, int], ...], ...]:
    """Split the 45 pairs of classes: in the zoo, and in no zoo, a third at least."""
    pairs = list(itertools.combinations(range(10), 2))
    order = np.random.default_rng(0).permutation(45)
    unseen = tuple(sorted(pairs[row] for row in order[:16]))
    return tuple(sorted(pairs[row] for row in order[16 : 16 + seen])), unseen


@dataclasses.dataclass(frozen=True)
class OtherTraining:
    """How models are trained that no usual zoo has: without decay.

    Attributes:
        name: for tables.
        optimizer: ``"adam"`` or ``"sgd"``, this with momentum.
        learning_rate: its.
        steps: minibatches.
        cosine: whether the rate falls to zero, along a cosine.
        mixed: whether the mixed zoo has such starts.
    """

    name: str
    optimizer: str
    learning_rate: float
    steps: int
    cosine: bool
    mixed: bool

    def config(self, batch_size: int) -> hypernet.FitConfig:
        """Return how they are fitted."""
        rate: Any = self.learning_rate
        if self.cosine:
            rate = optax.cosine_decay_schedule(rate, self.steps)
        make = {"adam": optax.adam, "sgd": lambda rate: optax.sgd(rate, 0.9)}
        return hypernet.FitConfig(make[self.optimizer](rate), self.steps, batch_size)


@dataclasses.dataclass(frozen=True)
class Preset:
    """What a study is made of.

    Attributes:
        recipe: how classifiers are trained: those to be changed, the zoo's starts, and
            the teachers.
        starts: of the edit zoo.
        teachers: retrained models a mask, whose mean prediction teaches its runs.
        temperature: of what is taught.
        forget_rate: the largest learning rate of the runs of the edit zoo, by Adam;
            it warms up, so that early checkpoints have forgotten a little, and falls
            along a cosine.
        forget_warmup: minibatches of the warm-up.
        forget_steps: minibatches in all.
        checkpoint_steps: where runs are kept.
        generate_runs: runs a mask of the generate zoo.
        network: the hypernetwork.
        train: how it is trained.
        seen: pairs of classes that zoos have.
        unseen: pairs that no zoo has.
        out_of_distribution: models of other recipes that are to forget too.
    """

    recipe: recipes.Recipe
    starts: int
    teachers: int
    forget_rate: float
    forget_warmup: int
    forget_steps: int
    checkpoint_steps: tuple[int, ...]
    network: hypernet.HypernetConfig
    train: hypernet.TrainConfig
    temperature: float = 4.0
    generate_runs: int = 0
    seen: tuple[tuple[int, int], ...] = _pairs(10)[0]
    unseen: tuple[tuple[int, int], ...] = _pairs(10)[1]
    out_of_distribution: tuple[OtherTraining, ...] = ()

    @property
    def masks(self) -> list[tuple[int, ...]]:
        """Return the sets that runs forget: single classes, then pairs."""
        return [*[(label,) for label in range(10)], *self.seen]

    def start(self) -> hypernet.FitConfig:
        """Return how starts and teachers are fitted."""
        steps = self.recipe.steps
        optimizer = self.recipe.optimizer(steps)
        return hypernet.FitConfig(optimizer, steps, self.recipe.batch_size)

    def quickstart_record(self) -> dict[str, Any]:
        """Return what zoo and hypernetwork of the quickstart are made with."""
        unused = ("recipe", "generate_runs", "seen", "unseen", "out_of_distribution")
        fields = dataclasses.asdict(self)
        return {name: own for name, own in fields.items() if name not in unused}

    def forget(self) -> hypernet.FitConfig:
        """Return how runs go on from their starts."""
        schedule = optax.warmup_cosine_decay_schedule(
            0.0,
            self.forget_rate,
            self.forget_warmup,
            self.forget_steps,
            0.02 * self.forget_rate,
        )
        return hypernet.FitConfig(
            optax.adam(schedule), self.forget_steps, self.recipe.batch_size
        )


# Their zoos were made, and recorded, before there was a temperature.
PRESETS = {
    "digits": Preset(
        recipes.Recipe("digits", (16,), 1e-2, 1.0, 400, 64),
        starts=256,
        teachers=8,
        forget_rate=4e-3,
        forget_warmup=20,
        forget_steps=120,
        checkpoint_steps=(4, 8, 12, 16, 20, 28, 40),
        temperature=1.0,
        generate_runs=256,
        network=hypernet.HypernetConfig(width=96, mixer="mean"),
        train=hypernet.TrainConfig(steps=3_000),
        out_of_distribution=(
            OtherTraining("adam", "adam", 1e-2, 400, cosine=True, mixed=True),
            OtherTraining("adam, long", "adam", 1e-2, 3_000, cosine=False, mixed=True),
            OtherTraining("sgd, long", "sgd", 0.1, 2_000, cosine=False, mixed=True),
            OtherTraining("adam, slow", "adam", 3e-3, 1_500, cosine=False, mixed=False),
            OtherTraining("sgd, slow", "sgd", 0.03, 1_000, cosine=False, mixed=False),
        ),
    ),
    "mnist": Preset(
        recipes.Recipe("mnist", (10,), 2e-3, 0.1, 2_500, 128),
        starts=160,
        teachers=4,
        forget_rate=6e-3,
        forget_warmup=80,
        forget_steps=480,
        checkpoint_steps=(8, 12, 14, 16, 20, 24, 32),
        temperature=1.0,
        generate_runs=64,
        network=hypernet.HypernetConfig(width=96, mixer="mean"),
        train=hypernet.TrainConfig(steps=4_000),
    ),
    # A budget for CPUs: a part of the data, few starts, and no pairs.
    "cifar10_cnn": Preset(
        recipes.Recipe(
            "cifar10",
            (),
            1e-2,
            0.1,
            1_500,
            64,
            network="gpt-cnn",
            rows=20_000,
            held_out=2_000,
            judged=5_000,
        ),
        starts=48,
        teachers=2,
        forget_rate=4e-3,
        forget_warmup=20,
        forget_steps=120,
        checkpoint_steps=(6, 12, 16, 20, 28),
        temperature=1.0,
        generate_runs=16,
        network=hypernet.HypernetConfig(width=96),
        train=hypernet.TrainConfig(steps=2_000, batch_size=16, functional_rows=32),
        seen=(),
    ),
}


PRESETS["mnist_wide"] = dataclasses.replace(
    PRESETS["mnist"],
    recipe=dataclasses.replace(PRESETS["mnist"].recipe, hidden=(32,)),
    starts=96,
    generate_runs=32,
)


@dataclasses.dataclass(frozen=True)
class Variant:
    """A hypernetwork, by how it differs from the preset's.

    Attributes:
        architecture: fields of the preset's ``network`` to replace.
        train: fields of the preset's training to replace.
        zoo: ``"whole"``; ``"quarter"``, of its starts; ``"mixed"``, with starts of
            other trainings; ``"unmatched"``, hidden units in any order.
        steps: calls of the denoiser a sample.
    """

    architecture: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    train: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    zoo: str = "whole"
    steps: int = 1


DIHYFO_1, GENERATE = {"prompt": "dihyfo_1"}, {"mode": "generate"}
# Each chunk has an encoder of its own, so that the order of hidden units matters; to a
# network of unit tokens it does not.
CHUNKS = {"tokens": "chunks", "mixer": "attention", "chunk_size": 100}

# Names are those of the records, which call the edit mode anchored and the generate
# mode free.
VARIANTS = {
    "dihyfo_2": Variant(),
    "dihyfo_1": Variant(DIHYFO_1),
    "dihyfo_2/free": Variant(GENERATE),
    "dihyfo_1/free": Variant(GENERATE | DIHYFO_1),
    # Tokens see each other, not their mean alone; and it is trained for longer.
    "dihyfo_2/free-attention": Variant(
        GENERATE | {"mixer": "attention"}, {"steps": 8_000}, steps=20
    ),
}

# The hypernetworks that models of other trainings are given to.
ZOOS = {"dihyfo_2": Variant(), "dihyfo_2/mixed": Variant(zoo="mixed")}

ABLATIONS = {
    "anchored": Variant(),
    "free": Variant(GENERATE),
    "attention": Variant({"mixer": "attention"}),
    "chunks": Variant(CHUNKS),
    "v": Variant({"prediction": "v"}),
    "eps": Variant({"prediction": "eps"}),
    "linear-schedule": Variant({"schedule": "linear"}),
    "no-functional-loss": Variant(train={"functional": 0.0}),
    "no-class-losses": Variant(train={"per_class": 0.0}),
    "no-ema-warmup": Variant(train={"ema_warmup": False}),
    "quarter-of-zoo": Variant(zoo="quarter"),
    "free-chunks": Variant(GENERATE | CHUNKS),
    "free-chunks-unmatched": Variant(GENERATE | CHUNKS, zoo="unmatched"),
    "free-denoising-alone": Variant(GENERATE, {"functional": 0.0}),
}

# For the quickstart: hypernetworks that are made in a minute or a few, with few starts
# and little training. Runs forget one class each: sums of changes answer for more.
QUICKSTART = {
    "digits": Preset(
        recipes.RECIPES["digits"],
        starts=32,
        teachers=3,
        forget_rate=4e-3,
        forget_warmup=20,
        forget_steps=80,
        checkpoint_steps=(8, 16, 32),
        network=hypernet.HypernetConfig(width=64, mixer="mean"),
        train=hypernet.TrainConfig(steps=800, batch_size=32),
        seen=(),
        unseen=(),
    ),
    "mnist": Preset(
        recipes.RECIPES["mnist"],
        starts=20,
        teachers=2,
        forget_rate=6e-3,
        forget_warmup=40,
        forget_steps=240,
        checkpoint_steps=(8, 12, 16, 24),
        temperature=1.0,  # No other was tried.
        network=hypernet.HypernetConfig(width=96, mixer="mean"),
        train=hypernet.TrainConfig(steps=1_200, batch_size=32),
        seen=(),
        unseen=(),
    ),
}
