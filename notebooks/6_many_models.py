# ---
# jupyter:
#   accelerator: TPU
#   jupytext:
#     formats: ipynb,py:percent
#     notebook_metadata_filter: accelerator
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
# # Many models on a TPU
#
# Models of a population never talk to each other, so a mesh of devices trains as many
# times more of them in the same time, and forgets in as many. Everything in the
# library is written for one device: the population is split over the mesh, and the
# compiler does the rest.
#
# It takes all devices that there are: one TPU, the eight cores of a TPU host, some
# GPUs, or the CPU.

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
import functools
import time

import jax
import numpy as np
import optax

import hyperforget_jax as hf

mesh = hf.sharding.make_mesh()  # all devices along "population"
devices = mesh.shape["population"]
each, steps = {"cpu": (32 // devices or 1, 200), "gpu": (1_024, 400)}.get(
    jax.default_backend(), (512, 400)
)
members = each * devices
print(f"{members} models on {devices} x {jax.devices()[0].device_kind}")

splits = hf.data.load("digits")
classifier = hf.from_linen(hf.models.MLP((32,)))
keys = jax.random.split(jax.random.key(0), 3)
begin = time.perf_counter()
models = hf.fit_population(
    keys[0],
    classifier,
    splits.train,
    optax.adam(5e-3),
    steps,
    members=members,
    mesh=mesh,
    progress=False,
).variables
print(f"trained in {time.perf_counter() - begin:.1f} s, compiling included")

# Every model forgets every class: a vmap over models of a vmap over requests.
unlearner = hf.fiun(classifier)


@jax.jit
@functools.partial(jax.vmap, in_axes=(0, 0, None, None))
def forget_each_class(key, variables, data, requests):
    key_init, key_unlearn = jax.random.split(key)
    state = unlearner.init(key_init, variables, data)
    keys = jax.random.split(key_unlearn, 10)
    return hf.unlearn_each(unlearner, keys, state, requests)[0].variables


own = (jax.random.split(keys[1], members), models)
own = hf.sharding.shard(own, mesh, "population")
common = (splits.train, hf.forget_each_class(splits.train))
common = hf.sharding.replicate(common, mesh)
begin = time.perf_counter()
forgotten = jax.block_until_ready(forget_each_class(*own, *common))
print(f"{members * 10} requests in {time.perf_counter() - begin:.1f} s, likewise")

# %% [markdown]
# ## Scores, where the models are
#
# Scoring is a `vmap` too, and stays on the mesh; only accuracies come back to the
# host.


# %%
@jax.jit
@functools.partial(jax.vmap, in_axes=(0, None))
def by_class(variables, data):
    logits = hf.models.logits(classifier, variables, data.x)
    return hf.metrics.class_scores(logits, data.y, data.weight).accuracy


test = hf.sharding.replicate(splits.test, mesh)
before = np.asarray(by_class(own[1], test))  # [members, class]
after = np.asarray(jax.jit(jax.vmap(by_class, (0, None)))(forgotten, test))
gone, others = np.eye(10, dtype=bool), ~np.eye(10, dtype=bool)
change = np.where(others, after - before[:, None], 0).sum(-1) / 9  # [members, asked]
print(f"forgotten class: {before.mean():.3f} before, {after[:, gone].mean():.4f} after")
print(f"other classes: {100 * change.mean():+.2f} points")

# %% [markdown]
# ## Everywhere at once
#
# Which device has which models; what is left of every class when each of them is
# asked for; and what becomes of the other classes, model by model.

# %%
import matplotlib.pyplot as plt

place = np.zeros(members, int)
leaf = jax.tree.leaves(forgotten)[0]
for number, shard in enumerate(leaf.addressable_shards):
    place[shard.index[0]] = number
lines = next(n for n in range(int(members**0.5), 0, -1) if members % n == 0)

figure, axes = plt.subplots(1, 3, figsize=(13, 4.2), layout="constrained")
axes[0].pcolormesh(
    place.reshape(lines, -1), cmap="tab20", vmax=19, edgecolors="white", linewidth=0.5
)
axes[0].set(title=f"{members} models on {devices} devices", xticks=[], yticks=[])
shown = axes[1].imshow(after.mean(0), cmap="cividis", vmin=0, vmax=1)
axes[1].set(
    title="test accuracy, mean over models",
    xlabel="class",
    ylabel="class to forget",
    xticks=range(10),
    yticks=range(10),
)
figure.colorbar(shown, ax=axes[1], shrink=0.85)
axes[2].axhline(0, color="#9aa0a6", linewidth=0.8)
axes[2].boxplot(100 * change, tick_labels=range(10), flierprops={"markersize": 3})
axes[2].set(
    title="change on the other classes, each model",
    xlabel="class to forget",
    ylabel="points of test accuracy",
)
plt.show()

# %% [markdown]
# The same mesh trains shadow models for [audits](../docs/audits.md) and the zoos of
# [hypernetworks](../docs/hypernetworks.md): `mesh=` is an argument of each. A
# population that is larger than the memory goes through it in chunks, and one that
# was stopped goes on from its `directory=`.
