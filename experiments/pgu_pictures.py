"""Draw what projected-gradient unlearning does to one model, beside retraining.

    python experiments/pgu_pictures.py --out runs/pgu-mnist.png

Four panels: the spectra of the Gram matrices and how much of each direction is let
through; forget and retain accuracy over the steps; and, for rows forgotten by a model
that memorises, the entropies of its predictions beside retrained models'.
"""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pgu as studies
import tyro

import hyperforget_jax as hf
from hyperforget_jax import trees

DEFAULT = hf.PGUConfig()


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Draw what projected-gradient unlearning does."""

    preset: str = "mnist"
    """As in pgu.py."""
    label: int = 3
    """The class that is forgotten."""
    retrained: int = 5
    """Retrained models."""
    out: Path = Path("runs/pgu.png")
    """The picture."""


def main(config: Pictures) -> None:
    """Train, forget and draw."""
    preset = studies.PRESETS[config.preset]
    figure, axes = plt.subplots(1, 4, figsize=(16, 3.6), layout="constrained")
    _class(config, preset.classes[0], axes[:3])
    _rows(config, preset, axes[3])
    config.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(config.out, dpi=110)


def _class(config, recipe, axes):
    classifier, splits = recipe.classifier, recipe.load()
    trained = recipe.train(jax.random.key(0), splits.train, 1).variables
    variables = trees.take(trained, 0)
    request = hf.forget_classes(splits.train, [config.label])
    test_forget, test_retain = request.split(splits.test)
    unlearner = hf.pgu(classifier)
    state = unlearner.init(jax.random.key(1), variables, splits.train)
    forgotten = hf.subspace.measure(classifier, variables, request.forget)
    left = hf.subspace.subtract(state.store.grams, forgotten)
    spectrum = hf.subspace.decompose(left)
    for path, values in spectrum.values.items():
        share = values[0] / values[0, 0]
        rank = np.arange(1, share.size + 1) / share.size
        axes[0].plot(rank, np.maximum(share, 1e-9), label=path)
        projector = hf.subspace.soft_null_space(spectrum, DEFAULT.threshold)
        axes[1].plot(rank, projector.share[path][0], label=path)
    axes[0].set(yscale="log", xlabel="direction, share of all", title="spectrum")
    axes[1].set(xlabel="direction, share of all", title="what is let through")
    axes[0].legend()

    def accuracy(variables, examples):
        right = jnp.argmax(classifier.apply(variables, examples.x), -1) == examples.y
        return hf.losses.weighted_mean(right, examples.weight)

    # The schedule is that of a hundred steps, so its rounds are counted.
    steps = np.arange(0, 11) * 10
    curves = []
    for rounds in range(11):
        after = variables
        if rounds:
            done = (10 * rounds - 1) / 99
            rate = DEFAULT.learning_rate
            end = rate * (DEFAULT.end_rate / rate) ** done
            short = hf.pgu(classifier, hf.PGUConfig(rounds=rounds, end_rate=end))
            after = short.unlearn(jax.random.key(2), state, request)[0].variables
        curves.append([accuracy(after, test_forget), accuracy(after, test_retain)])
    curves = np.array(curves)
    axes[2].plot(steps, curves[:, 0], label=f"class {config.label}, test")
    axes[2].plot(steps, curves[:, 1], label="other classes, test")
    axes[2].set(xlabel="steps", title="accuracy", ylim=(-0.02, 1.02))
    axes[2].legend()


def _rows(config, preset, axis):
    recipe = preset.memorising
    classifier, splits = recipe.classifier, recipe.load()
    trained = recipe.train(jax.random.key(3), splits.train, 1).variables
    variables = trees.take(trained, 0)
    count = round(preset.share * splits.train.y.shape[0])
    request = hf.forget_random(jax.random.key(4), splits.train, count=count)
    probe = splits.probe.take(jnp.arange(preset.probe))
    key = jax.random.key(5)
    retrained = recipe.train(key, request.retain, config.retrained).variables

    def entropy(variables):
        there = np.flatnonzero(np.asarray(request.forget.weight))
        logits = classifier.apply(variables, request.forget.x[there])
        log_probs = jax.nn.log_softmax(logits)
        return -np.sum(np.exp(log_probs) * log_probs, axis=-1)

    found = {"original": entropy(variables)}
    for settings, title in (
        (hf.PGUConfig(), "pgu"),
        (hf.PGUConfig.published(), "pgu/published"),
    ):
        unlearner = hf.pgu(classifier, settings, probe=probe)
        state = unlearner.init(jax.random.key(6), variables, splits.train)
        after = unlearner.unlearn(jax.random.key(7), state, request)[0].variables
        found[title] = entropy(after)
    found["retrain"] = np.concatenate(
        [entropy(trees.take(retrained, each)) for each in range(config.retrained)]
    )
    bins = np.linspace(-16, 0.9, 24)
    for name, values in found.items():
        weight = np.full(values.size, 1 / values.size)
        axis.hist(
            np.maximum(np.log(np.maximum(values, 1e-30)), bins[0]),
            bins,
            weights=weight,
            histtype="step",
            label=name,
        )
    axis.set(xlabel="log entropy of predictions on forgotten rows", title="rows")
    axis.legend()


if __name__ == "__main__":
    main(tyro.cli(Pictures))
