"""Make a Classifier of any Flax model, or of a pair of functions.

Classifiers of equal modules and options are equal and hash alike, so that what is
compiled for one (as a static argument of ``jax.jit``) serves the other.
"""

import types
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx

from hyperforget_jax.base import Array, Classifier, Variables
from hyperforget_jax.checks import check_is, check_is_function
from hyperforget_jax.models.classifier import make_classifier
from hyperforget_jax.models.flax_layers import mark_linen, mark_nnx

__all__ = ["from_functions", "from_linen", "from_nnx"]

# Any number: what is drawn from other streams is not what dropout draws.
_OTHER_STREAMS = 1

# What the state of an NNX model is split into.
_KINDS = (nnx.Param, nnx.BatchStat, nnx.RngState, ...)


def from_linen(
    module: nn.Module,
    *,
    train: Mapping[str, Any] | None = None,
    eval: Mapping[str, Any] | None = None,
) -> Classifier:
    """Make a Classifier of a Flax Linen module.

    Args:
        module: takes inputs ``[N, ...]``, gives logits ``[N, C]``.
        train: keyword arguments of ``__call__`` in training mode, such as
            ``{"train": True}`` or ``{"deterministic": False}``.
        eval: keyword arguments in evaluation mode. Modules without modes need neither.

    Returns:
        A classifier with taps. Its variables are Flax's own; training mode updates
        every collection but ``params``, and draws from its key: dropout, and streams
        of any other name (``self.make_rng("noise")``).

    Raises:
        TypeError: a class in place of a module, or something else.
    """
    if not isinstance(module, nn.Module):
        got = getattr(module, "__name__", type(module).__name__)
        raise TypeError(
            "module must be a Flax Linen module that is made, such as MyNetwork(10); "
            f"got {'the class ' if isinstance(module, type) else ''}{got}."
        )
    for name, options in (("train", train), ("eval", eval)):
        if options is not None:
            what = "keyword arguments such as {'train': True}"
            check_is(Mapping, what, **{name: options})
    train_options, eval_options = dict(train or {}), dict(eval or {})

    def init(key: Array, x: Array) -> Variables:
        key_params, key_dropout = jax.random.split(key)
        return dict(
            module.init(
                {"params": key_params, "dropout": key_dropout},
                jnp.zeros((1, *x.shape[1:]), x.dtype),
                **eval_options,
            )
        )

    def apply(variables: Variables, x: Array) -> Any:
        return module.apply(variables, x, **eval_options)

    def apply_train(key: Array, variables: Variables, x: Array) -> Any:
        mutable = sorted(set(variables) - {"params"})
        # Flax takes the stream "params" for every stream that is not there.
        rngs = {"dropout": key, "params": jax.random.fold_in(key, _OTHER_STREAMS)}
        return module.apply(variables, x, rngs=rngs, mutable=mutable, **train_options)

    key = (module, *(tuple(sorted(o.items())) for o in (train_options, eval_options)))
    return make_classifier(
        key,
        " ".join(repr(module).split()),
        init,
        apply,
        apply_train,
        mark_linen(module, eval_options, strict=True),
        mark_linen(module, eval_options),
    )


def from_nnx(create: Callable[[nnx.Rngs], nnx.Module]) -> Classifier:
    """Make a Classifier of a Flax NNX model.

    Args:
        create: makes the model from its ``nnx.Rngs``, for example
            ``lambda rngs: MyNetwork(10, rngs=rngs)``. Its training and evaluation
            modes are those of ``model.train()`` and ``model.eval()``.

    Returns:
        A classifier whose variables are plain nested dictionaries: ``params`` holds
        every ``nnx.Param``, ``batch_stats`` every ``nnx.BatchStat``, ``other`` what
        else the model keeps; entries of lists have their number as a name, ``"0"``. It
        has taps of every plain ``nnx.Linear``, ``nnx.LinearGeneral`` (so of each
        projection of attention), ``nnx.Conv`` and ``nnx.Einsum`` that is called outside
        of loops.
    """
    if isinstance(create, nnx.Module):
        raise TypeError(
            "create must be a function of nnx.Rngs that makes the model, such as "
            "lambda rngs: MyNetwork(rngs=rngs); got a model "
            f"({type(create).__name__})."
        )
    check_is_function("a function of nnx.Rngs that makes the model", create=create)

    def make(key: Array, training: bool):
        model = create(nnx.Rngs(key))
        check_is(nnx.Module, "a function that gives an nnx.Module", create=model)
        model.train() if training else model.eval()
        return nnx.split(model, *_KINDS)

    # The structure of both modes, found once and without computing anything.
    key = jax.eval_shape(lambda: jax.random.key(0))
    graph_train, *shapes = nnx.eval_shape(lambda key: make(key, True), key)
    graph_eval = nnx.eval_shape(lambda key: make(key, False), key)[0]

    def merge(graph, variables: Variables, key: Array) -> Any:
        params, batch_stats, random, other = jax.tree.map(lambda leaf: leaf, shapes)
        nnx.replace_by_pure_dict(params, variables["params"])
        nnx.replace_by_pure_dict(batch_stats, variables.get("batch_stats", {}))
        nnx.replace_by_pure_dict(other, variables.get("other", {}))
        return nnx.merge(graph, params, batch_stats, _seeded(random, key), other)

    def as_variables(parts) -> Variables:
        params, batch_stats, _, other = map(_as_dictionary, parts)
        more = {"batch_stats": batch_stats, "other": other}
        return {"params": params} | {name: leaf for name, leaf in more.items() if leaf}

    def init(key: Array, x: Array) -> Variables:
        del x  # NNX models know their input's shape.
        return as_variables(make(key, False)[1:])

    def apply(variables: Variables, x: Array) -> Array:
        return merge(graph_eval, variables, jax.random.key(0))(x)

    def apply_train(key: Array, variables: Variables, x: Array):
        model = merge(graph_train, variables, key)
        return model(x), as_variables(nnx.split(model, *_KINDS)[1:])

    def marked(variables: Variables, x: Array) -> Array:
        model = merge(graph_eval, variables, jax.random.key(0))
        mark_nnx(model)
        return model(x)

    leaves = tuple((leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(shapes))
    name = type(nnx.merge(graph_eval, *shapes)).__name__
    return make_classifier(
        (_source(create), graph_train, graph_eval, leaves),
        f"nnx:{name}",
        init,
        apply,
        apply_train,
        marked,
    )


def from_functions(
    init: Callable[[Array, Array], Any],
    apply: Callable[[Any, Array], Array],
    *,
    description: str = "",
) -> Classifier:
    """Make a Classifier of a pair of pure functions over any parameter pytree.

    Methods that change one layer by another rule than the rest ask for layers by
    name: ``hf.fiun`` for the last one, ``hf.pgu`` for all that it moves. A function
    names a dense layer by computing it with :func:`hyperforget_jax.models.dense`:

        def apply(params, x):
            x = jax.nn.relu(hf.models.dense(params["hidden"], x, "hidden"))
            return hf.models.dense(params["head"], x, "head")

    Args:
        init: ``(key, x) -> params``. It is given zeros like ``x``: of the inputs it
            knows shape and dtype alone.
        apply: ``(params, x) -> logits [N, C]``, the same in training and evaluation.
        description: one line for manifests.

    Returns:
        A classifier whose variables are ``{"params": params}``, with taps of the layers
        that ``apply`` names.
    """
    check_is_function(init=init, apply=apply)
    check_is(str, "one line of text", description=description)

    def init_variables(key: Array, x: Array) -> Variables:
        # Else retraining would begin from rows that are to be forgotten.
        return {"params": init(key, jnp.zeros(x.shape, x.dtype))}

    def apply_variables(variables: Variables, x: Array) -> Array:
        return apply(variables["params"], x)

    def apply_train(key: Array, variables: Variables, x: Array):
        del key  # Nothing here is random.
        return apply_variables(variables, x), {}

    name = description or getattr(apply, "__qualname__", type(apply).__name__)
    return make_classifier(
        (init, apply),
        name,
        init_variables,
        apply_variables,
        apply_train,
        apply_variables,
    )


def _source(create: Callable) -> Any:
    """What a function does: two lambdas of one line do the same to the same values."""
    if not isinstance(create, types.FunctionType):
        return create
    closure = tuple(cell.cell_contents for cell in create.__closure__ or ())
    options = tuple((create.__kwdefaults__ or {}).items())
    return (
        create.__code__,
        id(create.__globals__),
        closure,
        create.__defaults__,
        options,
    )


def _as_dictionary(state) -> dict[str, Any]:
    """A state as nested dictionaries; Flax reads a name that is a number as one."""

    def named(node):
        if not isinstance(node, Mapping):
            return node
        return {str(name): named(child) for name, child in node.items()}

    return named(nnx.to_pure_dict(state))


def _seeded(random, key: Array):
    """The state of every random stream of a model, drawn from one key."""

    def drawn(index: int, leaf):
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            own = jax.random.fold_in(key, index)
            # Layers that are stacked (nnx.vmap) have a stream each.
            return jax.random.split(own, leaf.shape) if leaf.shape else own
        return jnp.zeros(leaf.shape, leaf.dtype)  # A stream's count of draws.

    leaves, structure = jax.tree.flatten(random)
    return structure.unflatten([drawn(i, leaf) for i, leaf in enumerate(leaves)])
