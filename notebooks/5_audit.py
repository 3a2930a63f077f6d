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
# # Audit a claim of forgetting
#
# Somebody says: my models have forgotten the threes, their accuracy on them is zero.
# An audit asks whether they differ from models that were trained without the
# threes, by exact tests over many models. Three claims are audited: a mask over the
# logit, FIUn, and retraining itself, which is to pass.
#
# On the CPU there are 16 models a side, the least for which all tests run, and thirty
# of the rows; on a GPU or a TPU 64, and all rows.

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

on_cpu = jax.default_backend() == "cpu"
models, rows, width, steps = (16, 30, 32, 200) if on_cpu else (64, None, 64, 800)
exchanges = 119 if on_cpu else 199
FORGET = 3
splits = hf.data.load("digits")
classifier = hf.from_linen(hf.models.MLP((width,)))
request = hf.forget_classes(splits.train, [FORGET])
keys = jax.random.split(jax.random.key(0), 3)
optimizer = optax.adam(5e-3)

# As many originals, and twice as many that never saw the class.
shadows = hf.audits.train_shadows(
    keys[0], classifier, request, optimizer, steps, models=models, progress=False
)
methods = {
    "logit mask": hf.logit_mask(classifier),
    "FIUn": hf.fiun(classifier),
    "retraining": hf.retrain(classifier, optimizer, steps),
}
claims, judgements = {}, {}
for name, unlearner in methods.items():
    unlearned = hf.audits.unlearn_shadows(
        keys[1], unlearner, shadows, request, progress=False
    )
    claims[name] = hf.audits.shadow_claim(
        classifier, shadows, unlearned, request, most=rows
    )
    judgements[name] = hf.audits.judge(*claims[name], exchanges=exchanges)
    print(f"{name}: {judgements[name].verdict}")

# %% [markdown]
# ## What each audit found
#
# Each value stands beside its *floor*, what retrained models posed as unlearned have,
# and beside what the originals have, who forgot nothing. `p` is the share of random
# exchanges of unlearned and retrained models that look as bad.

# %%
for audited in judgements["FIUn"].audits:
    if audited.value is None:
        print(f"{audited.audit}: {audited.note}")
        continue
    floor, original, p = (
        "" if each is None else f"{each:.3f}"
        for each in (audited.floor, audited.original, audited.p)
    )
    print(
        f"{audited.audit:22} {audited.value:8.3f}   floor {floor:>6}   "
        f"original {original:>6}   p {p}"
    )

# %% [markdown]
# ## The picture of a claim
#
# Above, how sure models are of the class on one forgotten row each (log-odds): models
# that have forgotten lie where retrained ones do, neither to the right, where the
# originals are, nor to the left, where only a mask puts them. Below, how far each
# audit is from its floor, as a share of what the originals show; filled where the
# test tells.

# %%
import matplotlib.pyplot as plt

COLOURS = {"original": "#9aa0a6", "retrained": "#0072b2", "unlearned": "#d55e00"}
figure, axes = plt.subplots(2, len(claims), figsize=(13, 6.4), layout="constrained")
for column, (name, claim) in enumerate(claims.items()):
    phi = np.clip(hf.audits.scaled_confidence(claim.logits, claim.labels), -30, 30)
    kinds = np.array(claim.kinds)
    for kind, colour in COLOURS.items():
        axes[0, column].hist(
            phi[kinds == kind].ravel(),
            bins=np.linspace(-30, 30, 61),
            density=True,
            label=kind,
            color=colour,
            alpha=0.75,
        )
    axes[0, column].set(title=f"claimed by: {name}", xlabel=f"log-odds of {FORGET}")

    judgement = judgements[name]
    tested = [each for each in judgement.audits if each.p is not None]
    for place, each in enumerate(tested):
        told = each.audit in judgement.accused_by
        share = (each.value - each.floor) / (each.original - each.floor)
        axes[1, column].plot(
            np.clip(share, -0.1, 2),
            place,
            "o",
            color=COLOURS["unlearned"],
            markerfacecolor=COLOURS["unlearned"] if told else "white",
            markersize=9,
        )
    axes[1, column].axvline(0, color=COLOURS["retrained"], label="floor")
    axes[1, column].axvline(1, color=COLOURS["original"], label="original")
    axes[1, column].set(
        xlim=(-0.25, 2.15),
        ylim=(len(tested) - 0.5, -0.5),
        yticks=range(len(tested)),
        yticklabels=[each.audit for each in tested] if column == 0 else [],
        xlabel="distance from the floor, originals = 1",
    )
axes[0, 0].legend(fontsize=8)
axes[1, 0].legend(fontsize=8, loc="lower right")
axes[0, 0].set_ylabel("density")
plt.show()

# %% [markdown]
# That nothing was found says how hard these tests looked, at so many models a side,
# and not that there is nothing. [Audits](../docs/audits.md) has the rest: rows
# instead of classes, wrong labels and backdoors, one run alone, attacks through the
# weights; logits of any framework are judged by `hyperforget audit DIR`.
