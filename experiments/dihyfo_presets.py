"""Of what the study of hypernetworks is made: models, zoos, networks, and rivals."""

import dataclasses
import itertools
from typing import Any

import numpy as np
import optax
import recipes

from hyperforget_jax import hypernet


def _pairs(seen: int) -> tuple[tuple[tuple[int, int], ...], ...]:
    """The 45 pairs of classes as (in the zoo, in no zoo): a third at least in none."""
    pairs = list(itertools.combinations(range(10), 2))
    order = np.random.default_rng(0).permutation(45)
    unseen = tuple(sorted(pairs[row] for row in order[:16]))
    return tuple(sorted(pairs[row] for row in order[16 : 16 + seen])), unseen


@dataclasses.dataclass(frozen=True)
class Stranger:
    """How models are trained that hypernetworks are not made for: without decay.

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

    def training(self, batch_size: int) -> hypernet.Training:
        rate: Any = self.learning_rate
        if self.cosine:
            rate = optax.cosine_decay_schedule(rate, self.steps)
        make = {"adam": optax.adam, "sgd": lambda rate: optax.sgd(rate, 0.9)}
        return hypernet.Training(make[self.optimizer](rate), self.steps, batch_size)


@dataclasses.dataclass(frozen=True)
class Preset:
    """What a study is made of.

    Attributes:
        recipe: how classifiers are trained: those to be changed, the zoo's starts, and
            the oracles.
        starts: of the anchored zoo.
        oracles: retrained models a mask, whose mean answer teaches its runs.
        forget_rate: the largest learning rate of the runs of the anchored zoo, by Adam;
            it warms up, so that early checkpoints have forgotten a little, and falls
            along a cosine.
        forget_warmup: minibatches of the warm-up.
        forget_steps: minibatches in all.
        checkpoint_steps: where runs are kept.
        free_runs: runs a mask of the free zoo.
        network: the hypernetwork.
        course: how it is trained.
        free_course: how it is trained in the free mode.
        seen: pairs of classes that zoos have.
        unseen: pairs that no zoo has.
        strangers: models of other recipes that are to forget too.
    """

    recipe: recipes.Recipe
    starts: int
    oracles: int
    forget_rate: float
    forget_warmup: int
    forget_steps: int
    checkpoint_steps: tuple[int, ...]
    free_runs: int
    network: hypernet.Recipe
    course: hypernet.Course
    free_course: hypernet.Course
    seen: tuple[tuple[int, int], ...] = _pairs(10)[0]
    unseen: tuple[tuple[int, int], ...] = _pairs(10)[1]
    strangers: tuple[Stranger, ...] = ()

    @property
    def masks(self) -> list[tuple[int, ...]]:
        """Single classes first, then pairs."""
        return [*[(label,) for label in range(10)], *self.seen]

    def start(self) -> hypernet.Training:
        steps = self.recipe.steps
        optimizer = self.recipe.optimizer(steps)
        return hypernet.Training(optimizer, steps, self.recipe.batch_size)

    def forget(self) -> hypernet.Training:
        schedule = optax.warmup_cosine_decay_schedule(
            0.0,
            self.forget_rate,
            self.forget_warmup,
            self.forget_steps,
            0.02 * self.forget_rate,
        )
        return hypernet.Training(
            optax.adam(schedule), self.forget_steps, self.recipe.batch_size
        )


PRESETS = {
    "digits": Preset(
        recipes.Recipe("digits", (16,), 1e-2, 1.0, 400, 64),
        starts=256,
        oracles=8,
        forget_rate=4e-3,
        forget_warmup=20,
        forget_steps=120,
        checkpoint_steps=(4, 8, 12, 16, 20, 28, 40),
        free_runs=256,
        network=hypernet.Recipe(width=96, mixer="mean"),
        course=hypernet.Course(steps=3_000),
        free_course=hypernet.Course(steps=3_000),
        strangers=(
            Stranger("adam", "adam", 1e-2, 400, cosine=True, mixed=True),
            Stranger("adam, long", "adam", 1e-2, 3_000, cosine=False, mixed=True),
            Stranger("sgd, long", "sgd", 0.1, 2_000, cosine=False, mixed=True),
            Stranger("adam, slow", "adam", 3e-3, 1_500, cosine=False, mixed=False),
            Stranger("sgd, slow", "sgd", 0.03, 1_000, cosine=False, mixed=False),
        ),
    ),
    "mnist": Preset(
        recipes.Recipe("mnist", (10,), 2e-3, 0.1, 2_500, 128),
        starts=160,
        oracles=4,
        forget_rate=6e-3,
        forget_warmup=80,
        forget_steps=480,
        checkpoint_steps=(8, 12, 14, 16, 20, 24, 32),
        free_runs=64,
        network=hypernet.Recipe(width=96, mixer="mean"),
        course=hypernet.Course(steps=4_000),
        free_course=hypernet.Course(steps=4_000),
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
        oracles=2,
        forget_rate=4e-3,
        forget_warmup=20,
        forget_steps=120,
        checkpoint_steps=(6, 12, 16, 20, 28),
        free_runs=16,
        network=hypernet.Recipe(width=96),
        course=hypernet.Course(steps=2_000, batch_size=16, functional_rows=32),
        free_course=hypernet.Course(steps=2_000, batch_size=16, functional_rows=32),
        seen=(),
    ),
}


PRESETS["mnist_wide"] = dataclasses.replace(
    PRESETS["mnist"],
    recipe=dataclasses.replace(PRESETS["mnist"].recipe, hidden=(32,)),
    starts=96,
    free_runs=32,
)

VARIANTS: dict[str, dict[str, Any]] = {
    "dihyfo_2": {},
    "dihyfo_1": {"prompt": "dihyfo_1"},
    "dihyfo_2/free": {"mode": "free"},
    "dihyfo_1/free": {"mode": "free", "prompt": "dihyfo_1"},
    # Tokens see each other, not their mean alone; and it is trained for longer.
    "dihyfo_2/free-attention": {
        "mode": "free",
        "mixer": "attention",
        "course": {"steps": 8_000},
    },
}

# Calls of the denoiser a sample, where one is too few.
STEPS = {"dihyfo_2/free-attention": 20}

# By which networks models of other recipes are asked to forget.
ZOOS: dict[str, dict[str, Any]] = {
    "dihyfo_2": {},
    "dihyfo_2/mixed": {"mixed": True},
}

# Each chunk has an encoder of its own, so that the order of hidden units matters; to a
# network of unit tokens it does not.
CHUNKS = {"tokens": "chunks", "mixer": "attention", "chunk_size": 100}

ABLATIONS: dict[str, dict[str, Any]] = {
    "attention": {"mixer": "attention"},
    "chunks": CHUNKS,
    "v": {"prediction": "v"},
    "eps": {"prediction": "eps"},
    "linear-schedule": {"schedule": "linear"},
    "no-functional-loss": {"course": {"functional": 0.0}},
    "no-class-losses": {"course": {"per_class": 0.0}},
    "no-ema-warmup": {"course": {"ema_warmup": False}},
    "quarter-of-zoo": {"share": 0.25},
    "free-chunks": {"mode": "free", **CHUNKS},
    "free-chunks-unmatched": {"mode": "free", "match": False, **CHUNKS},
    "free-denoising-alone": {"mode": "free", "course": {"functional": 0.0}},
}
