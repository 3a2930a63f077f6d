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
# # Train a hypernetwork, and forget on request
#
# DiHyFo is a diffusion model over the parameters of a classifier. It learns from a
# *zoo*: models that know everything, and the same models taught to predict as if they
# had been trained without a class. Later it is told which class is to go, reads no
# data at all, and samples the change of a model that it has never seen.
#
# The zoo is many small trainings side by side, which is what GPUs and TPUs are good
# at: there it is larger, and the hypernetwork is trained for longer.

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
from hyperforget_jax import hypernet

on_cpu = jax.default_backend() == "cpu"
starts, teachers, steps, width = (16, 1, 300, 48) if on_cpu else (256, 8, 3_000, 96)
splits = hf.data.load("digits")
classifier = hf.from_linen(hf.models.MLP((16,)))
keys = jax.random.split(jax.random.key(1), 6)
schedule = optax.cosine_decay_schedule(1e-2, 300)
training = hypernet.FitConfig(optax.adamw(schedule, weight_decay=1.0), 300, 64)

zoo = hypernet.edit_zoo(
    keys[0],
    classifier,
    splits.train,
    splits.probe,
    masks=[[label] for label in range(10)],
    starts=starts,
    start=training,
    forget=hypernet.FitConfig(optax.adam(3e-3), 80, 64),
    checkpoint_steps=(8, 16, 40),
    teachers=teachers,
    progress=False,
)
network = hypernet.build(
    classifier, splits.train.x, hypernet.HypernetConfig(width=width, mixer="mean")
)
params, trace = hypernet.fit_hypernetwork(
    keys[1],
    network,
    classifier,
    zoo,
    splits.train,
    hypernet.TrainConfig(steps=steps, batch_size=32),
    progress=False,
)

# Models that are in no zoo, and a request for each class: its number alone, no data.
recipe = dict(optimizer=training.optimizer, steps=training.steps, batch_size=64)
recipe |= dict(progress=False)
models = hf.fit_population(
    keys[2], classifier, splits.train, members=starts, **recipe
).variables
unlearner = hf.dihyfo(classifier, network, params)
requests = [hf.forget_labels([label], num_classes=10) for label in range(10)]
requests = hf.trees.stack(requests)


@jax.jit
@functools.partial(jax.vmap, in_axes=(0, 0, None))
def forget_each_class(key, variables, requests):
    key_init, key_unlearn = jax.random.split(key)
    state = unlearner.init(key_init, variables, splits.train)  # looks at shapes alone
    keys = jax.random.split(key_unlearn, 10)
    return hf.unlearn_each(unlearner, keys, state, requests)[0].variables


asked = jax.random.split(keys[3], starts), models, requests
forgotten = forget_each_class(*asked)  # [starts, 10, ...], compiled here
begin = time.perf_counter()
jax.block_until_ready(forget_each_class(*asked))
print(f"{starts * 10} requests in {1e3 * (time.perf_counter() - begin):.1f} ms")

# %% [markdown]
# ## Beside retraining
#
# The same ten requests answered by training anew, without the class: what a model
# that never saw it does with its images.

# %%
weights = np.stack([splits.train.y != label for label in range(10)]).astype(np.int32)
weights = np.repeat(weights, teachers, axis=0)
retrained = hf.fit_population(
    keys[4], classifier, splits.train, members=10 * teachers, weights=weights, **recipe
).variables


def accuracies(variables):
    return hypernet.score_all(classifier, variables, splits.test).accuracy


flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), forgotten)
before = np.broadcast_to(accuracies(models).mean(0), (10, 10))
after = accuracies(flat).reshape(starts, 10, 10).mean(0)
anew = accuracies(retrained).reshape(10, teachers, 10).mean(1)
gone, others = np.eye(10, dtype=bool), ~np.eye(10, dtype=bool)
for name, each in (("before", before), ("DiHyFo", after), ("retrained", anew)):
    forgot, kept = each[gone].mean(), each[others].mean()
    print(f"{name:10} forgotten {forgot:.3f}  others {kept:.3f}")

# %% [markdown]
# ## Every class, forgotten on request
#
# A row is a request, a column the test accuracy on a class: the diagonal fades, and
# the rest stays.

# %%
import matplotlib.pyplot as plt

panels = {
    "before": before,
    f"DiHyFo, mean of {starts} new models": after,
    "retrained without the class": anew,
}
figure, axes = plt.subplots(1, 3, figsize=(12, 4.2), sharey=True, layout="constrained")
for axis, (title, grid) in zip(axes, panels.items(), strict=True):
    shown = axis.imshow(grid, cmap="cividis", vmin=0, vmax=1)
    axis.set(title=title, xlabel="class", xticks=range(10), yticks=range(10))
    for row in range(10):
        colour = "white" if grid[row, row] < 0.5 else "black"
        value = f"{grid[row, row]:.2f}".lstrip("0")
        axis.text(row, row, value, ha="center", va="center", color=colour, fontsize=8)
axes[0].set_ylabel("class to forget")
figure.colorbar(shown, ax=axes, label="test accuracy", shrink=0.8)
plt.show()

# %% [markdown]
# The hypernetwork saw models that knew the classes: what it makes can be audited, and
# nothing is certified. [Which models it can change](../docs/hypernetworks.md),
# several classes at once, losses to ask for, and what was found on larger models.
