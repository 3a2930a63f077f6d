"""The nouns and the one protocol: examples, requests, classifiers, unlearners.

Everything here is a pytree of arrays or a tuple of pure functions. No module of
the package is imported, so every other module may import this one. It is longer than
others, since the protocol is to be read in one place.
"""

import dataclasses
from collections.abc import Mapping, Set
from dataclasses import field
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

__all__ = [
    "OUTPUT_MASK",
    "Access",
    "Array",
    "Classifier",
    "Examples",
    "ForgetRequest",
    "Tap",
    "Unlearner",
    "Variables",
]

Array = jax.Array
Variables = dict[str, Any]
"""Flax's own nesting: ``{"params": ..., "batch_stats": ...}``."""

OUTPUT_MASK = "output_mask"
"""An optional entry of the variables, bool ``[C]``: classes never to be predicted."""


class Examples(NamedTuple):
    """Labelled examples. A row of weight zero is as good as absent.

    Because absence is a weight, every split of a data set keeps its shape and one
    compilation serves every request.

    Attributes:
        x: inputs, floating point, ``[N, ...]``.
        y: labels, int32, ``[N]``.
        weight: how often each row counts, int32, ``[N]``: 0, 1 or a multiplicity.
        id: the example's name for ever, int32, ``[N]``; -1 for padding.
    """

    x: Array
    y: Array
    weight: Array
    id: Array

    def take(self, rows: Array) -> "Examples":
        """Take rows ``[F]`` by number; those out of range weigh zero, with id -1.

        ``jnp.take`` alone would fill them with NaN, and zero times NaN is NaN.
        """
        rows = jnp.asarray(rows)
        there = (rows >= 0) & (rows < self.y.shape[0])
        clipped = jnp.clip(rows, 0, self.y.shape[0] - 1)
        x, y, weight, id = (leaf[clipped] for leaf in self)
        return Examples(x, y, jnp.where(there, weight, 0), jnp.where(there, id, -1))

    def without(self, rows: Array) -> "Examples":
        """Give rows ``[F]`` the weight zero; those out of range do nothing."""
        rows = jnp.asarray(rows)
        # Negative indices would wrap around: send them out of range with the padding.
        rows = jnp.where(rows < 0, self.y.shape[0], rows)
        return self._replace(weight=self.weight.at[rows].set(0, mode="drop"))


class ForgetRequest(NamedTuple):
    """What is to be forgotten, and the data at hand to forget it with.

    Made by :mod:`hyperforget_jax.requests`.

    What is not at hand is missing by structure, so that a method which needs it raises
    alike under ``jit`` and without.

    Attributes:
        data: the training examples that are still there, or None if there are none.
        rows: row numbers of ``data`` to forget, int32, ``[F]``; rows outside
            ``[0, N)`` are padding. None if ``data`` are the examples to forget, and
            no other ones are at hand.
        classes: the classes to forget, bool, ``[C]``; all False when single rows and
            not a class are to be forgotten.
    """

    data: Examples | None
    rows: Array | None
    classes: Array

    def _held(self) -> Examples:
        if self.data is None:
            raise ValueError(
                "This request carries no data (data=None, made by forget_labels), and "
                "the method asks for examples: use forget_classes or forget_rows, or a "
                "method whose access.unlearn is {'classes'}."
            )
        check_single(self)
        return self.data

    @property
    def forget(self) -> Examples:
        """Take the rows asked for: `[F]` examples, padding weightless."""
        data = self._held()
        return data if self.rows is None else data.take(self.rows)

    @property
    def retain(self) -> Examples:
        """Take all `[N]` examples, the forgotten rows weightless."""
        data = self._held()
        if self.rows is None:
            raise ValueError(
                "This request brings the examples to forget alone (forget_examples), "
                "and the method asks for those that stay: use forget_rows or "
                "forget_classes with all data, or a method whose access.unlearn has no "
                "'retain'."
            )
        return data.without(self.rows)

    def covers(self, examples: Examples) -> Array:
        """Tell which of any examples the request asks to forget, bool, ``[M]``.

        A class request covers every example of the class wherever it is found, in
        the probe and the test split too; a row request covers the same ids.
        """
        by_class = self.classes[examples.y]
        if self.data is None:
            return by_class
        by_id = jnp.isin(examples.id, self.forget.id) & (examples.id >= 0)
        return jnp.where(jnp.any(self.classes), by_class, by_id)

    def split(self, examples: Examples) -> tuple[Examples, Examples]:
        """Split any examples into (forget, retain) halves, both of full length."""
        covered = self.covers(examples)
        return (
            examples._replace(weight=jnp.where(covered, examples.weight, 0)),
            examples._replace(weight=jnp.where(covered, 0, examples.weight)),
        )


def check_single(request: ForgetRequest) -> None:
    """Raise ValueError for several requests, stacked, where a single one is taken."""
    weight = None if request.data is None else request.data.weight
    shapes = {"classes": request.classes, "rows": request.rows, "data.weight": weight}
    for name, leaf in shapes.items():
        if leaf is not None and getattr(leaf, "ndim", 0) > 1:
            raise ValueError(
                f"request must be a single one, got {leaf.shape[0]}, stacked "
                f"({name} of shape {leaf.shape}): answer what hf.sequence made with "
                "hf.unlearn_sequence, and what hf.forget_each_class made with "
                "hf.unlearn_each; for everything else give one of them, as "
                "hf.forget_classes or hf.forget_rows makes it."
            )


_STATIC = {"static": True}


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Tap:
    """What one call of a dense or convolutional layer was given.

    A dense layer may contract several axes, and give several. The tap's input has the
    former as one, of size ``D``: ``kernel.reshape(D, -1)`` is the layer's matrix and
    ``bias.reshape(-1)`` its bias.

    Attributes:
        input: the layer's input, ``[N, ..., features]``.
        kind: ``"dense"`` or ``"conv"``.
        strides: window strides, one a spatial axis (empty for dense layers).
        padding: ``(low, high)`` a spatial axis, in pixels.
        dilation: kernel dilation, one a spatial axis.
        groups: feature groups.
        output_shape: the shape of what the layer gave, ``[N, ..., *features]``.
        gives_logits: whether what it gave are the model's logits, untouched.
        call: its place among the calls of all layers, from 0. (A dictionary of taps
            leaves a trace in the order of its keys.)
    """

    input: Array
    kind: str = field(metadata=_STATIC)
    strides: tuple[int, ...] = field(default=(), metadata=_STATIC)
    padding: tuple[tuple[int, int], ...] = field(default=(), metadata=_STATIC)
    dilation: tuple[int, ...] = field(default=(), metadata=_STATIC)
    groups: int = field(default=1, metadata=_STATIC)
    output_shape: tuple[int, ...] = field(default=(), metadata=_STATIC)
    gives_logits: bool = field(default=False, metadata=_STATIC)
    call: int = field(default=0, metadata=_STATIC)


class InitClassifierFn(Protocol):
    def __call__(self, key: Array, x: Array, /) -> Variables:
        """Make fresh variables for inputs shaped like ``x``, whatever its values."""


class ApplyFn(Protocol):
    def __call__(self, variables: Variables, x: Array, /) -> Array:
        """Compute logits ``[N, C]`` of inputs ``[N, ...]``, in evaluation mode."""


class ApplyTrainFn(Protocol):
    def __call__(
        self, key: Array, variables: Variables, x: Array, /
    ) -> tuple[Array, Variables]:
        """Compute logits in training mode, and variables with new batch statistics."""


class TapsFn(Protocol):
    def __call__(
        self, variables: Variables, x: Array, /
    ) -> Mapping[str, tuple[Tap, ...]]:
        """Record the inputs of dense and convolutional layers, by parameter path.

        One :class:`Tap` a call, in order: a layer that is shared is called twice.
        """


class TappedFn(Protocol):
    def __call__(
        self,
        variables: Variables,
        x: Array,
        shifts: Mapping[str, tuple[Array, ...]],
        /,
    ) -> tuple[Array, Mapping[str, tuple[Tap, ...]]]:
        """Compute logits as ``apply`` does, and taps of the layers that are shifted.

        The gradient with respect to a shift is that with respect to the layer's
        output: with its tap it gives the gradient of the layer's parameters, example
        by example.

        Args:
            variables: the model's variables.
            x: inputs, ``[N, ...]``.
            shifts: what is added to the outputs of layers, by parameter path, one
                array a call, of the shape of the output. Empty to shift none.

        Returns:
            The logits, and the taps of the layers in ``shifts``; if that is empty, of
            every layer whose parameters act through these calls and in no other way.
        """


class Classifier(NamedTuple):
    """Any model, as pure functions of its variables.

    Built by ``from_linen``, ``from_nnx`` or ``from_functions``, which make equal
    classifiers, that hash alike, of equal models.

    Attributes:
        init: ``(key, x) -> variables``.
        apply: ``(variables, x) -> logits``, evaluation mode.
        apply_train: ``(key, variables, x) -> (logits, variables)``, training mode.
        taps: ``(variables, x) -> {path: calls}``, or None where it is not known.
        description: one line for manifests: what the model is.
        tapped: ``(variables, x, shifts) -> (logits, {path: calls})``, or None where it
            is not known.
    """

    init: InitClassifierFn
    apply: ApplyFn
    apply_train: ApplyTrainFn
    taps: TapsFn | None = None
    description: str = ""
    tapped: TappedFn | None = None


@dataclasses.dataclass(frozen=True)
class Access:
    """What a method reads, and when: a promise, and the tests hold it.

    Each phase reads a subset of ``{"retain", "forget", "classes", "probe"}``.

    Attributes:
        before: what was read ahead of ``init``, to make what the method is built on.
        init: what ``init`` reads.
        unlearn: what ``unlearn`` reads.
        remains: one clause for the table of methods: what still carries traces of
            the forgotten data in the state after a request, beside the variables.
    """

    before: Set[str] = frozenset()
    init: Set[str] = frozenset()
    unlearn: Set[str] = frozenset()
    remains: str = "nothing"

    def __post_init__(self):
        known = {"retain", "forget", "classes", "probe"}
        for phase in ("before", "init", "unlearn"):
            unknown = set(getattr(self, phase)) - known
            if unknown:
                raise ValueError(
                    f"Access.{phase} names {sorted(unknown)}; allowed: {sorted(known)}."
                )
            object.__setattr__(self, phase, frozenset(getattr(self, phase)))


class InitFn(Protocol):
    def __call__(self, key: Array, variables: Variables, data: Any, /) -> Any:
        """Prepare, while the training data are there; ``state[0]`` is ``variables``.

        ``data`` are Examples, or for networks of models who saw which of them.
        """


class UnlearnFn(Protocol):
    def __call__(self, key: Array, state: Any, request: Any, /) -> tuple[Any, Any]:
        """Answer one request, by the state of ``init`` or of an earlier request.

        It is a ForgetRequest, or for networks of models one by root. Returns the next
        state, of the same structure, and what the log wants and no later step needs.
        """


class Unlearner(NamedTuple):
    """Prepare once, forget many times: two pure functions and a promise.

    Sequential requests are a ``lax.scan`` over ``unlearn``; many requests, many
    models and sweeps over float hyper-parameters are a ``vmap``. The caller jits.

    Attributes:
        init: ``(key, variables, data) -> state``.
        unlearn: ``(key, state, request) -> (state, info)``.
        access: what is read when.
    """

    init: InitFn
    unlearn: UnlearnFn
    access: Access
