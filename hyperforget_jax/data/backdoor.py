"""Backdoors: a mark on images that makes a trained model answer one class."""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from hyperforget_jax.base import Array, Examples
from hyperforget_jax.checks import check_examples, check_key, check_sizes
from hyperforget_jax.data.poisoning import Poisoned, draw_rows

__all__ = ["Trigger", "corner_square", "plant_trigger"]

Trigger = Callable[[Array], Array]
"""``inputs [N, ...] -> the same inputs with the mark on them``."""


def corner_square(data: Examples, *, size: int | None = None) -> Trigger:
    """Make a trigger: a square of the brightest value in the lower right corner.

    Of Gu et al., BadNets, arXiv 1708.06733, 2017. Make it of the training examples,
    and put it on the test inputs as well: ``trigger(test.x)``.

    Args:
        data: images, ``[N, H, W, C]``, whose largest value in each channel is that of
            the square.
        size: edge in pixels; by default a ninth of the shorter side, and at least two:
            two for ``digits``, three for ``mnist`` and ``cifar10``.

    Returns:
        A pure function of images of this shape, which may be jitted.

    Raises:
        TypeError: a size that is no whole number.
        ValueError: inputs that are no images, or a square that is larger than they.
    """
    check_examples(data)
    shape = data.x.shape[1:]
    if len(shape) != 3:
        raise ValueError(
            "data.x must be images [N, H, W, C] to have a corner, got shape "
            f"{data.x.shape}: give plant_trigger a trigger= of your own, a function "
            "of inputs."
        )
    edge = max(2, min(shape[:2]) // 9) if size is None else size
    check_sizes(size=edge)
    if edge > min(shape[:2]):
        raise ValueError(f"size={edge} is more than images of {shape[0]} x {shape[1]}.")
    there = np.asarray(data.weight) > 0
    brightest = np.asarray(data.x)[there].max(axis=(0, 1, 2))

    def trigger(x: Array) -> Array:
        if x.shape[1:] != shape:
            sizes = ", ".join(map(str, shape))
            raise ValueError(f"Images must be [N, {sizes}], got shape {x.shape}.")
        square = jnp.broadcast_to(brightest, (x.shape[0], edge, edge, shape[2]))
        return jnp.asarray(x).at[:, -edge:, -edge:].set(square)

    return trigger


def plant_trigger(
    key: Array,
    data: Examples,
    count: int,
    target: int,
    *,
    trigger: Trigger | None = None,
) -> Poisoned:
    """Put a trigger on some rows, and give them the label that it is to call up.

    ``hf.forget_rows(poisoned.data, poisoned.rows)`` is the request to forget the
    backdoor. Whether a model has it, :func:`hyperforget_jax.metrics.attack_success`
    tells from the logits of ``trigger(test.x)``.

    Rows are drawn without replacement among those that count and are not of the target
    class. With the same key a larger ``count`` poisons the same rows and more. For the
    host, not for use under ``jit``.

    Args:
        key: a typed key, consumed.
        data: clean examples, ``[N]``.
        count: how many rows to poison.
        target: the label that the trigger is to call up.
        trigger: what is put on inputs ``[count, ...]``; by default
            :func:`corner_square` of ``data``.

    Returns:
        The poisoned examples; weights, ids and the order are those of ``data``.

    Raises:
        TypeError: arguments of the wrong kind.
        ValueError: more rows than there are of other classes, a target that no example
            has, or a trigger that changes the shape or the dtype or gives no finite
            numbers.
    """
    check_key(key)
    check_sizes(count=count)
    check_examples(data)
    y = np.asarray(data.y).astype(np.int32)
    active = np.asarray(data.weight) > 0
    if isinstance(target, bool) or not isinstance(target, int | np.integer):
        raise TypeError(f"target must be a label, a whole number; got {target!r}.")
    if not (active & (y == target)).any():
        raise ValueError(f"target={target} is the label of no example that counts.")
    rows = draw_rows(key, active & (y != target), count, "of other classes than target")
    x = np.array(data.x)
    clean = jnp.array(x[rows])
    marked = np.asarray((trigger or corner_square(data))(clean))
    if marked.shape != clean.shape or marked.dtype != clean.dtype:
        raise ValueError(
            f"trigger must keep shape {clean.shape} and dtype {clean.dtype}, it gives "
            f"{marked.shape} and {marked.dtype}."
        )
    if not np.isfinite(marked).all():
        raise ValueError("trigger must give finite numbers.")
    x[rows] = marked
    labels = y.copy()
    labels[rows] = target
    poisoned = data._replace(x=jnp.array(x), y=jnp.array(labels))
    return Poisoned(poisoned, jnp.array(rows), jnp.array(y))
