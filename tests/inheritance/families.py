"""A trained family with two roots: one fitted perceptron, disturbed for every node."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

import hyperforget_jax as hf
from hyperforget_jax import inheritance
from hyperforget_jax.inheritance import Edge, Plan

NUM_CLASSES, FEATURES, NODES = 6, 7, 8
# Of the two roots: what each is asked to forget.
ASKED = {"left": [0, 1], "right": [2, 3]}
EDGES = (
    Edge("left", "son"),
    Edge("right", "daughter"),
    Edge("left", "both", "average", 0.5),
    Edge("right", "both", "average", 0.5),
    Edge("both", "heir", "incremental"),
    Edge("apart", "stranger"),
)
NAMES = ("left", "apart", "right", "son", "both", "stranger", "daughter", "heir")
UNREACHED = ("apart", "stranger")


@functools.cache
def family():
    """``(data, classifier, plan, models)``; every node sees 5 rows of each class."""
    random = np.random.default_rng(3)
    order = np.arange(NUM_CLASSES * NODES * 5)
    y = order % NUM_CLASSES
    centres = 2.5 * random.normal(size=(NUM_CLASSES, FEATURES))
    x = centres[y] + random.normal(size=(order.size, FEATURES))
    data = hf.data.examples(np.float32(x), np.int32(y))
    classifier = hf.from_linen(hf.models.MLP((9,), NUM_CLASSES))
    place = order // NUM_CLASSES % NODES
    plan = Plan.create(data, {n: place == i for i, n in enumerate(NAMES)}, EDGES)
    fit = jax.jit(
        lambda key: hf.fit(key, classifier, data, optax.adam(3e-2), 120, batch_size=32)
    )
    fitted = jax.tree.map(np.asarray, fit(jax.random.key(0)))
    stacked = jax.tree.map(
        lambda leaf: jnp.float32(
            leaf[None] + 0.02 * random.normal(size=(NODES, *leaf.shape))
        ),
        fitted,
    )
    return data, classifier, plan, {"default": stacked}


def config(preset, **changes):
    own = {
        "published": {"batch_size": 8},
        # A perceptron that errs nowhere has little Fisher: the thresholds are low.
        "repaired": {"batch_size": 16, "alpha": 0.02, "deep_alpha": 0.2},
        "head_reassign": {},
    }
    changes = {**own[preset], **changes}
    return dataclasses.replace(hf.fisher.PRESETS[preset], **changes)


@functools.cache
def prepared(preset, **changes):
    """``(unlearner, state, jitted unlearn)``."""
    data, classifier, plan, models = family()
    how = config(preset, **changes)
    unlearner = inheritance.fiun(plan.graph, classifier, how)
    state = jax.jit(unlearner.init)(jax.random.key(1), models, plan.data(data))
    return unlearner, state, jax.jit(unlearner.unlearn)


@functools.cache
def requests(*roots):
    """What the roots are asked to forget: two classes each."""
    data, _, plan, _ = family()
    return {
        root: plan.request_at(
            hf.forget_classes(data, ASKED[root], num_classes=NUM_CLASSES), root
        )
        for root in roots
    }


def logits(variables, x):
    """Of a perceptron, by NumPy, mask included."""
    first, last = (variables["params"][name] for name in ("Dense_0", "Dense_1"))
    hidden = np.maximum(x @ np.asarray(first["kernel"]) + np.asarray(first["bias"]), 0)
    out = hidden @ np.asarray(last["kernel"]) + np.asarray(last["bias"])
    mask = np.asarray(variables.get("output_mask", np.zeros(out.shape[-1], bool)))
    return np.where(mask, -1e4, out)


def accuracy(state, name, classes):
    """Of one node on all rows of some classes."""
    data, _, plan, _ = family()
    y = np.asarray(data.y)
    chosen = np.isin(y, classes)
    variables = plan.graph.take(state.variables, name)
    found = logits(variables, np.asarray(data.x))[chosen].argmax(axis=1)
    return (found == y[chosen]).mean()
