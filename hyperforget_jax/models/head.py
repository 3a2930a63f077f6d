"""The last layers: where they are, and columns that belong to classes.

Models of one architecture have heads of one width, with a mask of known classes, so
that they stack. Where architectures differ in width, columns are mapped by class.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hyperforget_jax import checks, trees
from hyperforget_jax.base import Array, Classifier, Tap, Variables
from hyperforget_jax.models.taps import tap_shapes

__all__ = [
    "Head",
    "centre_head",
    "find_head",
    "find_logits_layer",
    "hand_down",
    "head_by_class",
    "logits_layer",
    "move_columns",
    "widen",
]

# As the adapters' mask: far below any logit, and finite.
_ABSENT_LOGIT = -1e4


class Head(NamedTuple):
    """The last layer of an architecture.

    Attributes:
        path: of its parameters.
        columns: the class of each output.
    """

    path: str
    columns: tuple[int, ...]


def widen(
    classifier: Classifier, columns: Sequence[int], num_classes: int
) -> Classifier:
    """Make a classifier of some classes one of all: the others are never predicted.

    Args:
        classifier: with one logit for each of ``columns``.
        columns: the class of each logit, each once.
        num_classes: C.

    Returns:
        A classifier with the same variables and logits ``[N, C]``.

    Raises:
        ValueError: columns that repeat or are no classes.
    """
    checks.check_is_classifier(classifier)
    checks.check_sizes(num_classes=num_classes)
    chosen = np.asarray(columns)
    if len(set(chosen.tolist())) != chosen.size or not all(
        0 <= label < num_classes for label in chosen.tolist()
    ):
        raise ValueError(
            f"columns must be different classes in [0, {num_classes}), got "
            f"{chosen.tolist()}."
        )

    def wide(logits: Array) -> Array:
        absent = jnp.full((logits.shape[0], num_classes), _ABSENT_LOGIT, logits.dtype)
        return absent.at[:, chosen].set(logits)

    def own(variables: Variables) -> Variables:
        # A mask of classes is a mask of this head's columns.
        return {
            name: value[chosen] if name == "output_mask" else value
            for name, value in variables.items()
        }

    def apply(variables: Variables, x: Array) -> Array:
        return wide(classifier.apply(own(variables), x))

    def apply_train(key: Array, variables: Variables, x: Array):
        logits, updated = classifier.apply_train(key, own(variables), x)
        return wide(logits), {
            **variables,
            **{name: value for name, value in updated.items() if name != "output_mask"},
        }

    return Classifier(
        classifier.init,
        apply,
        apply_train,
        classifier.taps and (lambda variables, x: classifier.taps(own(variables), x)),
        description=f"{classifier.description} of classes {chosen.tolist()}",
    )


def find_head(
    classifier: Classifier,
    variables: Variables,
    x: Array,
    columns: Sequence[int] | None = None,
) -> Head:
    """Find the last layer of a classifier, whose outputs are the logits.

    Args:
        classifier: a model with taps.
        variables: its variables.
        x: inputs, ``[N, ...]``; only shapes matter.
        columns: the class of each output; by default ``0, ..., C-1``.

    Raises:
        ValueError: no taps, a last layer that is not one dense layer, or columns that
            are not as many as its outputs.
    """
    path, taps = _last_layer(classifier, variables, x)
    if not path:
        raise ValueError(
            f"The classifier ({classifier.description}) is a single layer, which has "
            "no name among its parameters: make it part of a module."
        )
    if len(taps) != 1 or taps[0].kind != "dense" or len(taps[0].input.shape) != 2:
        raise ValueError(
            f"The last layer, {path}, is not one dense layer that is called once: "
            "what changes the head needs one."
        )
    kernel = trees.get(variables["params"], path)["kernel"].shape
    if len(kernel) != 2:
        raise ValueError(
            f"The last layer, {path}, has a kernel of shape {kernel}: what "
            "changes the head needs one of two axes (nn.Dense)."
        )
    width = kernel[-1]
    own = tuple(range(width) if columns is None else columns)
    if len(own) != width:
        raise ValueError(
            f"columns must name the class of each of the {width} outputs of {path}, "
            f"got {len(own)}."
        )
    return Head(path, own)


def logits_layer(taps: Mapping[str, tuple[Tap, ...]]) -> str | None:
    """Return the path of the dense layer whose outputs are the logits, or None.

    A layer that is called elsewhere too has other outputs beside the logits, and is
    not returned.

    Args:
        taps: by parameter path, as a classifier's ``tapped`` gives them.
    """
    for path, calls in taps.items():
        if len(calls) == 1 and calls[0].gives_logits and calls[0].kind == "dense":
            return path
    return None


def find_logits_layer(
    classifier: Classifier, variables: Variables, x: Array
) -> str | None:
    """Find :func:`logits_layer` of a classifier, by its shapes; None if not tapped."""
    if classifier.tapped is None:
        return None
    return logits_layer(tap_shapes(classifier, variables, x))


def head_by_class(variables: Variables, head: Head, num_classes: int):
    """Centre the head over classes, with a column for every class of the data.

    Returns:
        Kernel ``[d, C]`` and bias ``[C]``; zero for classes without a column.
    """
    centred = centre_head(variables["params"], head.path)
    part = trees.get(centred, head.path)
    kernel = part["kernel"]
    bias = part.get("bias", jnp.zeros(kernel.shape[-1], kernel.dtype))
    return move_columns((kernel, bias), head.columns, range(num_classes))


def centre_head(params: Any, head: str, among: Array | None = None) -> Any:
    """Subtract the mean over classes from each row of the last layer's kernel and bias.

    All logits of an example move by the same amount, so that its softmax stays. Of all
    heads with the same softmax this is the one to dampen: a weight drawn towards zero
    is drawn towards the mean over classes.

    Args:
        params: nested dictionaries of arrays.
        head: path of the last layer, such as ``"Dense_1"``.
        among: the classes whose mean it is, bool, ``[C]``, at least one of them True;
            None for all. A logit that is zero then is no larger than the largest of
            theirs.

    Returns:
        Like ``params``.

    Raises:
        ValueError: no parameters under ``head``.
    """

    def centred_leaf(leaf):
        where = None
        if among is not None:
            where = jnp.broadcast_to(
                among.reshape(*[1] * (leaf.ndim - 1), -1), leaf.shape
            )
        return leaf - jnp.mean(leaf, axis=-1, keepdims=True, where=where)

    centred = jax.tree.map(centred_leaf, trees.restrict(params, (head,)))
    return trees.overlay(params, centred)


def _last_layer(classifier: Classifier, variables: Any, x: Any):
    """The layer that gives the logits; where that is not known, the last one called."""
    found = tap_shapes(classifier, variables, x)
    if not found:
        raise ValueError(
            f"The classifier ({classifier.description}) has no taps, so its last layer "
            "is not known: make it with hf.from_linen or hf.from_nnx, or let the "
            "function compute its last layer with hf.models.dense, by name."
        )

    def place(path):
        return found[path][-1].gives_logits, found[path][-1].call

    path = max(found, key=place)
    return path, found[path]


def move_columns(
    part: Any, source: Sequence[int], target: Sequence[int], fill: Any = 0.0
) -> Any:
    """Rearrange a head's columns from one list of classes to another.

    Args:
        part: leaves ``[..., len(source)]``.
        source: the class of each column.
        target: the classes wanted.
        fill: what stands for classes that the source lacks: a number, or leaves
            ``[..., len(target)]``.
    """
    place = {label: column for column, label in enumerate(source)}
    taken = np.array([place.get(label, 0) for label in target])
    there = np.array([label in place for label in target])

    def moved(leaf, other):
        mask = there.reshape(*[1] * (leaf.ndim - 1), -1)
        return jnp.where(mask, leaf[..., taken], other)

    if isinstance(fill, float):
        return jax.tree.map(lambda leaf: moved(leaf, fill), part)
    return jax.tree.map(moved, part, fill)


def hand_down(
    parent: Variables,
    fresh: Variables,
    source: Head,
    target: Head,
) -> Variables:
    """Start a child of another architecture from its parent.

    Returns:
        Variables like ``fresh``: the parent's where path and shape are the same, of
        the head the columns of the same classes, the rest fresh.
    """

    def same(new, old):
        if not isinstance(new, Mapping):
            fits = jnp.shape(new) == jnp.shape(old)
            return old if fits else new
        if not isinstance(old, Mapping):
            return new
        return {k: same(v, old[k]) if k in old else v for k, v in new.items()}

    start = same(fresh, parent)
    fill = trees.get(fresh["params"], target.path)
    old = trees.get(parent["params"], source.path)
    new = move_columns(old, source.columns, target.columns, fill=fill)
    return {**start, "params": trees.replace(start["params"], target.path, new)}
