"""Checks of classifiers, of their variables, and of requests made to them."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from flax.core import FrozenDict

from hyperforget_jax.base import (
    Array,
    Classifier,
    Examples,
    ForgetRequest,
    Variables,
    check_single,
)
from hyperforget_jax.checks.examples import (
    check_is_examples,
    check_labels,
    check_weights,
)
from hyperforget_jax.checks.values import check_axes, check_is, is_concrete

__all__ = [
    "check_classifier",
    "check_init",
    "check_is_classifier",
    "check_is_request",
    "check_request",
    "check_variables_given",
]


def check_is_classifier(classifier) -> None:
    """Raise TypeError unless ``classifier`` is one."""
    check_is(
        Classifier,
        "a hf.Classifier, made by hf.from_linen, hf.from_nnx or hf.from_functions",
        classifier=classifier,
    )


def check_classifier(
    classifier: Classifier,
    variables,
    x: Array,
    *,
    num_classes: int | None = None,
    name: str = "variables",
) -> int:
    """Raise unless the classifier takes ``x`` and gives ``[N, C]`` logits.

    Nothing is computed: shapes are evaluated abstractly. Variables must be plain
    dictionaries, those of the classifier; None stands for freshly made ones.

    Args:
        classifier: the model.
        variables: its variables, or None.
        x: inputs, ``[N, ...]``.
        num_classes: C that labels or requests want, where it is known.
        name: the variables' name, for the message.

    Returns:
        C, the number of logits.
    """
    check_is_classifier(classifier)
    check_axes(x=x, **{name: variables})
    one = jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype)
    if variables is not None:
        _check_variables(classifier, variables, one, name)
    try:
        made = _fresh(classifier, one) if variables is None else variables
        logits = jax.eval_shape(classifier.apply, made, one)
    except Exception as error:
        if variables is not None:
            check_classifier(classifier, None, x)  # Or is it the inputs?
            raise ValueError(
                f"{name} do not fit the classifier "
                f"({classifier.description or 'no description'}) and inputs of shape "
                f"{one.shape}: {error}"
            ) from error
        raise ValueError(
            f"The classifier ({classifier.description or 'no description'}) does not "
            f"take inputs of shape {one.shape} and dtype {one.dtype}: {error} (Has the "
            "module modes? hf.from_linen takes them as train= and eval=.)"
        ) from error
    if len(logits.shape) != 2 or logits.shape[0] != 1:
        raise ValueError(
            "classifier.apply must give logits [N, C]; for inputs of shape "
            f"{one.shape} it gives {logits.shape}."
        )
    if num_classes is not None and logits.shape[1] != num_classes:
        raise ValueError(
            f"The classifier has {logits.shape[1]} logits, but there are {num_classes} "
            f"classes: they must match. Make the model with num_classes={num_classes}, "
            f"or what it is used with by num_classes={logits.shape[1]}."
        )
    return logits.shape[1]


def check_init(classifier: Classifier, variables: Variables, data: Examples) -> int:
    """Raise unless a method can be prepared with these; return C, as above."""
    check_is_examples(data)
    check_variables_given(variables)
    num_classes = check_classifier(classifier, variables, data.x)
    _check_finite(variables["params"])
    check_weights(data.weight)
    if is_concrete(data.y, data.weight):
        # What weighs nothing is as good as absent, whatever its label.
        there = np.asarray(data.weight) > 0
        check_labels(np.where(there, np.asarray(data.y), 0), num_classes, "data")
    return num_classes


def _check_finite(params) -> None:
    leaves = {
        jax.tree_util.keystr(path): leaf
        for path, leaf in jax.tree.leaves_with_path(params)
        if is_concrete(leaf) and jnp.issubdtype(leaf.dtype, jnp.inexact)
    }
    # A jitted init may close over parameters.
    with jax.ensure_compile_time_eval():
        found = {path: jnp.isfinite(leaf).all() for path, leaf in leaves.items()}
    for path, is_finite in jax.device_get(found).items():
        if not is_finite:
            raise ValueError(
                f"variables['params']{path} is not finite: the model has diverged."
            )


def check_is_request(request, num_classes: int | None = None) -> None:
    """Raise unless ``request`` is a single one, of right kinds, and for C classes."""
    if not isinstance(request, ForgetRequest):
        raise TypeError(
            "request must be a hf.ForgetRequest, such as hf.forget_rows(data, rows) "
            f"gives; got {type(request).__name__}."
        )
    if request.data is not None:
        check_is_examples(request.data, "request.data")
    for field, kind, name in (
        ("classes", jnp.bool_, "booleans"),
        ("rows", jnp.integer, "integers"),
    ):
        leaf = getattr(request, field)
        if leaf is None and field == "rows":
            continue
        if not hasattr(leaf, "dtype") or not jnp.issubdtype(leaf.dtype, kind):
            raise TypeError(
                f"request.{field} must be an array of {name}, as the makers of "
                f"requests give it; got {getattr(leaf, 'dtype', type(leaf).__name__)}."
            )
    check_single(request)
    if num_classes is not None and request.classes.shape != (num_classes,):
        raise ValueError(
            f"The classifier has {num_classes} logits, but the request is made for "
            f"{request.classes.shape[0]} classes: they must match."
        )


def check_request(
    classifier: Classifier, variables: Variables, request: ForgetRequest
) -> None:
    """Raise unless the request's data and classes fit the classifier."""
    check_is_request(request)
    check_axes(request=request)
    if request.data is not None:
        check_weights(request.data.weight, "request.data.weight")
        check_classifier(
            classifier,
            variables,
            request.data.x,
            num_classes=request.classes.shape[-1],
        )


def check_variables_given(variables) -> None:
    """Raise TypeError if variables are None, where fresh ones must not be made."""
    if variables is None:
        raise TypeError(
            "variables must be a dictionary such as {'params': ...}; got None: hf.fit "
            "gives trained ones, classifier.init(key, data.x) fresh ones."
        )


def _check_variables(classifier: Classifier, variables, one, name: str) -> None:
    """Raise unless these are a plain dictionary with params in it."""
    if isinstance(variables, nnx.Module):
        raise TypeError(
            f"{name} must be a dictionary; got an NNX model "
            f"({type(variables).__name__}): give {{'params': nnx.to_pure_dict("
            "nnx.state(model, nnx.Param))}, with 'batch_stats' of nnx.BatchStat if it "
            "has any."
        )
    if not isinstance(variables, Mapping):
        remedy = "a state has them as state.variables"
        if hasattr(variables, "params"):
            remedy = (
                "give {'params': state.params}, with 'batch_stats': state.batch_stats "
                "if it has any"
            )
        raise TypeError(
            f"{name} must be a dictionary such as {{'params': ...}}; got "
            f"{type(variables).__name__} ({remedy})."
        )
    if type(variables) is not dict or _is_frozen_inside(classifier, variables, one):
        how = "dict"
        if _has_frozen(variables):
            how = "flax.core.unfreeze"
        elif isinstance(variables, nnx.State):
            how = "nnx.to_pure_dict"
        kind = "FrozenDict" if _has_frozen(variables) else type(variables).__name__
        raise TypeError(
            f"{name} must be plain dictionaries, whose structure every method keeps; "
            f"got a {kind}: give {how}({name})."
        )
    if "params" not in variables:
        raise ValueError(
            f"{name} have no 'params', only {sorted(map(str, variables))[:5]}: if they "
            "are the params themselves, wrap them: {'params': params}."
        )


def _fresh(classifier: Classifier, one) -> Any:
    key = jax.eval_shape(lambda: jax.random.key(0, impl="threefry2x32"))
    return jax.eval_shape(classifier.init, key, one)


def _has_frozen(tree) -> bool:
    def is_frozen(node):
        return isinstance(node, FrozenDict)

    return any(map(is_frozen, jax.tree.leaves(tree, is_leaf=is_frozen)))


def _is_frozen_inside(classifier: Classifier, variables, one) -> bool:
    """Tell whether dictionaries are frozen that the classifier makes plain."""
    return _has_frozen(variables) and not _has_frozen(_fresh(classifier, one))
