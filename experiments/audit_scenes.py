"""What is to be forgotten in each scenario of the audits."""

from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import recipes

import hyperforget_jax as hf
from hyperforget_jax import audits

SCENARIOS = ("class", "random", "memorised", "backdoor")

CLASS = 3
# Of the training rows. Each model is to forget half of the candidates.
CANDIDATES, POISONED = 0.04, 0.02
# Trainings whose random halves of all rows tell what is memorised.
HALVES = 128


class Scene(NamedTuple):
    """A scenario.

    Attributes:
        name: its name.
        what: the request in words.
        request: what is to be forgotten.
        halves: whether each model has half of the request's rows.
        splits: the data.
        held_out: test rows of the forgotten kind; with a trigger they have the label
            that it calls up. None where there is no kind.
    """

    name: str
    what: str
    request: hf.ForgetRequest
    halves: bool
    splits: hf.data.Splits
    held_out: hf.Examples | None = None


def make(name: str, recipe: recipes.Recipe, out: Path) -> Scene:
    """Make a scenario; what it must train for that is kept in ``out``."""
    splits, key = recipe.load(), jax.random.key(11)
    train = splits.train
    count = round(CANDIDATES * np.count_nonzero(train.weight))
    if name == "class":
        request = hf.forget_classes(train, [CLASS])
        return Scene(
            name,
            f"class {CLASS}",
            request,
            halves=False,
            splits=splits,
            held_out=request.split(splits.test)[0],
        )
    if name == "random":
        return Scene(
            name,
            f"a random half of {CANDIDATES:.0%} of the rows, drawn at random",
            hf.forget_random(key, train, count),
            halves=True,
            splits=splits,
        )
    if name == "memorised":
        rows = _memorised(key, recipe, train, count, out / "halves")
        return Scene(
            name,
            f"a random half of the {CANDIDATES:.0%} most memorised rows",
            hf.forget_rows(train, rows),
            halves=True,
            splits=splits,
        )
    trigger, test = hf.data.corner_square(train), splits.test
    poisoned = hf.data.plant_trigger(key, train, count // 2, CLASS, trigger=trigger)
    triggered = test._replace(
        x=trigger(test.x),
        y=jnp.full_like(test.y, CLASS),
        weight=jnp.where(test.y == CLASS, 0, test.weight),
    )
    return Scene(
        name,
        f"{POISONED:.0%} of the rows, with a trigger and the label {CLASS}",
        hf.forget_rows(poisoned.data, poisoned.rows),
        halves=False,
        splits=splits._replace(train=poisoned.data),
        held_out=triggered,
    )


def _memorised(key, recipe, train, count: int, directory: Path) -> np.ndarray:
    """Find the rows that are known from themselves and not from others."""
    key_halves, key_train = jax.random.split(key)
    rows = np.flatnonzero(np.asarray(train.weight))
    included = audits.complementary_halves(
        key_halves, np.ones(rows.size, bool), HALVES // 2
    )
    weights = np.zeros((HALVES, train.y.shape[0]), np.int32)
    weights[:, rows] = included
    models = hf.fit_population(
        key_train,
        recipe.classifier,
        train,
        recipe.optimizer(recipe.steps),
        recipe.steps,
        members=HALVES,
        weights=jnp.asarray(weights),
        batch_size=recipe.batch_size,
        directory=directory,
    ).variables
    examples = train.take(rows)
    logits = hf.models.population_logits(recipe.classifier, models, examples.x)
    phi = audits.scaled_confidence(np.asarray(logits), np.asarray(examples.y))
    pool = audits.Pool(phi, included.astype(np.int8))
    # In the order of the table, or the first ones would be the most memorised.
    return np.sort(rows[audits.most_memorised(pool, count)])
