"""What the page computes: methods, retraining and scores, for models of all seeds."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

import hyperforget_jax as hf
from hyperforget_jax.base import Array, Variables
from hyperforget_jax.hypernet import Hypernetwork
from hyperforget_jax.pretrained import Pretrained

__all__ = [
    "Prepared",
    "prepare",
    "sample",
    "score",
    "score_retrained",
    "unlearn",
    "unlearners",
]


class Prepared(NamedTuple):
    """A method's states for models of S seeds.

    Attributes:
        states: leaves ``[S, ...]``; without that axis where seeds do not differ, so
            that what is made of these is made once.
        axes: of every leaf, 0 or None.
    """

    states: Any
    axes: tuple[int | None, ...]


def unlearners(made: Pretrained) -> dict[str, hf.Unlearner]:
    """Make every method by its name, and ``retrain`` by the recipe of the originals."""
    classifier, recipe = made.classifier, made.manifest["config"]["recipe"]
    schedule = optax.cosine_decay_schedule(recipe["learning_rate"], recipe["steps"])
    optimizer = optax.adamw(schedule, weight_decay=recipe["weight_decay"])
    return {
        "dihyfo": hf.dihyfo(classifier, made.hypernetwork, made.hypernet_params),
        "fiun": hf.fiun(classifier),
        "pgu": hf.pgu(classifier),
        "logit_mask": hf.logit_mask(classifier),
        "retrain": hf.retrain(
            classifier, optimizer, recipe["steps"], batch_size=recipe["batch_size"]
        ),
    }


def prepare(
    unlearner: hf.Unlearner, keys: Array, variables: Variables, data: hf.Examples
) -> Prepared:
    """Prepare a method for every seed: keys ``[S]``, variables ``[S, ...]``."""
    states = jax.vmap(unlearner.init, (0, 0, None))(keys, variables, data)
    leaves, structure = jax.tree.flatten(states)
    axes = tuple(None if bool(jnp.all(leaf == leaf[:1])) else 0 for leaf in leaves)
    pairs = zip(leaves, axes, strict=True)
    held = [leaf[0] if axis is None else leaf for leaf, axis in pairs]
    return Prepared(jax.tree.unflatten(structure, held), axes)


@functools.partial(jax.jit, static_argnums=(0, 1))
def unlearn(
    unlearner: hf.Unlearner,
    axes: tuple[int | None, ...],
    keys: Array,
    states: Any,
    request: hf.ForgetRequest,
) -> Variables:
    """Answer for every seed: variables ``[S, ...]``; keys ``[S]``, or one for all."""
    return _answer(unlearner, axes, keys, states, request)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def sample(
    classifier: hf.Classifier,
    hypernetwork: Hypernetwork,
    axes: tuple[int | None, ...],
    prompt: Array,
    keys: Array,
    states: hf.DiHyFoState,
    request: hf.ForgetRequest,
) -> Variables:
    """Answer by the hypernetwork; the losses asked for, ``[C]``, are an argument."""
    # Parameters are the same for all seeds, and so without their axis.
    params = states.hypernet_params
    unlearner = hf.dihyfo(classifier, hypernetwork, params, prompt=prompt)
    return _answer(unlearner, axes, keys, states, request)


def _answer(unlearner, axes, keys, states, request) -> Variables:
    of_states = jax.tree.unflatten(jax.tree.structure(states), axes)
    of_keys = 0 if keys.shape else None
    answer = jax.vmap(unlearner.unlearn, (of_keys, of_states, None))
    after, _ = answer(keys, states, request)
    return after.variables


@functools.partial(jax.jit, static_argnums=0)
def score(
    classifier: hf.Classifier,
    variables: Variables,
    request: hf.ForgetRequest,
    test: hf.Examples,
    references: hf.metrics.Logits | None,
) -> hf.metrics.Scores:
    """Score models ``[S, ...]``, with distances from the references, if any."""
    data = hf.metrics.evaluation_data(request, test)
    of_one = functools.partial(
        hf.metrics.scores, classifier, data=data, references=references
    )
    return jax.vmap(of_one)(variables)


@functools.partial(jax.jit, static_argnums=0)
def score_retrained(
    classifier: hf.Classifier,
    variables: Variables,
    request: hf.ForgetRequest,
    test: hf.Examples,
) -> tuple[hf.metrics.Logits, hf.metrics.Scores]:
    """Score retrained models, each beside the others; return their logits too."""
    data = hf.metrics.evaluation_data(request, test)
    logits = jax.vmap(lambda own: hf.metrics.predict(classifier, own, data))(variables)
    members = logits.test.shape[0]

    def beside_others(member):
        others = (member + 1 + jnp.arange(members - 1)) % members
        return hf.metrics.score_logits(
            hf.trees.take(logits, member), data, hf.trees.take(logits, others)
        )

    return logits, jax.vmap(beside_others)(jnp.arange(members))
