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
# # Forget a class in five minutes
#
# A classifier of handwritten digits forgets the threes by four methods. What each of
# them leaves is read beside models that never saw a three: by accuracy alone a mask
# over one logit would do.
#
# The first cell installs the library where it is missing, the second does everything.
# On a GPU or a TPU the network is wider and more models are retrained.

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
import optax

import hyperforget_jax as hf

on_cpu = jax.default_backend() == "cpu"
width, steps, members = (64, 400, 3) if on_cpu else (256, 800, 16)
FORGET = 3

splits = hf.data.load("digits")
classifier = hf.from_linen(hf.models.MLP((width,)))
keys = jax.random.split(jax.random.key(0), 4)
schedule = optax.cosine_decay_schedule(5e-3, steps)
optimizer = optax.adamw(schedule, weight_decay=1.0)
recipe = dict(optimizer=optimizer, steps=steps, batch_size=64)
original = hf.fit(keys[0], classifier, splits.train, **recipe)

methods = {
    "logit mask": hf.logit_mask(classifier),
    "NegGrad+": hf.neggrad_plus(classifier),
    "FIUn": hf.fiun(classifier),
    "PGU": hf.pgu(classifier, probe=splits.probe),
}
request = hf.forget_classes(splits.train, [FORGET])
models = {"original": original}
for name, unlearner in methods.items():
    state = unlearner.init(keys[1], original, splits.train)  # while the data are there
    state, info = jax.jit(unlearner.unlearn)(keys[2], state, request)  # later
    models[name] = state.variables

population = hf.fit_population(
    keys[3], classifier, request.retain, members=members, progress=False, **recipe
)
retrained = population.variables
models["retrained"] = hf.trees.take(retrained, 0)

# %% [markdown]
# ## What is left
#
# *JS* is how far a model's outputs on the forgotten rows lie from those of the
# retrained models (their mean distance from each other stands in the last row),
# *relearning* how many training steps bring the class back. A mask hides the class
# and forgets nothing: it is undone in no step at all.

# %%
beside = dict(retrained=retrained, original=original)
found = {
    name: hf.evaluate(classifier, variables, request, splits.test, **beside).metrics
    for name, variables in models.items()
    if name != "retrained"
}
among = hf.evaluation.ceiling(
    classifier, retrained, request, splits.test, original=original
)
found["retrained"] = among[0].metrics

columns = {
    "forget_accuracy_test": "forgotten",
    "retain_accuracy_test": "retained",
    "js_to_oracle": "JS",
    "relearn_steps": "relearning",
}
print(" " * 12 + "".join(f"{title:>12}" for title in columns.values()))
for name, metrics in found.items():
    print(f"{name:12}" + "".join(f"{metrics[key]:12.3f}" for key in columns))

# %% [markdown]
# ## Where the threes go
#
# Above, test images of the forgotten class and what each model reads in them. To the
# right, what each model answers to all threes: a model that has forgotten answers as
# the retrained one does, and not with anything else.

# %%
import matplotlib.pyplot as plt
import numpy as np

threes = splits.test.take(np.flatnonzero(splits.test.y == FORGET))
answers = {
    name: np.asarray(jax.nn.softmax(hf.models.logits(classifier, variables, threes.x)))
    for name, variables in models.items()
}
shown = 10
read = np.stack([each[:shown].argmax(1) for each in answers.values()])
mean = np.stack([each.mean(0) for each in answers.values()])
strip = np.concatenate(np.asarray(threes.x[:shown, :, :, 0]), axis=1)

figure, axes = plt.subplot_mosaic(
    "AC;BC",
    figsize=(12, 4.6),
    height_ratios=(1, 4.4),
    width_ratios=(1, 1.15),
    layout="constrained",
)
axes["A"].imshow(strip, cmap="gray_r", aspect="auto")
axes["A"].set_axis_off()
axes["B"].imshow(read == FORGET, cmap="RdYlGn_r", vmin=-0.6, vmax=1.6, aspect="auto")
axes["C"].imshow(mean, cmap="cividis", vmin=0, vmax=1, aspect="auto")
for row, column in np.ndindex(read.shape):
    axes["B"].text(column, row, read[row, column], ha="center", va="center")
for row, column in np.ndindex(mean.shape):
    colour = "white" if mean[row, column] < 0.5 else "black"
    label = f"{mean[row, column]:.2f}".lstrip("0")
    axes["C"].text(column, row, label, ha="center", va="center", color=colour)
for axis in (axes["B"], axes["C"]):
    axis.set_yticks(range(len(models)), list(models))
axes["A"].set_title(f"What is read in images of a {FORGET}")
axes["B"].set_xticks([])
axes["C"].set(
    title=f"Mean answer to every {FORGET} of the test split",
    xticks=range(10),
    xlabel="digit answered",
)
plt.show()

# %% [markdown]
# No figure shows that nothing is left. [Audits](../docs/audits.md) of many models
# look harder; [5_audit](5_audit.ipynb) runs them.
