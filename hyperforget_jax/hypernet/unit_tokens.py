"""Parameters as tokens and back, to the bit: one token a hidden unit."""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from hyperforget_jax import checks
from hyperforget_jax.base import Array, Classifier, Variables
from hyperforget_jax.hypernet.chunk_tokens import (
    ChunkTokenizer,
    Group,
    TreeSpec,
    chunk_tokens,
    in_common_dtype,
    tree_spec,
)
from hyperforget_jax.hypernet.sequential import (
    Layer,
    NotSequential,
    check_symmetry,
    sequential_layers,
)

__all__ = [
    "Tokenizer",
    "UnitTokenizer",
    "tokenizer",
    "unit_tokens",
]


@dataclasses.dataclass(frozen=True)
class UnitTokenizer:
    """One token a hidden unit, as :func:`unit_tokens` describes. Static."""

    spec: TreeSpec
    layers: tuple[Layer, ...]
    kind: ClassVar[str] = "units"

    @property
    def hidden(self) -> tuple[int, ...]:
        """Count the units of each hidden layer, from the inputs on."""
        return tuple(layer.features for layer in self.layers[:-1])

    @property
    def groups(self) -> tuple[Group, ...]:
        """List the groups of tokens, in order."""
        groups = []
        for layer, reader in self._with_readers:
            width = layer.rows + (layer.bias is not None)
            if reader is not None:
                width += reader.rows * reader.features // layer.features
            groups.append(Group(layer.name, layer.features, width))
        if self._output_bias is not None:
            groups.append(Group("output bias", 1, self.layers[-1].features))
        return tuple(groups)

    @property
    def _with_readers(self) -> list[tuple[Layer, Layer | None]]:
        """List the layers whose units are tokens, with the layers that read them."""
        if len(self.layers) == 1:
            return [(self.layers[0], None)]
        return list(zip(self.layers, self.layers[1:], strict=False))

    @property
    def _output_bias(self) -> int | None:
        return self.layers[-1].bias if self.hidden else None

    def tokenize(self, params: Any) -> tuple[Array, ...]:
        """Write params as tokens, ``[count, width]`` a group, at least float32."""
        leaves = in_common_dtype(self.spec.leaves(params))
        tokens = []
        for layer, reader in self._with_readers:
            parts = [leaves[layer.kernel].reshape(layer.rows, -1).T]
            if layer.bias is not None:
                parts.append(leaves[layer.bias].reshape(-1, 1))
            if reader is not None:
                outgoing = leaves[reader.kernel].reshape(reader.rows, -1)
                parts.append(_by_unit(outgoing, layer.features))
            tokens.append(jnp.concatenate(parts, axis=1))
        if self._output_bias is not None:
            tokens.append(leaves[self._output_bias].reshape(1, -1))
        return tuple(tokens)

    def detokenize(self, tokens: tuple[Array, ...]) -> Any:
        """Read params from tokens, in their own shapes and dtypes."""
        leaves: dict[int, Array] = {}
        read: Array | None = None  # The layer's kernel, as the units before have it.
        pairs = zip(self._with_readers, tokens, strict=False)
        for (layer, reader), group in pairs:
            incoming = group[:, : layer.rows].T
            leaves[layer.kernel] = incoming if read is None else _mean(incoming, read)
            if layer.bias is not None:
                leaves[layer.bias] = group[:, layer.rows]
            if reader is not None:
                outgoing = group[:, layer.rows + (layer.bias is not None) :]
                read = _from_units(outgoing, reader.rows)
        if read is not None:
            leaves[self.layers[-1].kernel] = read
        if self._output_bias is not None:
            leaves[self._output_bias] = tokens[-1]
        return self.spec.restore(leaves)

    def permute(self, params: Any, permutations: tuple[Any, ...]) -> Any:
        """Reorder hidden units: unit ``j`` becomes what was unit ``permutation[j]``.

        ``permutations`` are integers ``[units]``, one array a hidden layer.
        """
        leaves, shapes = self.spec.leaves(params), self.spec.shapes
        pairs = zip(self.layers, self.layers[1:], permutations, strict=False)
        for layer, reader, order in pairs:
            order = jnp.asarray(order)
            kernel = leaves[layer.kernel].reshape(layer.rows, -1)[:, order]
            leaves[layer.kernel] = kernel.reshape(shapes[layer.kernel])
            if layer.bias is not None:
                bias = leaves[layer.bias].reshape(-1)[order]
                leaves[layer.bias] = bias.reshape(shapes[layer.bias])
            rows = leaves[reader.kernel].reshape(-1, layer.features, reader.features)
            leaves[reader.kernel] = rows[:, order].reshape(shapes[reader.kernel])
        return self.spec.structure.unflatten(leaves)


Tokenizer = UnitTokenizer | ChunkTokenizer


def tokenizer(
    classifier: Classifier,
    variables: Variables,
    x: Any,
    kind: str = "auto",
    size: int = 1000,
) -> Tokenizer:
    """Make the tokenizer for a classifier's parameters.

    Args:
        classifier: the model.
        variables: its variables, or their shapes and dtypes.
        x: inputs ``[N, ...]``; only shape and dtype are used.
        kind: ``"units"`` as by :func:`unit_tokens`, ``"chunks"`` as by
            :func:`chunk_tokens`, or ``"auto"``: units where there are any.
        size: numbers in a chunk.

    Raises:
        ValueError: another kind; units of a classifier that is no plain sequence.
    """
    checks.check_one_of("kind", kind, ("auto", "units", "chunks"))
    if kind != "chunks":
        try:
            return unit_tokens(classifier, variables, x)
        except NotSequential:
            if kind == "units":
                raise
    return chunk_tokens(variables["params"], size)


def unit_tokens(classifier: Classifier, variables: Variables, x: Any) -> UnitTokenizer:
    """Make a tokenizer of one token a hidden unit.

    For a plain sequence of dense and convolutional layers, with anything between them
    that treats all units alike: activations, pooling, flattening with channels last.
    A token holds a unit's (a convolution's output channel's) column of the layer's
    kernel, its bias if there is one, and its rows of the next layer's kernel, all
    flattened. The tokens of one hidden layer are a group, named by the layer's path.
    The output layer's bias is the last group, ``[1, C]``. Without hidden layers the
    outputs are the units: C tokens of a column and its bias.

    A weight between two hidden layers stands in two tokens. Where these disagree, as
    predictions may, ``detokenize`` takes their mean; where they agree it takes the
    number itself, so that params come back to the bit. The gradient is that of the
    mean everywhere.

    Reordering the units of a hidden layer leaves the function unchanged; it permutes
    the layer's tokens, and the entries for it in the tokens of neighbouring layers.
    This is checked here, on random parameters and inputs, for one transposition and
    one cycle of each hidden layer: all permutations are products of these.

    Args:
        classifier: the model, with taps.
        variables: its variables, or their shapes and dtypes.
        x: inputs ``[N, ...]``, floating point; only shape and dtype are used.

    Raises:
        ValueError: a parameter that is no kernel or bias of a tapped layer
            (normalisation), variables beside ``params``, a layer that is called more
            than once or has feature groups, widths that do not follow from one
            another, or logits that change with the order of the units (skip
            connections). The message says which.
    """
    spec = tree_spec(variables["params"])
    layers, epsilon = sequential_layers(classifier, variables, spec, x)
    made = UnitTokenizer(spec, layers)
    check_symmetry(classifier, spec, layers, made.permute, x, epsilon)
    return made


@jax.custom_jvp
def _mean(one: Array, other: Array) -> Array:
    # The sum may overflow, and hardware may flush its last bits.
    return jnp.where(one == other, one, (one + other) / 2)


# Where both agree as well: a choice alone would leave the other without a gradient.
_mean.defjvps(
    lambda tangent, result, one, other: tangent / 2,
    lambda tangent, result, one, other: tangent / 2,
)


def _by_unit(kernel: Array, units: int) -> Array:
    """Reorder a kernel ``[S * units, O]`` by the unit read, ``[units, S * O]``.

    S is the pixels of a window, or those that were flattened before a dense layer.
    """
    by_place = kernel.reshape(-1, units, kernel.shape[1])
    return by_place.swapaxes(0, 1).reshape(units, -1)


def _from_units(outgoing: Array, rows: int) -> Array:
    """Undo :func:`_by_unit`: the kernel ``[rows, O]``."""
    units = outgoing.shape[0]
    by_unit = outgoing.reshape(units, rows // units, -1)
    return by_unit.swapaxes(0, 1).reshape(rows, -1)
