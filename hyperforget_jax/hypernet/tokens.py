"""Parameters as tokens and back, to the bit: one a hidden unit, or plain chunks."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hyperforget_jax.base import Array, Classifier, Variables
from hyperforget_jax.hypernet.chains import NotAChain, chain_of, check_symmetry
from hyperforget_jax.hypernet.templates import template_of

__all__ = ["Group", "Tokenizer", "chunk_tokens", "tokenizer", "unit_tokens"]

_KINDS = ("auto", "units", "chunks")


class Group(NamedTuple):
    """Tokens of one kind, which share an encoder.

    Attributes:
        name: ``"Dense_0"`` for the units of that layer, ``"output bias"``, or
            ``"Dense_0/kernel[3]"`` for a chunk of a leaf.
        count: tokens in it.
        width: numbers in each.
    """

    name: str
    count: int
    width: int


class Tokenizer(NamedTuple):
    """A way to write a classifier's parameters as tokens, and to read them back.

    All three functions are pure; they may be jitted and vmapped.

    Attributes:
        kind: ``"units"`` or ``"chunks"``.
        groups: what the tokens are, in order.
        tokenize: ``params -> tokens``, one array ``[count, width]`` a group, in the
            common dtype of the leaves and at least float32.
        detokenize: ``tokens -> params``, of the structure, the shapes and the dtypes
            that the tokenizer was made for.
        permute: ``(params, permutations) -> params``, where unit ``j`` of a hidden
            layer is what was its unit ``permutation[j]``; integers ``[units]``, one
            array a hidden layer. None for chunks.
        hidden: units of each hidden layer, from the inputs on; empty for chunks.
    """

    kind: str
    groups: tuple[Group, ...]
    tokenize: Callable[[Any], tuple[Array, ...]]
    detokenize: Callable[[tuple[Array, ...]], Any]
    permute: Callable[[Any, tuple[Any, ...]], Any] | None
    hidden: tuple[int, ...]


def tokenizer(
    classifier: Classifier,
    variables: Variables,
    x: Any,
    kind: str = "auto",
    size: int = 1000,
) -> Tokenizer:
    """The tokenizer for a classifier's parameters.

    Args:
        classifier: the model.
        variables: its variables, or their shapes and dtypes.
        x: inputs ``[N, ...]``; only shape and dtype are used. Those of integers have
            chunks alone.
        kind: ``"units"``, ``"chunks"``, or ``"auto"``: units where there are any, as
            :func:`unit_tokens` says, and chunks elsewhere.
        size: numbers in a chunk.

    Raises:
        ValueError: unknown kind, or as :func:`unit_tokens` and :func:`chunk_tokens` do.
    """
    if kind not in _KINDS:
        raise ValueError(f"kind must be one of {_KINDS}, got {kind!r}.")
    if kind != "chunks":
        try:
            return unit_tokens(classifier, variables, x)
        except NotAChain:
            if kind == "units":
                raise
    return chunk_tokens(_params_of(variables), size)


def unit_tokens(classifier: Classifier, variables: Variables, x: Any) -> Tokenizer:
    """One token a hidden unit: what it reads, its bias, and what reads it.

    For a plain chain of dense and convolutional layers, with anything between them
    that treats all units alike: activations, pooling, flattening with channels last.
    The tokens of hidden layer ``l`` are one group, named by the layer's path, of a
    token for each unit (a convolution's output channel): its column of the layer's
    kernel, flattened, its bias if there is one, and its rows of the next layer's
    kernel, flattened. The output layer's bias, if there is one, is the last group,
    ``[1, C]``. Without hidden layers the outputs are the units: C tokens of a column
    and its bias.

    A weight between two hidden layers stands in two tokens. Where these disagree, as
    a network's predictions may, ``detokenize`` takes their mean; where they agree it
    takes the number itself, so that ``detokenize(tokenize(params))`` is ``params`` to
    the bit. The gradient is that of the mean everywhere.

    To permute the units of a hidden layer leaves the function unchanged. It permutes
    the layer's tokens, and the entries that speak of it in the tokens of the hidden
    layers next to it. With one hidden layer, then, all tokens but the output bias are
    merely permuted. That the function stays is checked here, on random parameters and
    inputs, for one transposition and one cycle of each hidden layer: all permutations
    are products of these.

    Args:
        classifier: the model, with taps.
        variables: its variables, or their shapes and dtypes.
        x: inputs ``[N, ...]``, floating point; only shape and dtype are used.

    Returns:
        A tokenizer of kind ``"units"``.

    Raises:
        ValueError: the classifier is no such chain: a parameter that is no kernel or
            bias of a tapped layer (normalisation), variables beside ``params``, a
            layer that is called more than once or has feature groups, widths that do
            not follow from one another, or logits that change with the order of the
            units (skip connections). The message says which.
    """
    params = _params_of(variables)
    template = template_of(params)
    layers, epsilon = chain_of(classifier, variables, template, x)
    hidden, last = layers[:-1], layers[-1]
    grouped = hidden or layers
    groups = []
    for number, layer in enumerate(grouped):
        width = layer.rows + (layer.bias is not None)
        if hidden:
            reader = layers[number + 1]
            width += reader.rows * reader.features // layer.features
        groups.append(Group(layer.name, layer.features, width))
    if hidden and last.bias is not None:
        groups.append(Group("output bias", 1, last.features))
    groups = tuple(groups)

    def tokenize(params: Any) -> tuple[Array, ...]:
        leaves = _in_common_dtype(template.leaves(params))
        kernels = [leaves[kind.kernel].reshape(kind.rows, -1) for kind in layers]
        tokens = []
        for number, layer in enumerate(grouped):
            parts = [kernels[number].T]
            if layer.bias is not None:
                parts.append(leaves[layer.bias].reshape(-1, 1))
            if hidden:
                parts.append(_by_unit(kernels[number + 1], layer.features))
            tokens.append(jnp.concatenate(parts, axis=1))
        if hidden and last.bias is not None:
            tokens.append(leaves[last.bias].reshape(1, -1))
        return tuple(tokens)

    def detokenize(tokens: tuple[Array, ...]) -> Any:
        _check_tokens(tokens, groups)
        leaves: dict[int, Array] = {}
        read: Array | None = None  # The layer's kernel, as the units before have it.
        for number, (layer, group) in enumerate(zip(grouped, tokens, strict=False)):
            incoming = group[:, : layer.rows].T
            leaves[layer.kernel] = incoming if read is None else _mean(incoming, read)
            if layer.bias is not None:
                leaves[layer.bias] = group[:, layer.rows]
            if hidden:
                outgoing = group[:, layer.rows + (layer.bias is not None) :]
                read = _from_units(outgoing, layers[number + 1].rows)
        if read is not None:
            leaves[last.kernel] = read
            if last.bias is not None:
                leaves[last.bias] = tokens[-1]
        return template.restore(leaves)

    def permute(params: Any, permutations: tuple[Any, ...]) -> Any:
        leaves = template.leaves(params)
        if len(permutations) != len(hidden):
            raise ValueError(
                f"permutations must be one array for each of {len(hidden)} hidden "
                f"layers, got {len(permutations)}."
            )
        for layer, reader, order in zip(hidden, layers[1:], permutations, strict=True):
            order = jnp.asarray(order)
            if order.shape != (layer.features,):
                raise ValueError(
                    f"The permutation of layer {layer.name} must have shape "
                    f"({layer.features},), got {order.shape}."
                )
            kernel = leaves[layer.kernel].reshape(layer.rows, -1)[:, order]
            leaves[layer.kernel] = kernel.reshape(template.shapes[layer.kernel])
            if layer.bias is not None:
                bias = leaves[layer.bias].reshape(-1)[order]
                leaves[layer.bias] = bias.reshape(template.shapes[layer.bias])
            rows = leaves[reader.kernel].reshape(-1, layer.features, reader.features)
            shape = template.shapes[reader.kernel]
            leaves[reader.kernel] = rows[:, order].reshape(shape)
        return template.structure.unflatten(leaves)

    check_symmetry(classifier, template, layers, permute, x, epsilon)
    units = tuple(layer.features for layer in hidden)
    return Tokenizer("units", groups, tokenize, detokenize, permute, units)


def chunk_tokens(params: Any, size: int = 1000) -> Tokenizer:
    """Every leaf in consecutive chunks, each a group of its own.

    The leaves are in the order of ``jax.tree.leaves``. Each is flattened and cut into
    chunks of ``size`` numbers and a shorter remainder, so that no chunk has numbers of
    two leaves (``chunk_within_layer`` in Peebles et al., Learning to learn with
    generative models of neural network checkpoints, arXiv 2209.12892, 2022).

    Args:
        params: any pytree of floating-point arrays, or of their shapes and dtypes.
        size: numbers in a chunk.

    Returns:
        A tokenizer of kind ``"chunks"``.

    Raises:
        ValueError: a size that is no positive integer, or a leaf that is not floating
            point.
    """
    if not isinstance(size, int) or size < 1:
        raise ValueError(f"size must be a positive integer, got {size!r}.")
    template = template_of(params)
    sizes = [int(np.prod(shape)) for shape in template.shapes]
    groups = tuple(
        Group(f"{name}[{number}]", 1, min(size, total - start))
        for name, total in zip(template.names, sizes, strict=True)
        for number, start in enumerate(range(0, total, size))
    )

    def tokenize(params: Any) -> tuple[Array, ...]:
        leaves = _in_common_dtype(template.leaves(params))
        return tuple(
            leaf.reshape(1, -1)[:, start : start + size]
            for leaf in leaves
            for start in range(0, leaf.size, size)
        )

    def detokenize(tokens: tuple[Array, ...]) -> Any:
        _check_tokens(tokens, groups)
        leaves, begun = {}, 0
        for number, total in enumerate(sizes):
            chunks = tokens[begun : begun + -(-total // size)]
            begun += len(chunks)
            # A leaf without numbers has no chunks.
            leaves[number] = jnp.concatenate(chunks or [jnp.zeros((1, 0))], axis=1)
        return template.restore(leaves)

    return Tokenizer("chunks", groups, tokenize, detokenize, None, ())


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
    """A kernel ``[S * units, O]`` by the unit that is read, ``[units, S * O]``.

    S is the pixels of a window, or those that were flattened before a dense layer.
    """
    by_place = kernel.reshape(-1, units, kernel.shape[1])
    return by_place.swapaxes(0, 1).reshape(units, -1)


def _from_units(outgoing: Array, rows: int) -> Array:
    """The kernel ``[rows, O]`` of which ``outgoing`` is what :func:`_by_unit` gave."""
    units = outgoing.shape[0]
    by_unit = outgoing.reshape(units, rows // units, -1)
    return by_unit.swapaxes(0, 1).reshape(rows, -1)


def _params_of(variables: Variables) -> Any:
    if not isinstance(variables, Mapping) or "params" not in variables:
        got = sorted(variables) if isinstance(variables, Mapping) else type(variables)
        raise ValueError(f"variables must be {{'params': ...}}, got {got}.")
    return variables["params"]


def _in_common_dtype(leaves: list[Array]) -> list[Array]:
    dtype = jnp.result_type(jnp.float32, *[leaf.dtype for leaf in leaves])
    return [leaf.astype(dtype) for leaf in leaves]


def _check_tokens(tokens: tuple[Array, ...], groups: tuple[Group, ...]) -> None:
    got = [tuple(group.shape) for group in tokens]
    expected = [(group.count, group.width) for group in groups]
    if got != expected:
        raise ValueError(f"tokens must have the shapes {expected}, got {got}.")
