"""What each method reads and when."""

import inspect
import typing
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

import hyperforget_jax as hf
from hyperforget_jax import hypernet
from tables.writing import table

_FIRST = ("fiun", "pgu", "dihyfo")
_CONFIGS = {"fiun": {"head_reassign": hf.FIUnConfig.head_reassign()}}
"""Configurations that read something else than the default does."""


def public() -> dict[str, Callable[..., hf.Unlearner]]:
    """Find the methods among the public names: functions that return an Unlearner."""
    names = [*_FIRST, *(name for name in hf.__all__ if name not in _FIRST)]
    functions = {name: getattr(hf, name) for name in names}
    return {
        name: function
        for name, function in functions.items()
        if inspect.isfunction(function)
        and typing.get_type_hints(function).get("return") is hf.Unlearner
    }


def access() -> str:
    """Show what each method reads and when, and what remains, by its access record."""
    return _table(public())


def rivals() -> str:
    """Show the same of the methods of others, ``hf.rivals``."""
    return _table({f"rivals.{n}": getattr(hf.rivals, n) for n in hf.rivals.__all__})


def _table(methods: dict[str, Callable[..., hf.Unlearner]]) -> str:
    classifier = hf.from_linen(hf.models.MLP(()))
    unlearners, probed = {}, {}
    for name, method in methods.items():
        arguments = _arguments(name, method, classifier)
        unlearners[name] = method(**arguments)
        if "probe" in inspect.signature(method).parameters and "probe" not in arguments:
            probed[name] = method(**arguments, probe=_probe()).access
        for label, config in _CONFIGS.get(name, {}).items():
            unlearners[f"{name}({label})"] = method(**arguments, config=config)

    def read(name, phase) -> str:
        names = getattr(unlearners[name].access, phase)
        more = getattr(probed[name], phase) - names if name in probed else ()
        said = ", ".join(sorted(names)) or "–"
        return said + "".join(f" ({each}, if given)" for each in sorted(more))

    return table(
        ["method", "reads before", "reads at `init`", "reads at `unlearn`", "remains"],
        [
            [
                f"`hf.{name}`",
                *(read(name, phase) for phase in ("before", "init", "unlearn")),
                unlearner.access.remains,
            ]
            for name, unlearner in unlearners.items()
        ],
    )


def _arguments(name: str, method: Callable, classifier: hf.Classifier) -> dict:
    """Whatever a method must be given: what it reads does not depend on it."""
    known = {
        "classifier": lambda: classifier,
        "optimizer": optax.identity,
        "steps": lambda: 1,
        "hypernetwork": lambda: _hypernetwork(classifier),
        "params": lambda: _hypernetwork(classifier).init(jax.random.key(0)),
        "probe": _probe,
    }
    needed = [
        parameter.name
        for parameter in inspect.signature(method).parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind is not parameter.VAR_KEYWORD
    ]
    if unknown := sorted(set(needed) - set(known)):
        raise SystemExit(
            f"hf.{name} must be given {unknown}: say in {__file__} what, so that it "
            "stands in the table of methods."
        )
    return {each: known[each]() for each in needed}


def _probe() -> hf.Examples:
    return hf.data.examples(np.zeros((100, 4), np.float32), np.arange(100) % 10)


def _hypernetwork(classifier: hf.Classifier) -> hypernet.Hypernetwork:
    config = hypernet.HypernetConfig(width=4, heads=1)
    return hypernet.build(classifier, jnp.zeros((1, 4)), config)
