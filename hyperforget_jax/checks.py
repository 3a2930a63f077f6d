"""Host-side checks of what users bring, made before anything is compiled.

Values can only be looked at where they are concrete: under a trace these checks
look at shapes and dtypes alone.
"""

import numbers
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from hyperforget_jax.base import (
    Array,
    Classifier,
    Examples,
    ForgetRequest,
    Variables,
)

__all__ = [
    "check_classifier",
    "check_examples",
    "check_factor",
    "check_held_out",
    "check_init",
    "check_is",
    "check_is_examples",
    "check_positive",
    "check_request",
    "is_concrete",
]


def is_concrete(*trees) -> bool:
    """Whether all leaves have values now, rather than under a trace."""
    leaves = jax.tree.leaves(trees)
    return not any(isinstance(leaf, jax.core.Tracer) for leaf in leaves)


def check_positive(**values) -> None:
    """Raises ValueError unless every named value is positive; tracers pass."""
    for name, value in values.items():
        if is_concrete(value) and not value > 0:
            raise ValueError(f"{name} must be positive, got {name}={value}.")


def check_factor(**values) -> None:
    """Raises unless every named value is a number, finite and not negative.

    Raises:
        TypeError: it is no number, nor an array of one; tracers pass.
        ValueError: it is negative or not finite.
    """
    for name, value in values.items():
        if not is_concrete(value):
            continue
        real = isinstance(value, numbers.Real)
        if isinstance(value, (np.ndarray, jax.Array)) and not value.shape:
            real = any(
                jnp.issubdtype(value.dtype, kind)
                for kind in (jnp.floating, jnp.integer)
            )
        if not real:
            raise TypeError(f"{name} must be a number, got {value!r}.")
        if not 0 <= value < np.inf:
            raise ValueError(
                f"{name} must be finite and not negative, got {name}={value}."
            )


def check_is(kind: type | tuple[type, ...], what: str, **values) -> None:
    """Raises TypeError unless every named value is of the kind, called ``what``."""
    for name, value in values.items():
        if not isinstance(value, kind):
            raise TypeError(f"{name} must be {what}; got {type(value).__name__}.")


def check_is_examples(data, name: str = "data") -> None:
    """Raises TypeError unless ``data`` are Examples."""
    if not isinstance(data, Examples):
        raise TypeError(
            f"{name} must be hf.Examples, such as splits.train or what "
            f"hf.data.examples(x, y) gives; got {type(data).__name__}."
        )


def check_held_out(train: Examples, probe: Examples, name: str = "probe") -> None:
    """Raises unless no example of ``probe`` is one of ``train``, by their ids.

    Examples that weigh nothing do not count. Tracers pass.

    Raises:
        ValueError: some are; the message has the first.
    """
    leaves = (train.id, train.weight, probe.id, probe.weight)
    if not all(is_concrete(leaf) for leaf in leaves):
        return
    shared = np.intersect1d(
        np.asarray(train.id)[np.asarray(train.weight) > 0],
        np.asarray(probe.id)[np.asarray(probe.weight) > 0],
    )
    if shared.size:
        raise ValueError(
            f"{name} must be held out of training, but it holds {shared.size} of the "
            f"training examples (ids {shared[:5].tolist()}"
            f"{', ...' if shared.size > 5 else ''}): give it other rows or, if they "
            "are others that share the ids, ids of its own (hf.data.examples takes "
            "id=)."
        )


def check_examples(
    data: Examples, *, num_classes: int | None = None, name: str = "data"
) -> None:
    """Raises unless ``data`` are well-formed examples.

    Args:
        data: what to check.
        num_classes: C, where it is known: labels must be smaller.
        name: the argument's name, for the message.

    Raises:
        TypeError: not Examples, or wrong dtypes.
        ValueError: wrong shapes, negative or NaN weights, labels out of range,
            non-finite inputs, or no example that counts.
    """
    check_is_examples(data, name)
    # Integers are tokens; bytes would be pixels that are not normalised.
    is_token = jnp.issubdtype(data.x.dtype, jnp.integer) and data.x.dtype != jnp.uint8
    if not (is_token or jnp.issubdtype(data.x.dtype, jnp.floating)):
        raise TypeError(
            f"{name}.x must be floating point, got dtype {data.x.dtype}: normalise "
            "integer pixels first (hf.data.load does)."
        )
    if data.x.ndim < 2:
        raise ValueError(f"{name}.x must be [N, ...], got shape {data.x.shape}.")
    num_rows = data.x.shape[0]
    for field in ("y", "weight", "id"):
        leaf = getattr(data, field)
        if leaf.shape != (num_rows,):
            raise ValueError(
                f"{name}.{field} must have shape ({num_rows},) like {name}.x's first "
                f"axis, got {leaf.shape}."
            )
    if not is_concrete(data):
        _check_integers(data, name)
        return
    weight = np.asarray(data.weight)
    if np.issubdtype(weight.dtype, np.floating) and np.isnan(weight).any():
        raise ValueError(f"{name}.weight has NaN at row {np.isnan(weight).argmax()}.")
    if (weight < 0).any():
        row = int((weight < 0).argmax())
        raise ValueError(
            f"{name}.weight must be non-negative, got {weight[row]} at row {row}."
        )
    _check_integers(data, name)
    if not weight.any():
        raise ValueError(f"{name}.weight is zero everywhere: no example counts.")
    y = np.asarray(data.y)
    bad = (y < 0) | (y >= (np.inf if num_classes is None else num_classes))
    if bad.any():
        row = int(bad.argmax())
        allowed = "non-negative" if num_classes is None else f"in [0, {num_classes})"
        raise ValueError(
            f"{name}.y must hold labels {allowed}, got {y[row]} at row {row}."
        )
    finite = np.isfinite(np.asarray(data.x)).reshape(num_rows, -1).all(axis=1)
    if not finite.all():
        raise ValueError(f"{name}.x is not finite at row {int((~finite).argmax())}.")


def _check_integers(data: Examples, name: str) -> None:
    for field in ("y", "weight", "id"):
        dtype = getattr(data, field).dtype
        if not jnp.issubdtype(dtype, jnp.integer):
            raise TypeError(f"{name}.{field} must be integers, got dtype {dtype}.")


def check_classifier(
    classifier: Classifier,
    variables,
    x: Array,
    *,
    num_classes: int | None = None,
) -> int:
    """Raises unless the classifier takes ``x`` and gives ``[N, C]`` logits.

    Nothing is computed: shapes are evaluated abstractly.

    Args:
        classifier: the model.
        variables: its variables, or None to check freshly made ones.
        x: inputs, ``[N, ...]``.
        num_classes: C that labels or requests want, where it is known.

    Returns:
        C, the number of logits.
    """
    if not isinstance(classifier, Classifier):
        raise TypeError(
            "classifier must be a hf.Classifier, made by hf.from_linen, hf.from_nnx or "
            f"hf.from_functions; got {type(classifier).__name__}."
        )
    if variables is not None and not isinstance(variables, Mapping):
        raise TypeError(
            "variables must be a dictionary such as {'params': ...}; got "
            f"{type(variables).__name__} (a state has them as state.variables)."
        )
    one = jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype)
    try:
        if variables is None:
            variables = jax.eval_shape(
                classifier.init, jax.eval_shape(lambda: jax.random.key(0)), one
            )
        logits = jax.eval_shape(classifier.apply, variables, one)
    except Exception as error:
        if variables is not None:
            check_classifier(classifier, None, x)  # Or is it the inputs?
            raise ValueError(
                "variables do not fit the classifier "
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
            "classes: they must match."
        )
    return logits.shape[1]


def check_init(classifier: Classifier, variables: Variables, data: Examples) -> int:
    """Raises unless a method can prepare itself with these; C, the logits."""
    check_is_examples(data)
    return check_classifier(classifier, variables, data.x)


def check_request(
    classifier: Classifier, variables: Variables, request: ForgetRequest
) -> None:
    """Raises ValueError unless the request's data and classes fit the classifier.

    Args:
        classifier: the model.
        variables: its variables.
        request: what is to be forgotten; one without data is not checked.
    """
    if not isinstance(request, ForgetRequest):
        raise TypeError(
            "request must be a hf.ForgetRequest, such as hf.forget_rows(data, rows) "
            f"gives; got {type(request).__name__}."
        )
    if request.classes.ndim != 1:
        raise ValueError(
            f"request is stacked, classes of shape {request.classes.shape}: answer it "
            "with hf.unlearn_sequence or hf.unlearn_each."
        )
    if request.data is not None:
        check_classifier(
            classifier,
            variables,
            request.data.x,
            num_classes=request.classes.shape[-1],
        )
