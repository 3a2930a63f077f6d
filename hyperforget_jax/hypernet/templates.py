"""What a pytree of parameters is like, without its values."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from hyperforget_jax import trees
from hyperforget_jax.base import Array

__all__ = ["Template", "template_of"]


class Template(NamedTuple):
    """A pytree of parameters without its values.

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
        """The leaves, or a ValueError if they are not those of the template."""
        given = template_of(params)
        if (given.names, given.shapes) != (self.names, self.shapes):
            expected = dict(zip(self.names, self.shapes, strict=True))
            got = dict(zip(given.names, given.shapes, strict=True))
            raise ValueError(
                f"params must have the leaves {expected}, as the tokenizer was made "
                f"for; got {got}."
            )
        return [jnp.asarray(leaf) for leaf in jax.tree.leaves(params)]

    def restore(self, leaves: Mapping[int, Array]) -> Any:
        """Params of leaves of the right sizes, in the template's shapes and dtypes."""
        restored = [
            leaves[number].reshape(shape).astype(dtype)
            for number, (shape, dtype) in enumerate(
                zip(self.shapes, self.dtypes, strict=True)
            )
        ]
        return self.structure.unflatten(restored)


def template_of(params: Any) -> Template:
    """The template of arrays, or of their shapes and dtypes.

    Raises:
        ValueError: a leaf that is no floating-point array.
    """
    paths, structure = jax.tree_util.tree_flatten_with_path(params)
    names = [trees.join(keys) for keys, _ in paths]
    for name, (_, leaf) in zip(names, paths, strict=True):
        dtype = getattr(leaf, "dtype", type(leaf))
        if not hasattr(leaf, "shape") or not jnp.issubdtype(dtype, jnp.floating):
            raise ValueError(
                f"params must be floating-point arrays, got {dtype} for {name!r}."
            )
    shapes = tuple(tuple(leaf.shape) for _, leaf in paths)
    return Template(tuple(names), shapes, tuple(p.dtype for _, p in paths), structure)
