"""Parameters as tokens and back, to the bit: every leaf in plain chunks."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hyperforget_jax import trees
from hyperforget_jax.base import Array

__all__ = [
    "ChunkTokenizer",
    "Group",
    "TreeSpec",
    "chunk_tokens",
    "in_common_dtype",
    "tree_spec",
]


class TreeSpec(NamedTuple):
    """What a pytree of parameters is like; hashable.

    Attributes:
        names: of the leaves, their paths, as ``"Dense_0/kernel"``.
        shapes: of the leaves.
        dtypes: of the leaves.
        structure: the tree's definition.
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[Any, ...]
    structure: Any

    def leaves(self, params: Any) -> list[Array]:
        """Return the leaves, each an array."""
        return [jnp.asarray(leaf) for leaf in jax.tree.leaves(params)]

    def restore(self, leaves: Mapping[int, Array]) -> Any:
        """Build params from leaves of the right sizes, in this spec's dtypes."""
        return self.structure.unflatten(
            leaves[number].reshape(shape).astype(dtype)
            for number, (shape, dtype) in enumerate(
                zip(self.shapes, self.dtypes, strict=True)
            )
        )


def tree_spec(params: Any) -> TreeSpec:
    """Describe a pytree of arrays, or of their shapes and dtypes.

    Raises:
        ValueError: a leaf that is no floating-point array.
    """
    leaves = trees.by_path(params)
    for name, leaf in leaves.items():
        dtype = getattr(leaf, "dtype", type(leaf))
        if not hasattr(leaf, "shape") or not jnp.issubdtype(dtype, jnp.floating):
            raise ValueError(
                f"params must be floating-point arrays, got {dtype} for {name!r}."
            )
    return TreeSpec(
        tuple(leaves),
        tuple(tuple(leaf.shape) for leaf in leaves.values()),
        tuple(jnp.dtype(leaf.dtype) for leaf in leaves.values()),
        jax.tree.structure(params),
    )


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


@dataclasses.dataclass(frozen=True)
class ChunkTokenizer:
    """Every leaf in chunks, as :func:`chunk_tokens` describes. Static."""

    spec: TreeSpec
    size: int
    kind: ClassVar[str] = "chunks"
    hidden: ClassVar[tuple[int, ...]] = ()
    permute: ClassVar[None] = None

    @property
    def groups(self) -> tuple[Group, ...]:
        """List the groups of tokens, in order: each chunk is one of its own."""
        return tuple(
            Group(f"{name}[{number}]", 1, min(self.size, total - start))
            for name, total in zip(self.spec.names, self._sizes, strict=True)
            for number, start in enumerate(range(0, total, self.size))
        )

    @property
    def _sizes(self) -> list[int]:
        return [int(np.prod(shape)) for shape in self.spec.shapes]

    def tokenize(self, params: Any) -> tuple[Array, ...]:
        """Write params as tokens, ``[1, width]`` a chunk, at least float32."""
        return tuple(
            leaf.reshape(1, -1)[:, start : start + self.size]
            for leaf in in_common_dtype(self.spec.leaves(params))
            for start in range(0, leaf.size, self.size)
        )

    def detokenize(self, tokens: tuple[Array, ...]) -> Any:
        """Read params from tokens, in their own shapes and dtypes."""
        leaves, first = {}, 0
        for number, total in enumerate(self._sizes):
            chunks = tokens[first : first + -(-total // self.size)]
            first += len(chunks)
            # A leaf without numbers has no chunks.
            leaves[number] = jnp.concatenate(chunks or [jnp.zeros((1, 0))], axis=1)
        return self.spec.restore(leaves)


def chunk_tokens(params: Any, size: int = 1000) -> ChunkTokenizer:
    """Make a tokenizer that cuts every leaf in consecutive chunks.

    The leaves are in the order of ``jax.tree.leaves``. Each is flattened and cut into
    chunks of ``size`` numbers and a shorter remainder, so that no chunk has numbers of
    two leaves (``chunk_within_layer`` in Peebles et al., Learning to learn with
    generative models of neural network checkpoints, arXiv 2209.12892, 2022).

    Args:
        params: any pytree of floating-point arrays, or of their shapes and dtypes.
        size: numbers in a chunk.

    Raises:
        ValueError: a leaf that is not floating point.
    """
    return ChunkTokenizer(tree_spec(params), size)


def in_common_dtype(leaves: list[Array]) -> list[Array]:
    """Convert leaves to their common dtype, at least float32."""
    dtype = jnp.result_type(jnp.float32, *[leaf.dtype for leaf in leaves])
    return [leaf.astype(dtype) for leaf in leaves]
