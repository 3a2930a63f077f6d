"""Settings that a committed search chose, by method, data set and scenario."""

import dataclasses
import functools
import importlib.resources
import json
from collections.abc import Iterable, Mapping
from typing import Any

from hyperforget_jax.base import Classifier, Unlearner
from hyperforget_jax.nearest import did_you_mean
from hyperforget_jax.recipes.makers import MAKERS

__all__ = ["Recipe", "load"]

_FOLDER = importlib.resources.files("hyperforget_jax.recipes")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A method with settings that were chosen for a data set and a kind of request.

    Attributes:
        method: its name.
        dataset: what it was tuned on.
        scenario: the kind of request.
        settings: numbers, and choices, by name; ``learning_rate`` is that of the
            method's optimiser. None are the method's own defaults.
    """

    method: str
    dataset: str
    scenario: str
    settings: Mapping[str, float | int | str]

    def unlearner(self, classifier: Classifier, **given: Any) -> Unlearner:
        """Make the method, such as ``hf.rivals.salun(classifier, ...)``.

        Args:
            classifier: the model.
            given: what the method takes that no search can choose: ``probe=``, which
                ``regun`` must be given, and ``pgu`` for single rows.

        Raises:
            TypeError: ``regun`` without a probe.
        """
        if self.method == "regun" and "probe" not in given:
            raise TypeError(
                "regun reads held-out examples: recipe.unlearner(classifier, probe=...)"
            )
        return MAKERS[self.method](classifier, **self.settings, **given)


def load(method: str, dataset: str, scenario: str = "class") -> Recipe:
    """Load the settings that ``experiments/search.py`` chose.

    Every method that has settings had as many trials, drawn at random, with its own
    defaults among them if it has any. The goal was the distance from retrained models
    in the confidence of labels, on forgotten rows and on a probe split, at classifiers
    of other training seeds than those of the tables. They hold for networks like the
    one that was searched on, and are a first guess for others.

    Args:
        method: its name in ``hf`` or ``hf.rivals``.
        dataset: its name, such as ``"digits"``.
        scenario: what is to be forgotten, such as ``"class"`` or ``"random"``.

    Raises:
        ValueError: there is no such recipe.

    Examples:
        >>> import hyperforget_jax as hf
        >>> recipe = hf.recipes.load("neggrad_plus", "digits", "class")
        >>> sorted(recipe.settings)
        ['beta', 'learning_rate', 'steps']
        >>> classifier = hf.from_linen(hf.models.MLP((16,)))
        >>> unlearner = recipe.unlearner(classifier)
        >>> sorted(unlearner.access.unlearn)
        ['forget', 'retain']
    """
    found = _read(_known("dataset", dataset, _datasets()))["recipes"]
    of_scenario = found[_known(f"scenario of {dataset!r}", scenario, found)]
    if method == "dihyfo":
        raise ValueError(
            "method 'dihyfo' has no recipe: its hypernetwork is trained first, as "
            "experiments/quickstart.py does."
        )
    others = sorted(name for name, methods in found.items() if method in methods)
    if others and scenario not in others:
        raise ValueError(
            f"method {method!r} has no recipe of scenario {scenario!r}, only of "
            f"{others}."
        )
    settings = of_scenario[_known("method", method, of_scenario)]
    return Recipe(method, dataset, scenario, settings)


def _datasets() -> list[str]:
    names = (file.name for file in _FOLDER.iterdir())
    return sorted(n.removesuffix(".json") for n in names if n.endswith(".json"))


@functools.cache
def _read(dataset: str) -> dict[str, Any]:
    return json.loads((_FOLDER / f"{dataset}.json").read_text(encoding="utf-8"))


def _known(name: str, given: str, allowed: Iterable[str]) -> str:
    if given not in (allowed := sorted(allowed)):
        near = did_you_mean(str(given), allowed)
        end = f"; {near}" if near else "."
        raise ValueError(f"{name} must be one of {allowed}, got {given!r}{end}")
    return given
