"""Checks of labelled examples."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hyperforget_jax.base import Examples
from hyperforget_jax.checks.values import check_axes, is_concrete

__all__ = [
    "check_examples",
    "check_held_out",
    "check_is_examples",
    "check_labels",
    "check_weights",
]

_MOST = np.iinfo(np.int32).max


def check_is_examples(data, name: str = "data") -> None:
    """Raise unless ``data`` are Examples, on no mesh with explicit axes."""
    if not isinstance(data, Examples):
        raise TypeError(
            f"{name} must be hf.Examples, such as splits.train or what "
            f"hf.data.examples(x, y) gives; got {type(data).__name__}."
        )
    for field, leaf in data._asdict().items():
        if not isinstance(leaf, jax.Array | np.ndarray | jax.ShapeDtypeStruct):
            raise TypeError(
                f"{name}.{field} must be an array, got {type(leaf).__name__}: "
                "hf.data.examples(x, y) gives whole examples."
            )
    check_axes(**{name: data})


def check_held_out(train: Examples, probe: Examples, name: str = "probe") -> None:
    """Raise ValueError unless ``probe`` has inputs alike, and no row of ``train``."""
    if np.ndim(train.x) != np.ndim(probe.x):  # Sizes may differ: images of others.
        raise ValueError(
            f"{name}.x must have as many axes as the training data's x, of shape "
            f"{np.shape(train.x)}; got {np.shape(probe.x)}."
        )
    if not is_concrete(train.id, train.weight, probe.id, probe.weight):
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
    """Raise unless ``data`` are well-formed examples.

    Inputs are finite floats or, for models that look them up, integers; bytes are taken
    for pixels. Labels are below ``num_classes``, where that is known. Weights are not
    negative, one at least is positive, and their sum fits int32.
    """
    check_is_examples(data, name)
    _check_inputs(data.x, name)
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
    check_weights(weight, f"{name}.weight")
    check_labels(np.asarray(data.y), num_classes, name)
    if jnp.issubdtype(data.x.dtype, jnp.floating):
        finite = np.isfinite(np.asarray(data.x)).reshape(num_rows, -1).all(axis=1)
        finite |= weight == 0  # They are as good as absent.
        if not finite.all():
            row = int((~finite).argmax())
            raise ValueError(f"{name}.x is not finite at row {row}.")


def check_weights(weight: Any, name: str = "data.weight") -> None:
    """Raise ValueError where multiplicities add up beyond int32; tracers pass.

    Minibatches are drawn by the running sum of the weights, which would wrap around.
    """
    if not is_concrete(weight):
        return
    host = np.asarray(weight)
    remedy = "divide the weights by what they have in common"
    # Small enough before they are added, or int64 might wrap around too.
    if host.size and host.max() > _MOST:
        row = np.unravel_index(host.argmax(), host.shape)
        where = f"at row {row[-1]}" + (f" of member {row[0]}" if len(row) > 1 else "")
        raise ValueError(
            f"{name} must fit int32, got {host.max()} {where}; at most {_MOST} is "
            f"allowed: {remedy}."
        )
    total = np.sum(host, axis=-1, dtype=np.int64)
    if (total > _MOST).any():
        raise ValueError(
            f"{name} must sum to at most {_MOST}, the largest int32, got a sum of "
            f"{total.max()}: {remedy}."
        )


def check_labels(y: np.ndarray, num_classes: int | None, name: str) -> None:
    """Raise ValueError unless labels lie in ``[0, num_classes)``."""
    bad = (y < 0) | (y >= (np.inf if num_classes is None else num_classes))
    if not bad.any():
        return
    row = int(bad.argmax())
    allowed = "non-negative" if num_classes is None else f"in [0, {num_classes})"
    remedy = "number them, `np.unique(y, return_inverse=True)[1]`"
    if y.min() == 1 and y.max() == num_classes:
        remedy = "they seem to count from 1, `y - 1`"
    if num_classes is not None and y[row] >= num_classes:
        wanted = int(y.max()) + 1
        remedy += f"; or give num_classes={wanted}, here or where the model was made"
    raise ValueError(
        f"{name}.y must hold labels {allowed}, got {y[row]} at row {row}: {remedy}."
    )


def _check_inputs(x: Any, name: str) -> None:
    dtype = x.dtype
    is_whole = jnp.issubdtype(dtype, jnp.integer) and dtype != jnp.uint8
    if not (jnp.issubdtype(dtype, jnp.floating) or is_whole):
        raise TypeError(
            f"{name}.x must be floating point, got dtype {dtype}: normalise integer "
            "pixels first (hf.data.load does), and give token ids as int32."
        )
    if x.ndim < 2:
        raise ValueError(f"{name}.x must be [N, ...], got shape {x.shape}.")


def _check_integers(data: Examples, name: str) -> None:
    for field in ("y", "weight", "id"):
        dtype = getattr(data, field).dtype
        if not jnp.issubdtype(dtype, jnp.integer):
            raise TypeError(f"{name}.{field} must be integers, got dtype {dtype}.")
