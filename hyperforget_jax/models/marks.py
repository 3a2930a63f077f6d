"""Marks on what layers are given and give, which a model's jaxpr is read by.

A mark is an identity that names a layer. It leaves nothing in a compiled program. What
it marks is read out of the model's jaxpr, so that nothing has to be carried out of the
model by other ways: marks within ``jax.checkpoint`` and ``jax.jit`` are found as well,
those within loops and other transformations are not.
"""

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.extend as jex
import jax.numpy as jnp
from jax.interpreters import ad, batching, mlir

from hyperforget_jax import trees
from hyperforget_jax.base import Array

__all__ = ["Layer", "Mark", "Traced", "mark_call", "replay", "trace"]

# Calls whose equations may as well stand where they are called, by their primitives'
# names. One that is not known is left alone, and layers within have no taps.
_CALLS = ("checkpoint", "remat", "remat2", "jit", "pjit", "closed_call", "core_call")

# A function that was traced without marks must not be taken for one with them.
_marking = jax.make_user_context(None)


class Layer(NamedTuple):
    """What a layer is, beside its parameters and what it is given.

    Attributes:
        path: of its parameters, joined by ``/``.
        kind: ``"dense"`` or ``"conv"``.
        kernel: the shape of its kernel.
        contracted: how many of its input's last axes a dense layer contracts. The rest
            is as for :class:`hyperforget_jax.base.Tap`.
    """

    path: str
    kind: str
    kernel: tuple[int, ...]
    contracted: int = 1
    strides: tuple[int, ...] = ()
    padding: tuple[tuple[int, int], ...] = ()
    dilation: tuple[int, ...] = ()
    groups: int = 1


class Mark(NamedTuple):
    """Stands at what a layer is given or (``ends``) gives, in ``mapped`` vmaps.

    The axes that are mapped over come first, the outermost before the others.
    """

    layer: Layer
    ends: bool
    mapped: int = 0


class Traced(NamedTuple):
    """A marked function's jaxpr, every mark that can be read at its top.

    Attributes:
        jaxpr: closed, of the leaves of the arguments.
        structure: of what the function gives.
        elsewhere: paths of the layers whose parameters are read outside of their calls.
    """

    jaxpr: Any
    structure: Any
    elsewhere: frozenset[str]


_mark_p = jex.core.Primitive("layer_mark")
_mark_p.def_impl(lambda x, *, mark: x)
_mark_p.def_abstract_eval(lambda x, *, mark: x)
mlir.register_lowering(_mark_p, lambda context, x, *, mark: [x])


def _keep(mark: Mark, x: Array) -> Array:
    return _mark_p.bind(x, mark=mark)


def _differentiate(primals, tangents, *, mark):
    return _mark_p.bind(*primals, mark=mark), tangents[0]


def _batch(args, axes, *, mark):
    (x,), (axis,) = args, axes
    more = mark._replace(mapped=mark.mapped + 1)
    return _mark_p.bind(jnp.moveaxis(x, axis, 0), mark=more), 0


ad.primitive_jvps[_mark_p] = _differentiate
batching.primitive_batchers[_mark_p] = _batch


def mark_call(
    layer: Layer | None,
    call: Callable[..., Array],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> Array:
    """Call a layer, and mark its input (the first one, or ``inputs``) and output."""
    if layer is None:
        return call(*args, **kwargs)
    if args:
        args = (_mark_p.bind(args[0], mark=Mark(layer, False)), *args[1:])
    else:
        given = _mark_p.bind(kwargs["inputs"], mark=Mark(layer, False))
        kwargs = {**kwargs, "inputs": given}
    return _mark_p.bind(call(*args, **kwargs), mark=Mark(layer, True))


def trace(function: Callable[..., Any], variables: Any, *args: Any) -> Traced:
    """Trace ``(variables, *args) -> result``, and find where params are read."""
    with _marking(True):
        closed, shape = jax.make_jaxpr(function, return_shape=True)(variables, *args)
    calls = [e for e in closed.jaxpr.eqns if e.primitive is not _mark_p]
    if any(map(_is_special, calls)):
        closed = jax.make_jaxpr(functools.partial(_run, closed.jaxpr, closed.consts))(
            jax.tree.leaves((variables, *args))
        )
    elsewhere = _read_elsewhere(closed.jaxpr, variables)
    return Traced(closed, jax.tree.structure(shape), elsewhere)


def replay(
    traced: Traced, args: Sequence[Any], visit: Callable[[Mark, Array], Array]
) -> Any:
    """Compute the result; ``visit(mark, x) -> x`` may change what is marked."""
    closed = traced.jaxpr
    out = _run(closed.jaxpr, closed.consts, jax.tree.leaves(tuple(args)), visit)
    return traced.structure.unflatten(out)


def _run(jaxpr, consts, args, visit=_keep) -> list[Any]:
    """Runs a jaxpr, and the calls in it that have marks equation by equation too."""
    values = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *args), strict=True))

    def read(atom):
        return atom.val if isinstance(atom, jex.core.Literal) else values[atom]

    for is_special, equations in itertools.groupby(jaxpr.eqns, _is_special):
        if not is_special:
            inputs, outputs, plain = _part(jaxpr, list(equations))
            found = jax.core.eval_jaxpr(plain, (), *map(read, inputs))
            values.update(zip(outputs, found, strict=True))
            continue
        for equation in equations:
            given = [read(atom) for atom in equation.invars]
            if equation.primitive is _mark_p:
                found = [visit(equation.params["mark"], *given)]
            else:
                inner, constants = _called(equation)
                found = _run(inner, constants, given, visit)
            values.update(zip(equation.outvars, found, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _part(jaxpr, equations):
    """Some equations as a jaxpr of their own: its inputs, its outputs, and itself."""
    made = {v: None for equation in equations for v in equation.outvars}
    outputs = [v for v in made if not isinstance(v, jex.core.DropVar)]
    inputs = {
        v: None
        for equation in equations
        for v in equation.invars
        if not isinstance(v, jex.core.Literal) and v not in made
    }
    return (
        inputs,
        outputs,
        jaxpr.replace(constvars=(), invars=[*inputs], outvars=outputs, eqns=equations),
    )


def _is_special(equation) -> bool:
    """Return whether this is a mark, or a call that has one within."""
    if equation.primitive.name not in _CALLS:
        return equation.primitive is _mark_p
    return any(map(_is_special, _called(equation)[0].eqns))


def _called(equation) -> tuple[Any, Sequence[Any]]:
    """The jaxpr that an equation calls, and its constants."""
    inner = equation.params.get("jaxpr") or equation.params["call_jaxpr"]
    if isinstance(inner, jex.core.ClosedJaxpr):
        return inner.jaxpr, inner.consts
    return inner, ()


def _read_elsewhere(jaxpr, variables: Any) -> frozenset[str]:
    """Layers whose parameters are read by other equations than those of their calls.

    A kernel that the model reads elsewhere too (tied weights) has a gradient that its
    calls do not show.
    """
    leaves, _ = jax.tree_util.tree_flatten_with_path(variables)
    owner: Mapping[Any, str] = {
        variable: trees.join(keys[1:-1])
        for (keys, _), variable in zip(leaves, jaxpr.invars, strict=False)
        if keys[0].key == "params"
    }
    found, inside = {owner.get(atom) for atom in _variables(jaxpr.outvars)}, None
    for equation in jaxpr.eqns:
        marked = equation.primitive is _mark_p
        if marked:
            inside = None
        found |= {owner.get(v) for v in _variables(equation.invars)} - {inside}
        if marked and not equation.params["mark"].ends:
            inside = equation.params["mark"].layer.path
    return frozenset(path for path in found if path is not None)


def _variables(atoms) -> list[Any]:
    return [atom for atom in atoms if not isinstance(atom, jex.core.Literal)]
