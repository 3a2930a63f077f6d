"""What the page computes: methods, retraining and scores, for models of all seeds."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax

import hyperforget_jax as hf
from hyperforget_jax.base import Array, Variables
from hyperforget_jax.hypernet import Hypernetwork
from hyperforget_jax.pretrained import Pretrained

__all__ = ["sample", "score", "score_retrained", "unlearn", "unlearners"]


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


@functools.partial(jax.jit, static_argnums=0)
def unlearn(
    unlearner: hf.Unlearner, keys: Array, states: Any, request: hf.ForgetRequest
) -> Variables:
    """Answer for every seed: keys ``[S]``, states and variables ``[S, ...]``."""
    after, _ = jax.vmap(unlearner.unlearn, (0, 0, None))(keys, states, request)
    return after.variables


@functools.partial(jax.jit, static_argnums=(0, 1))
def sample(
    classifier: hf.Classifier,
    hypernetwork: Hypernetwork,
    prompt: Array,
    keys: Array,
    states: hf.DiHyFoState,
    request: hf.ForgetRequest,
) -> Variables:
    """Answer by the hypernetwork; the losses asked for, ``[C]``, are an argument."""
    params = hf.trees.take(states.hypernet_params, 0)  # The same for all seeds.
    unlearner = hf.dihyfo(classifier, hypernetwork, params, prompt=prompt)
    after, _ = jax.vmap(unlearner.unlearn, (0, 0, None))(keys, states, request)
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
