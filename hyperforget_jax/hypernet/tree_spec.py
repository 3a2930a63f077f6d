"""A pytree of parameters without its values."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from hyperforget_jax import trees
from hyperforget_jax.base import Array

__all__ = ["TreeSpec", "tree_spec"]


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
        """Return the leaves; raise ValueError if they are not those of this spec."""
        given = tree_spec(params)
        if (given.names, given.shapes) != (self.names, self.shapes):
            expected, got = (
                dict(zip(spec.names, spec.shapes, strict=True))
                for spec in (self, given)
            )
            raise ValueError(
                f"params must have the leaves {expected}, as the tokenizer was made "
                f"for; got {got}."
            )
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
