"""A convolution and its gradients as one primitive, which XLA:CPU has fast kernels for.

XLA:CPU brings a convolution into the form that its kernels take (channels last, the
kernel HWIO) outside of loops alone, and the gradients of one, as JAX writes them, are
in another: inside ``lax.scan`` they are computed by naive loops, many times slower
(https://github.com/jax-ml/jax/issues/12868). ``vmap`` over kernels gives grouped
convolutions, slower than one model after another. So on the CPU convolution and
gradients are written in that form here, and models go one after another. Elsewhere all
are XLA's own. ``experiments/benchmarks/convolution.py`` holds the figures.

A convolution is bilinear, and with weights for its outputs a trilinear number. Every
derivative of it, of any order, is one of the three below: the gradient of that number
with respect to the operand that is wanted.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.extend as jex
import jax.numpy as jnp
from jax import lax
from jax.core import ShapedArray
from jax.interpreters import ad, batching, mlir
from jax.sharding import PartitionSpec

from hyperforget_jax.base import Array

__all__ = ["Window", "convolve"]

_ROLES = ("inputs", "kernel", "outputs")


class Window(NamedTuple):
    """What a convolution is, beside its operands; channels are last.

    Attributes:
        inputs: spatial shape of what it is given.
        size: of the kernel, one a spatial axis, like all the rest.
        strides: steps of the window.
        pads: ``(low, high)``, not negative.
        dilation: of the kernel.
        precision: as for ``lax.conv_general_dilated``.
    """

    inputs: tuple[int, ...]
    size: tuple[int, ...]
    strides: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    precision: Any

    @property
    def outputs(self) -> tuple[int, ...]:
        """The spatial shape of what it gives."""
        return tuple(
            max((n + sum(pad) - (k - 1) * d - 1) // s + 1, 0)
            for n, k, s, pad, d in zip(*self[:5], strict=True)
        )


def convolve(x: Array, kernel: Array, window: Window, dtype: Any) -> Array:
    """Convolve ``[N, *spatial, C_in]`` with an HWIO kernel, giving ``dtype``."""
    return _bind("outputs", dict(inputs=x, kernel=kernel), window, dtype, ())


def _bind(wanted, given, window, dtype, members) -> Array:
    # Under shard_map operands are to vary alike, so that the gradient of what is
    # replicated is summed over devices.
    every = frozenset().union(*map(_varying, given.values()))
    given = {
        role: lax.pcast(x, tuple(sorted(every - _varying(x))), to="varying")
        for role, x in given.items()
    }
    # Operands stand in the order of the roles.
    operands = [given[role] for role in _ROLES if role != wanted]
    return _conv_p.bind(
        *operands,
        wanted=wanted,
        window=window,
        dtype=jnp.dtype(dtype),
        members=tuple(role for role in _ROLES if role in members),
    )


def _varying(x: Any) -> frozenset[str]:
    """The axes of shard_map's mesh that something varies over."""
    aval = jax.typeof(x)
    # Versions of JAX have it in one of two places.
    return aval.mat.varying if hasattr(aval, "mat") else aval.vma


def _given(wanted: str, operands: Sequence[Any]) -> dict[str, Any]:
    roles = [role for role in _ROLES if role != wanted]
    return dict(zip(roles, operands, strict=True))


def _shape(*operands, wanted, window, dtype, members) -> ShapedArray:
    given = _given(wanted, operands)
    shapes = {role: x.shape[role in members :] for role, x in given.items()}
    if wanted == "outputs":
        x, kernel = shapes.values()
        shape = (x[0], *window.outputs, kernel[-1])
    elif wanted == "inputs":
        kernel, out = shapes.values()
        shape = (out[0], *window.inputs, kernel[-2])
    else:
        x, out = shapes.values()
        shape = (*window.size, x[-1], out[-1])
    shape = (*_count(given, members), *shape)
    operand = operands[0]
    whole = operand.sharding.update(spec=PartitionSpec(*[None] * len(shape)))
    return operand.update(shape=shape, dtype=dtype, weak_type=False, sharding=whole)


def _count(given, members) -> tuple[int, ...]:
    """The number of models, if there is an axis of them."""
    return tuple({given[role].shape[0] for role in members})


def _transpose(role: int, cotangent, *operands, wanted, window, dtype, members):
    """The gradient with respect to the operand of that place."""
    given = _given(wanted, operands)
    sought = list(given)[role]
    aval = given.pop(sought).aval
    given[wanted] = cotangent
    there = {*(members and (wanted,)), *members} - {sought}
    out = _bind(sought, given, window, aval.dtype, there)
    # What all models share has the gradients of all.
    return jnp.sum(out, 0) if there and sought not in members else out


def _batch(operands, axes, *, wanted, window, dtype, members):
    """Rows of more batches are rows; else there is an axis of models, and only one."""
    given = _given(wanted, operands)
    axis = dict(zip(given, axes, strict=True))
    mapped = {role for role in given if axis[role] is not None}
    first = next(iter(mapped))
    size = given[first].shape[axis[first]]
    if wanted != "kernel" and "kernel" not in mapped:
        (rows,) = mapped
        place = int(rows in members)
        x = jnp.moveaxis(given[rows], axis[rows], place)
        given[rows], count = lax.collapse(x, place, place + 2), x.shape[place + 1]
        out = _bind(wanted, given, window, dtype, members)
        place = int(bool(members))
        split = (*out.shape[:place], size, count, *out.shape[place + 1 :])
        return out.reshape(split), place
    for role in mapped:
        given[role] = jnp.moveaxis(given[role], axis[role], 0)
    if not members:
        return _bind(wanted, given, window, dtype, mapped), 0
    # Models within models are as many models.
    (count,) = {given[role].shape[role in mapped] for role in members}
    together = mapped | {*members}
    for role in together:
        shape = given[role].shape[(role in mapped) + (role in members) :]
        axes = [a for a, of in ((0, mapped), (1, members)) if role in of]
        axes += range(2, 2 + len(shape))
        x = lax.broadcast_in_dim(given[role], (size, count, *shape), axes)
        given[role] = lax.collapse(x, 0, 2)
    out = _bind(wanted, given, window, dtype, together)
    return out.reshape(size, count, *out.shape[1:]), 0


def _native(*operands, wanted, window, dtype, members):
    """All by XLA's own convolution, and JAX's gradients of it."""
    axes = tuple(0 if role in members else None for role in _given(wanted, operands))

    def one(*operands):
        given = _given(wanted, operands)
        common = jnp.result_type(*operands)
        given = {role: x.astype(common) for role, x in given.items()}
        if wanted == "outputs":
            return _lax(*given.values(), window=window, preferred=dtype)
        (kept,) = (role for role in given if role != "outputs")
        shape = _shape(*map(jax.typeof, operands), **params).update(dtype=common)
        if wanted == "inputs":
            function = functools.partial(_lax, kernel=given[kept], window=window)
        else:
            function = functools.partial(_lax, given[kept], window=window)
        (out,) = jax.linear_transpose(function, shape)(given["outputs"])
        return out.astype(dtype)

    params = dict(wanted=wanted, window=window, dtype=dtype, members=())
    return jax.vmap(one, axes)(*operands) if members else one(*operands)


def _lax(x, kernel, window: Window, spread=None, preferred=None):
    axes = tuple(range(1, x.ndim - 1))
    first, last = (0, x.ndim - 1, *axes), (x.ndim - 1, x.ndim - 2, *range(x.ndim - 2))
    return lax.conv_general_dilated(
        x,
        kernel,
        window.strides,
        window.pads,
        lhs_dilation=spread,
        rhs_dilation=window.dilation,
        dimension_numbers=lax.ConvDimensionNumbers(first, last, first),
        precision=window.precision,
        preferred_element_type=preferred,
    )


def _on_cpu(*operands, wanted, window, dtype, members):
    """One model after the other, all in the form that the kernels take."""
    compute = {"outputs": _outputs, "inputs": _inputs, "kernel": _kernel}[wanted]
    roles = list(_given(wanted, operands))
    # There are kernels for float32; narrower types are rounded in the end alone.
    common = jnp.promote_types(jnp.result_type(*operands), jnp.float32)

    def one(stacked):
        given = dict(zip(roles, operands, strict=True)) | stacked
        first, second = (x.astype(common) for x in given.values())
        return compute(first, second, window)

    given = dict(zip(roles, operands, strict=True))
    stacked = {role: given[role] for role in members}
    return (lax.map(one, stacked) if members else one(stacked)).astype(dtype)


def _outputs(x, kernel, window: Window):
    """The convolution; of few channels, several neighbouring outputs at once."""
    (given, channels), width = kernel.shape[-2:], window.outputs[-1]
    most = next((most for few, most in _MOST if given <= few), 0)
    together = next((n for n in (4, 2) if n * channels <= most and width % n == 0), 1)
    if together == 1 or window.strides[-1] != 1 or window.dilation[-1] != 1:
        return _lax(x, kernel, window)
    before = [(0, 0)] * (kernel.ndim - 3)
    shifted = [
        jnp.pad(kernel, [*before, (n, together - 1 - n), (0, 0), (0, 0)])
        for n in range(together)
    ]
    strides = (*window.strides[:-1], together)
    out = _lax(x, jnp.concatenate(shifted, -1), window._replace(strides=strides))
    return out.reshape(*out.shape[:-2], width, channels)


def _inputs(kernel, out, window: Window):
    """A convolution of the outputs, spread by the strides, with the kernel turned."""
    axes = tuple(range(kernel.ndim - 2))
    turned = jnp.flip(kernel, axes).swapaxes(-1, -2)
    reach = [(k - 1) * d for k, d in zip(window.size, window.dilation, strict=True)]
    pads = []
    for n, m, s, r, (low, _) in zip(
        window.inputs, window.outputs, window.strides, reach, window.pads, strict=True
    ):
        pads.append((r - low, n + low - (m - 1) * s - 1))
    back = window._replace(
        inputs=window.outputs, strides=(1,) * len(axes), pads=tuple(pads)
    )
    if window.strides == back.strides:
        return _outputs(out, turned, back)
    return _lax(out, turned, back, spread=window.strides)


def _kernel(x, out, window: Window):
    """A convolution of inputs with outputs, where rows and channels change places."""
    axes = tuple(range(1, x.ndim - 1))
    pads = []
    for n, m, k, s, d, (low, _) in zip(
        window.inputs,
        window.outputs,
        window.size,
        window.strides,
        window.dilation,
        window.pads,
        strict=True,
    ):
        pads.append((low, (k - 1) * d + (m - 1) * s + 1 - n - low))
    back = window._replace(
        pads=tuple(pads), strides=window.dilation, dilation=window.strides
    )
    x, out = x.transpose(x.ndim - 1, *axes, 0), out.transpose(*axes, 0, out.ndim - 1)
    return jnp.moveaxis(_lax(x, out, back), 0, -2)


# Up to so many channels given, as many numbers at once at most: more cost more in
# products with zeros than they save.
_MOST = ((4, 64), (16, 32))

_conv_p = jex.core.Primitive("conv")
_eager = jax.jit(_conv_p.bind, static_argnames=("wanted", "window", "dtype", "members"))
_conv_p.def_impl(lambda *operands, **params: _eager(*operands, **params))
_conv_p.def_abstract_eval(_shape)
ad.defbilinear(
    _conv_p, functools.partial(_transpose, 0), functools.partial(_transpose, 1)
)
batching.primitive_batchers[_conv_p] = _batch
mlir.register_lowering(_conv_p, mlir.lower_fun(_native, multiple_results=False))
mlir.register_lowering(
    _conv_p, mlir.lower_fun(_on_cpu, multiple_results=False), platform="cpu"
)
