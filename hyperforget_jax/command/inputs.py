"""What options of ``hyperforget forget`` name: a model, data, rows, a method."""

import ast
import dataclasses
import importlib
import inspect
import os
import pathlib
import sys
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

import hyperforget_jax as hf
from hyperforget_jax.audits.folder import read_arrays
from hyperforget_jax.nearest import did_you_mean

__all__ = [
    "Data",
    "load_classifier",
    "load_data",
    "load_rows",
    "make_unlearner",
    "spare_probe",
]

_SPLITS = {
    "train": ("x", "y"),
    "test": ("x_test", "y_test"),
    "probe": ("x_probe", "y_probe"),
}


class Data(NamedTuple):
    """Examples, of which only those to train on must be there."""

    train: hf.Examples
    test: hf.Examples | None = None
    probe: hf.Examples | None = None


def load_classifier(given: str) -> hf.Classifier:
    """Make the classifier that ``package.module:factory`` names.

    Args:
        given: where the factory is. It takes no arguments, and gives a Flax Linen
            module or a classifier; or one of these is there itself. The current folder
            is looked into first.

    Raises:
        ValueError: no such module or factory, or one that fails.
        TypeError: a factory of something else.
    """
    module, _, name = given.partition(":")
    if not module or not name:
        raise ValueError(
            f"--model {given} must be MODULE:FACTORY, such as my_package.models:make, "
            "a function without arguments that gives a Flax Linen module."
        )
    if (here := os.getcwd()) not in sys.path:
        sys.path.insert(0, here)
    try:
        factory = importlib.import_module(module)
        for part in name.split("."):
            factory = getattr(factory, part)
        made: Any = factory
        if not isinstance(made, nn.Module | hf.Classifier):
            made = made()
    except Exception as error:  # Code of the user's own raises what it likes.
        raise ValueError(
            f"--model {given} could not be made: {type(error).__name__}: {error}"
        ) from error
    if isinstance(made, hf.Classifier):
        return made
    if isinstance(made, nn.Module):
        return hf.from_linen(made)
    got = type(made).__name__
    if isinstance(made, type):
        got = f"the class {made.__name__}: return {made.__name__}(...)"
    raise TypeError(
        f"--model {given} must give a Flax Linen module or a hf.Classifier (which "
        f"hf.from_linen, hf.from_nnx and hf.from_functions make); got {got}."
    )


def load_data(given: str) -> Data:
    """Load a data set by its name, or from an ``.npz`` file.

    Args:
        given: what :func:`hyperforget_jax.data.load` knows; or a file that holds ``x``
            and ``y``, and perhaps ``x_test`` and ``y_test``, ``x_probe`` and
            ``y_probe``, as :func:`hyperforget_jax.data.examples` takes them.

    Raises:
        ValueError: a file that cannot be read, or lacks an array.
        FileNotFoundError, TypeError: as where the data are made.
    """
    if pathlib.Path(given).suffix != ".npz":
        splits = hf.data.load(given)
        return Data(splits.train, splits.test, splits.probe)
    arrays = read_arrays(given, f"--data {given}")
    known = [name for pair in _SPLITS.values() for name in pair]
    if not isinstance(arrays, dict) or set(arrays) - set(known):
        raise ValueError(
            f"--data {given} must hold x and y, and may hold {', '.join(known[2:])}; "
            f"it holds {', '.join(arrays) if isinstance(arrays, dict) else 'one array'}"
            "."
        )
    found = {}
    for split, pair in _SPLITS.items():
        there = [name in arrays for name in pair]
        if any(there) or split == "train":
            if not all(there):
                raise ValueError(
                    f"--data {given} must hold {' and '.join(pair)}; it holds "
                    f"{', '.join(arrays) or 'nothing'}."
                )
            there = f"--data {given}, {' and '.join(pair)}"
            try:
                found[split] = hf.data.examples(*(arrays[name] for name in pair))
            except (TypeError, ValueError) as error:
                raise ValueError(f"{there}: {error}") from error
            wanted, shape = found["train"].x.shape, found[split].x.shape
            if len(shape) != len(wanted):
                raise ValueError(
                    f"{there}: {pair[0]} must have as many axes as x, of shape "
                    f"{wanted}; got {shape}."
                )
    return Data(**found)


def spare_probe(given: str, data: Data) -> Data:
    """Take half of the test rows for held-out ones, where data have none of their own.

    Args:
        given: their name, for the message.
        data: without a probe.

    Raises:
        ValueError: there are no two test rows.
    """
    if data.test is None or data.test.y.size < 2:
        raise ValueError(
            f"--data {given} must hold x_probe and y_probe, rows that the model was "
            "not trained on, or x_test and y_test, half of which are then taken for "
            "them: pgu brings single rows to where such rows are, and without any "
            "would drive their labels out, at the cost of all rows like them. Or name "
            "another --method, such as kfade, which needs none."
        )
    # At random: test rows may lie class by class, or in turn.
    rows = jnp.asarray(np.random.default_rng(0).permutation(data.test.y.size))
    return data._replace(
        test=data.test.take(jnp.sort(rows[1::2])),
        probe=data.test.take(jnp.sort(rows[::2])),
    )


def load_rows(given: pathlib.Path) -> np.ndarray:
    """Load row numbers from an ``.npy`` file."""
    rows = read_arrays(given, f"--rows {given}")
    if not isinstance(rows, np.ndarray):
        raise ValueError(f"--rows {given} must be an .npy file of row numbers.")
    return rows


def make_unlearner(
    name: str,
    settings: Sequence[str],
    classifier: hf.Classifier,
    probe: hf.Examples | None,
    *,
    of_rows: bool,
) -> tuple[hf.Unlearner, dict[str, Any]]:
    """Make a method by its name.

    Args:
        name: in ``hf`` or ``hf.rivals``.
        settings: ``name=value`` each: of its config where it has one, and of its own
            numbers and words where it has none.
        classifier: the model.
        probe: held-out examples for methods that take them, if there are any.
        of_rows: whether single rows are to be forgotten, for which ``pgu`` has settings
            of their own.

    Returns:
        The method, and all settings of its config, or those given where it has none.

    Raises:
        ValueError: an unknown method or setting.
    """
    public = _public()
    if name not in (known := _methods(public)):
        if name not in public and (near := did_you_mean(name, known)):
            raise ValueError(f"--method {name}: there is no such method; {near}")
        raise ValueError(
            f"--method {name} must be one of {', '.join(sorted(known))}: methods that "
            "must be given more than a classifier are for scripts."
        )
    method = known[name]
    parameters = inspect.signature(method).parameters
    defaults = {each.name: each.default for each in parameters.values()}
    config = defaults.get("config")
    if name == "pgu" and of_rows:
        config = hf.PGUConfig.rows()
    simple = defaults if config is None else dataclasses.asdict(config)
    pairs = list(map(_setting, settings))
    given = dict(pairs)
    if len(given) < len(pairs):
        names = [name for name, _ in pairs]
        twice = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(f"--set {', '.join(twice)}: given twice, and once is meant.")
    hints = typing.get_type_hints(method if config is None else type(config))
    allowed = [
        key
        for key, default in simple.items()
        if isinstance(default, bool | int | float | str)
        or (default is None and {int, float} & {*typing.get_args(hints[key])})
    ]
    if unknown := sorted(set(given) - set(allowed)):
        near = did_you_mean(unknown[0], allowed)
        raise ValueError(
            f"--set {', '.join(unknown)}: {name} has no such setting"
            + (f"; {near}" if near else f", but {', '.join(allowed) or 'none'}.")
        )
    options: dict[str, Any] = dict(given)
    if config is not None:
        config = dataclasses.replace(config, **given)
        options, given = {"config": config}, dataclasses.asdict(config)
    if probe is not None and "probe" in parameters:
        options["probe"] = probe
    return method(classifier, **options), given


def _public() -> dict[str, Any]:
    public = {name: getattr(hf, name) for name in hf.__all__}
    return public | {name: getattr(hf.rivals, name) for name in hf.rivals.__all__}


def _methods(public: Mapping[str, Any]) -> dict[str, Callable[..., hf.Unlearner]]:
    """Select the methods that ask for no more than the classifier."""
    return {
        name: method
        for name, method in public.items()
        if inspect.isfunction(method)
        and typing.get_type_hints(method).get("return") is hf.Unlearner
        and [
            each.name
            for each in inspect.signature(method).parameters.values()
            if each.default is each.empty
        ]
        == ["classifier"]
    }


def _setting(given: str) -> tuple[str, Any]:
    name, equals, value = given.partition("=")
    if not equals:
        raise ValueError(f"--set {given} must be NAME=VALUE, such as steps=50.")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value  # A word.
