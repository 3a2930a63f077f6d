"""Hypernetworks that are made in a minute or a few, for the quickstart's classifiers.

Made as those of ``dihyfo.py`` are, with few starts and little training: enough for a
class at a time, in models that were trained as the zoo's are.
"""

import dataclasses
from typing import Any

import recipes
import study as studies
from dihyfo_presets import Preset
from dihyfo_world import World

import hyperforget_jax as hf
from hyperforget_jax import hypernet

# Starts are trained by the recipe of the classifiers that are to forget, from other
# keys. Runs forget one class each: sums of changes answer for more.
PRESETS = {
    "digits": Preset(
        recipes.RECIPES["digits"],
        starts=32,
        oracles=3,
        forget_rate=4e-3,
        forget_warmup=20,
        forget_steps=80,
        checkpoint_steps=(8, 16, 32),
        free_runs=0,
        network=hypernet.Recipe(width=64, mixer="mean"),
        course=hypernet.Course(steps=800, batch_size=32),
        free_course=hypernet.Course(),
        seen=(),
        unseen=(),
    ),
    "mnist": Preset(
        recipes.RECIPES["mnist"],
        starts=20,
        oracles=2,
        forget_rate=6e-3,
        forget_warmup=40,
        forget_steps=240,
        checkpoint_steps=(8, 12, 16, 24),
        free_runs=0,
        network=hypernet.Recipe(width=96, mixer="mean"),
        course=hypernet.Course(steps=1_200, batch_size=32),
        free_course=hypernet.Course(),
        seen=(),
        unseen=(),
    ),
}


def record(preset: Preset) -> dict[str, Any]:
    """What zoo and hypernetwork are made with."""
    fields = dataclasses.asdict(preset)
    for other in ("recipe", "free_runs", "free_course", "seen", "unseen", "strangers"):
        fields.pop(other)
    return fields | {"course": preset.course._asdict()}


def made(
    study: studies.Study, preset: Preset
) -> tuple[studies.Method, dict[str, float]]:
    """Unlearning by a hypernetwork that is made now, and what took how many seconds.

    Zoo and network are kept in the study's folder as they are trained: a run that was
    stopped goes on from there, and counts its own seconds. The test split is not read.
    """
    study.console.log(
        f"dihyfo: a zoo, of {preset.starts} classifiers without each class, and a "
        "hypernetwork"
    )
    world = World(preset, study.out / "dihyfo", study.splits, study.classifier)
    network = world.trained("dihyfo_2", 0)
    about = {"starts": preset.starts, "steps": preset.course.steps}
    return (
        studies.Method(
            lambda classifier, **about: hf.dihyfo(classifier, network), about
        ),
        world.seconds,
    )
