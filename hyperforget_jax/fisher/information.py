"""A diagonal Fisher with how it was made, so that like is compared with like."""

import dataclasses
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from hyperforget_jax import checks
from hyperforget_jax.base import Array
from hyperforget_jax.trees import leaf_paths

__all__ = ["Fisher", "check_comparable", "check_values"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Fisher:
    """Diagonal Fisher information.

    How it was made is static, so that two kinds are told apart also under a trace.

    Attributes:
        values: like the parameters, or like the part of them that was in scope,
            float32, non-negative.
        mass: what they are a mean over: the sum of weights, or the number of
            minibatches that are not empty under ``"batch_gradient"``, float32, ``[]``.
        estimator: ``"per_example"`` or ``"batch_gradient"``.
        labels: ``"given"`` (the empirical Fisher) or ``"model"`` (the true Fisher, the
            expectation over the model's own labels).
        batch_size: rows of a minibatch under ``"batch_gradient"``, which it depends
            on; None under ``"per_example"``, which does not.
    """

    values: Any
    mass: Array
    estimator: str = dataclasses.field(metadata={"static": True})
    labels: str = dataclasses.field(metadata={"static": True})
    batch_size: int | None = dataclasses.field(metadata={"static": True})


# Users register the NamedTuples of states themselves, under names of their own; this is
# no NamedTuple.
export.register_pytree_node_serialization(
    Fisher,
    serialized_name="hyperforget_jax.fisher.Fisher",
    serialize_auxdata=lambda static: json.dumps(static).encode(),
    deserialize_auxdata=lambda static: tuple(json.loads(static)),
)


def check_comparable(first: Fisher, second: Fisher) -> None:
    """Raises ValueError unless two Fishers may be put into one ratio or one maximum.

    Nothing but shapes and static fields is looked at, so that traced ones are checked
    too. One of the two may be stacked along leading axes.

    Args:
        first: a Fisher.
        second: another.

    Raises:
        ValueError: mixed estimators, labels or batch sizes; other parameters, or
            parameters of other shapes.
    """
    if _kind(first) != _kind(second):
        raise ValueError(
            f"mixed estimators: one Fisher is {_kind(first)}, the other "
            f"{_kind(second)}. Two are comparable if estimator and labels are the "
            "same, and the batch size too under 'batch_gradient'."
        )
    if jax.tree.structure(first.values) != jax.tree.structure(second.values):
        raise ValueError(
            "The Fishers cover different parameters: "
            f"{', '.join(leaf_paths(first.values))}; and "
            f"{', '.join(leaf_paths(second.values))}."
        )
    for path, one, other in zip(
        leaf_paths(first.values),
        map(np.shape, jax.tree.leaves(first.values)),
        map(np.shape, jax.tree.leaves(second.values)),
        strict=True,
    ):
        axes = min(len(one), len(other))
        if one[len(one) - axes :] != other[len(other) - axes :]:
            raise ValueError(
                f"The Fishers differ in shape at {path}: {one} and {other}."
            )


def check_values(fisher: Fisher, name: str = "fisher") -> None:
    """Raises ValueError unless a Fisher is finite and non-negative.

    Values are looked at where they are concrete; a traced Fisher passes.

    Args:
        fisher: what to check.
        name: the argument's name, for the message.
    """
    if not checks.is_concrete(fisher.values) or _is_sound(fisher.values):
        return
    leaves = map(np.asarray, jax.tree.leaves(fisher.values))
    for path, leaf in zip(leaf_paths(fisher.values), leaves, strict=True):
        bad = ~np.isfinite(leaf) | (leaf < 0)
        if bad.any():
            raise ValueError(
                f"{name}.values must be finite and non-negative, got "
                f"{leaf[bad][0]} in {path}."
            )


@jax.jit
def _is_sound(values: Any) -> Array:
    """One pass without temporaries: graphs hold gigabytes."""
    sound = [
        jnp.all((leaf >= 0) & jnp.isfinite(leaf)) for leaf in jax.tree.leaves(values)
    ]
    return jnp.all(jnp.array(sound))


def _kind(fisher: Fisher) -> str:
    size = "" if fisher.batch_size is None else f", batch_size={fisher.batch_size}"
    return f"estimator={fisher.estimator!r}, labels={fisher.labels!r}{size}"
