# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A federated network forgets a client
#
# Four clients train a model each, a server averages them, and every client's phone gets
# the average. One of the clients brings a digit that nobody else has, and leaves: its
# digit is to go from every model that descends from its own. FIUn asks the client's
# model alone, and changes all of them in one shot. No other client is asked for data.
#
# On a GPU or a TPU there are more clients, and the networks are wider.

# %%
import importlib.util
import os
import shutil
import subprocess
import sys

if importlib.util.find_spec("hyperforget_jax") is None:
    tpu = ("COLAB_TPU_ADDR", "COLAB_TPU_1VM", "TPU_ACCELERATOR_TYPE")
    on_tpu, on_gpu = any(map(os.environ.get, tpu)), shutil.which("nvidia-smi")
    extra = "[tpu]" if on_tpu else "[cuda]" if on_gpu else ""  # jax[tpu], jax[cuda12]
    package = f"hyperforget-jax{extra}"  # or the path of a wheel or of a clone
    pip = [sys.executable, "-m", "pip", "install", "--quiet", package]
    subprocess.run(pip, check=True)

# %%
import jax
import numpy as np
import optax

import hyperforget_jax as hf
from hyperforget_jax import inheritance

on_cpu = jax.default_backend() == "cpu"
CLIENTS, WIDTH, STEPS = (4, 32, 60) if on_cpu else (16, 256, 200)
DIGIT = 3

splits = hf.data.load("digits")
data = splits.train
classifier = hf.from_linen(hf.models.MLP((WIDTH,)))
keys = jax.random.split(jax.random.key(0), 3)

# Who sees what: the last client all threes and its share of the rest.
owner = np.random.default_rng(0).integers(1, CLIENTS + 1, data.y.size)
owner[np.asarray(data.y) == DIGIT] = CLIENTS
nobody = np.zeros(data.y.size, bool)

# Who inherits from whom. Without rows of its own a model is the average of its parents.
rows, edges = {"server0": owner == 1, "server1": nobody}, []
for client, share in enumerate(np.bincount(owner)[1:] / data.y.size, 1):
    name, phone = f"client{client}", f"phone{client}"
    rows |= {name: owner == client, phone: nobody}
    edges += [
        inheritance.Edge("server0", name, "dispatch"),
        inheritance.Edge(name, "server1", "average", share),
        inheritance.Edge("server1", phone, "dispatch"),
    ]
plan = inheritance.Plan.create(data, rows, edges)

request = hf.forget_classes(data, [DIGIT])
optimizer = optax.adamw(2e-3, weight_decay=0.3)
trained = inheritance.train_networks(
    keys[:1],
    classifier,
    data,
    [plan, plan.without(request)],  # the same network, and without the digit
    optimizer,
    STEPS,
    progress=False,
)
models, retrained = (hf.trees.take(each, 0) for each in trained)

unlearner = inheritance.fiun(plan.graph, classifier)
state = unlearner.init(keys[1], models, plan.data(data))  # each measures its Fisher
asked = plan.requests(request)
state, info = jax.jit(unlearner.unlearn)(keys[2], state, asked)
print("asked:", *asked, "and changed too:", *plan.graph.descendants(tuple(asked)))

# %% [markdown]
# ## What every model still knows
#
# Test accuracy on the digit and on the others, of every model of the network, before
# and after, and of the same network trained anew without the digit.

# %%
gone, rest = request.split(splits.test)


def accuracies(models, examples):
    """By node, in the order of their names."""
    there = np.flatnonzero(examples.weight)
    x, y = examples.x[there], np.asarray(examples.y)[there]
    logits = hf.models.population_logits(classifier, models["default"], x)
    return dict(zip(plan.graph.names, (logits.argmax(-1) == y).mean(-1), strict=True))


networks = {"before": models, "after": state.variables, "retrained": retrained}
on_digit = {name: accuracies(each, gone) for name, each in networks.items()}
on_others = {name: accuracies(each, rest) for name, each in networks.items()}
for name in networks:
    digit, others = (list(each[name].values()) for each in (on_digit, on_others))
    print(
        f"{name:10} the digit: mean {np.mean(digit):.3f}, highest {np.max(digit):.3f}; "
        f"others: mean {np.mean(others):.3f}, lowest {np.min(others):.3f}"
    )

# %% [markdown]
# ## The network, before and after
#
# Every circle is a model with its accuracy on the digit. The ringed one was asked.

# %%
# %matplotlib inline
figure = inheritance.draw(
    plan.graph,
    on_digit["before"],
    on_digit["after"],
    roots=tuple(asked),
    title=f"The last client leaves, and with it the {DIGIT}",
)
figure

# %% [markdown]
# What the client shared with others, its part of the digits that everybody has,
# stays: single rows are not for FIUn. [Networks](../docs/networks.md) says what else
# was found, and how to save a network with a log of what was asked.
