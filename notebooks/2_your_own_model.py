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
# # I already have a model
#
# Three models that were trained elsewhere: a Flax `TrainState`, an NNX model, and
# models of PyTorch. The first two forget here, and training goes on with what comes
# back. Of PyTorch's models only logits are needed: a claim that they have forgotten
# is audited.
#
# On a GPU or a TPU the networks are wider, and are trained for longer.

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
import flax.linen as nn
import jax
import numpy as np
import optax
from flax import nnx
from flax.training.train_state import TrainState

import hyperforget_jax as hf

on_cpu = jax.default_backend() == "cpu"
WIDTH, STEPS = (64, 400) if on_cpu else (512, 1_500)
FORGET = 3
splits = hf.data.load("digits")
train, test = splits.train, splits.test
request = hf.forget_classes(train, [FORGET])
keys = jax.random.split(jax.random.key(0), 4)


class Linen(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Dense(WIDTH)(x.reshape(x.shape[0], -1)))
        return nn.Dense(10)(x)


# Your own training: nothing of hyperforget_jax but the data.
@jax.jit
def train_step(mine, x, y):
    def loss(params):
        logits = mine.apply_fn({"params": params}, x)
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    return mine.apply_gradients(grads=jax.grad(loss)(mine.params))


module = Linen()
params = module.init(keys[0], train.x[:1])["params"]
mine = TrainState.create(apply_fn=module.apply, params=params, tx=optax.adam(5e-3))
draw = np.random.default_rng(0)
for _ in range(STEPS):
    rows = draw.integers(train.y.size, size=64)
    mine = train_step(mine, train.x[rows], train.y[rows])
before_linen = mine.params

# Forgetting: the module, the parameters as plain dictionaries, and a request.
classifier = hf.from_linen(module)
unlearner = hf.pgu(classifier, probe=splits.probe)
state = unlearner.init(keys[1], {"params": mine.params}, train)
state, info = jax.jit(unlearner.unlearn)(keys[2], state, request)
mine = mine.replace(params=state.variables["params"])  # training can go on

# %% [markdown]
# ## A Flax NNX model
#
# The library is given a function that makes such a model, and the trained parameters
# as a plain dictionary. The answer goes back into the model in the same way.


# %%
class Network(nnx.Module):
    def __init__(self, *, rngs):
        self.hidden = nnx.Linear(64, WIDTH, rngs=rngs)
        self.head = nnx.Linear(WIDTH, 10, rngs=rngs)

    def __call__(self, x):
        return self.head(nnx.relu(self.hidden(x.reshape(x.shape[0], -1))))


@nnx.jit
def nnx_step(model, optimizer, x, y):
    def loss(model):
        logits = model(x)
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    optimizer.update(model, nnx.grad(loss)(model))


model = Network(rngs=nnx.Rngs(0))
optimizer = nnx.Optimizer(model, optax.adam(5e-3), wrt=nnx.Param)
for _ in range(STEPS):
    rows = draw.integers(train.y.size, size=64)
    nnx_step(model, optimizer, train.x[rows], train.y[rows])
before_nnx = model(test.x)

of_nnx = hf.from_nnx(lambda rngs: Network(rngs=rngs))
variables = {"params": nnx.to_pure_dict(nnx.state(model, nnx.Param))}
unlearner = hf.fiun(of_nnx)
state = unlearner.init(keys[1], variables, train)
state, info = jax.jit(unlearner.unlearn)(keys[3], state, request)

params = nnx.state(model, nnx.Param)
nnx.replace_by_pure_dict(params, state.variables["params"])
nnx.update(model, params)
after_nnx = model(test.x)

# %% [markdown]
# ## Models of PyTorch
#
# Finetuning on the rest is claimed to have made networks forget the threes. What an
# audit reads is a folder: the logits of each model on the forgotten rows, the labels,
# and what each model is. Any framework can write it, and no pickle is loaded. Where
# PyTorch is not installed, the logits are read that this cell once wrote into
# `torch_digits`, beside the notebook.

# %%
import copy

if importlib.util.find_spec("torch"):
    import torch

    torch.manual_seed(0)
    x = torch.tensor(np.asarray(train.x)).flatten(1)
    y = torch.tensor(np.asarray(train.y)).long()
    gone = y == FORGET

    def fit(x, y, network=None, epochs=15):
        network = network or torch.nn.Sequential(
            torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10)
        )
        optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
        for _ in range(epochs):
            for rows in torch.randperm(len(y)).split(128):
                optimizer.zero_grad()
                logits = network(x[rows])
                torch.nn.functional.cross_entropy(logits, y[rows]).backward()
                optimizer.step()
        return network

    rest = x[~gone], y[~gone]
    networks = {"original": [fit(x, y) for _ in range(16)]}
    networks["unlearned"] = [
        fit(*rest, copy.deepcopy(each), epochs=5) for each in networks["original"]
    ]
    networks["retrained"] = [fit(*rest) for _ in range(32)]
    asked = x[gone][:40], y[gone][:40]
    with torch.no_grad():
        logits = [each(asked[0]) for kind in networks.values() for each in kind]
    logits = torch.stack(logits).numpy().astype(np.float16)
    kinds = [kind for kind, each in networks.items() for _ in each]
    folder = "runs/torch_digits"
    hf.audits.save_folder(folder, logits, asked[1].numpy(), kinds)
else:
    folder = "torch_digits"

claim = hf.audits.load_folder(folder)
judgement = hf.audits.judge(*claim)
print(judgement.verdict)
for audited in judgement.audits:
    if audited.floor is not None:
        print(f"{audited.audit:16} {audited.value:6.3f}  floor {audited.floor:6.3f}")

# %% [markdown]
# ## All three
#
# Accuracy by class before and after, of the two models that forgot here; and how sure
# the models of PyTorch are of the threes that they were to forget. Finetuned models
# still know more of them than retrained ones do.

# %%
import matplotlib.pyplot as plt


def by_class(logits):
    right = np.asarray(logits.argmax(-1) == test.y)
    return [right[np.asarray(test.y) == label].mean() for label in range(10)]


pairs = {
    "TrainState, by PGU": (
        by_class(module.apply({"params": before_linen}, test.x)),
        by_class(module.apply({"params": mine.params}, test.x)),
    ),
    "NNX, by FIUn": (by_class(before_nnx), by_class(after_nnx)),
}
figure, axes = plt.subplots(1, 3, figsize=(13, 3.6), layout="constrained")
for axis, (title, (before, after)) in zip(axes, pairs.items(), strict=False):
    axis.bar(np.arange(10) - 0.2, before, 0.4, label="before", color="#9aa0a6")
    axis.bar(np.arange(10) + 0.2, after, 0.4, label="after", color="#d55e00")
    axis.set(title=title, xlabel="digit", xticks=range(10), ylabel="test accuracy")
    axis.legend(loc="lower right", fontsize=8)

phi = hf.audits.scaled_confidence(claim.logits, claim.labels).mean(1)
kinds = np.array(claim.kinds)
colours = {"original": "#9aa0a6", "retrained": "#0072b2", "unlearned": "#d55e00"}
for kind, colour in colours.items():
    axes[2].hist(phi[kinds == kind], bins=8, label=kind, color=colour, alpha=0.8)
axes[2].set(
    title="PyTorch, claimed by finetuning",
    xlabel=f"mean log-odds of {FORGET}",
    ylabel="models",
)
axes[2].legend(fontsize=8)
plt.show()

# %% [markdown]
# More on what the library takes: [your own model and data](../docs/own_model.md); on
# the folder and on what the audits mean: [audits](../docs/audits.md).
