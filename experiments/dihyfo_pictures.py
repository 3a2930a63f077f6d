"""Pictures of a finished study of hypernetworks.

    python experiments/dihyfo_pictures.py runs/dihyfo-digits --out picture.png

Losses that were asked for against losses that came; which classes are still answered
when each is forgotten; and samples on their way from noise, in the two directions in
which the models of the zoo differ most. And a film: a grid of accuracies, one row for
each class that is to go, as the samples come out of the noise.
"""

import dataclasses
import functools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
import study as studies
import tyro
from dihyfo_artifacts import Artifacts, flat, last
from dihyfo_metrics import CLASSES, sample
from dihyfo_presets import PRESETS, VARIANTS
from matplotlib import animation
from sklearn.decomposition import PCA

import hyperforget_jax as hf
from hyperforget_jax import diffusion, hypernet, trees

SHOWN = (0, 3, 7)  # Of which classes the way is drawn.
STEPS, SAMPLES = 20, 6


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Pictures of a finished study of hypernetworks."""

    folder: tyro.conf.Positional[Path]
    """The study's folder."""
    out: Path = Path("dihyfo.png")
    """The picture."""
    film: Path = Path("dihyfo.gif")
    """The film."""


def main(config: Pictures) -> None:
    """Draw the picture and the film."""
    record = json.loads((config.folder / "config.json").read_text())
    preset = PRESETS[record["preset"]]
    study = studies.Study(
        "dihyfo", preset.recipe, record["seeds"], config.folder / "models"
    )
    artifacts = Artifacts(preset, config.folder, study.splits, study.classifier)
    trained = artifacts.trained("dihyfo_2", VARIANTS["dihyfo_2"])
    document = hf.report.read(config.folder / "results.json", references=False)
    figure, axes = plt.subplots(1, 3, figsize=(13.5, 4.2), layout="constrained")
    _prompts(axes[0], document["rows"])
    _grid(figure, axes[1], study, trained)
    _ways(axes[2], study, artifacts, trained)
    figure.savefig(config.out, dpi=110)
    _film(config.film, study, trained)


def _prompts(axis, rows) -> None:
    for row in rows:
        factors, metrics = row["factors"], row["metrics"]
        chosen = row["scenario"] == "prompts" and row["method"] == "dihyfo_2"
        if not chosen or factors["network"] != 0:
            continue
        label = row["request"].removeprefix("class ")
        count = sum(name.startswith("came_") for name in metrics)
        asked, achieved = (
            [metrics[f"{name}_{place}"]["values"] for place in range(count)]
            for name in ("asked", "came")
        )
        axis.plot(asked, achieved, ".", color=f"C{label}", markersize=3)
        axis.plot([], [], ".", color=f"C{label}", label=label)
    top = max(axis.get_xlim()[1], axis.get_ylim()[1])
    axis.plot([0, top], [0, top], color="black", linewidth=0.8)
    axis.legend(title="class", ncols=2, fontsize=7, loc="upper left")
    axis.set(
        xlabel="loss asked for, nats",
        ylabel="loss of the sample, nats",
        title="Asked for, and achieved",
    )


def _grid(figure, axis, study, trained) -> None:
    grid = np.zeros((10, 10))
    draw = functools.partial(
        sample, *trained, hypernet.Sampler(), 1, jax.random.key(40)
    )
    for label, classes in enumerate(CLASSES):
        samples = [
            draw(trees.take(study.originals["params"], seed), classes)
            for seed in range(study.seeds)
        ]
        params = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *samples)
        scores = hypernet.score_all(
            study.classifier, {"params": params}, study.splits.test
        )
        grid[label] = scores.accuracy.mean(axis=0)
    _heat(figure, axis, grid)
    for row, column in np.ndindex(10, 10):
        colour = "white" if grid[row, column] > 0.5 else "black"
        text = f"{100 * grid[row, column]:.0f}"
        axis.text(column, row, text, ha="center", va="center", color=colour, fontsize=6)
    axis.set(title="Accuracy on test rows, %")


def _heat(figure, axis, grid):
    """Draw accuracies by class, one row for each class that is to go."""
    shown = axis.imshow(grid, vmin=0, vmax=1, cmap="Blues")
    figure.colorbar(shown, ax=axis, shrink=0.8)
    ticks = range(10)
    axis.set(xlabel="class", ylabel="class to forget", xticks=ticks, yticks=ticks)
    return shown


def _ways(axis, study, artifacts, trained) -> None:
    """Draw ways from noise to change, each class in its colour, from one model."""
    zoo = artifacts.edit_zoo()
    begin = trees.take(zoo.starts["params"], zoo.start)
    changes = flat(jax.tree.map(np.subtract, last(zoo), begin))
    plane = PCA(2, random_state=0).fit(changes[:2000])
    source = trees.take(study.originals["params"], 0)
    single = zoo.masks.sum(1) == 1
    for place, label in enumerate(SHOWN):
        shown = plane.transform(changes[single & zoo.masks[:, label]])
        axis.plot(*shown.T, ".", color=f"C{place}", alpha=0.15, markersize=3)
        for key in jax.random.split(jax.random.key(41 + label), SAMPLES):
            way = _way(*trained, key, source, CLASSES[label])
            points = plane.transform(flat(optax.tree.mul(way, trained.params.spread)))
            axis.plot(*points.T, color=f"C{place}", linewidth=0.8)
            axis.plot(*points[-1], "o", color=f"C{place}", markersize=4)
        axis.plot([], [], "o", color=f"C{place}", label=f"forget {label}")
    axis.legend(fontsize=7)
    axis.set(
        xlabel="first direction",
        ylabel="second direction",
        title="From noise to a change (dots: the zoo)",
    )


@functools.partial(jax.jit, static_argnums=0)
def _way(network, params, key, source, classes):
    """Denoise from noise to the sample; return all steps, ``[STEPS + 1, ...]``."""
    loss = hypernet.profile(params.profiles, classes)
    prompt = hypernet.features(network.config.prompt, loss, classes)
    like = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.float32), source
    )
    steps = diffusion.trajectory(
        key,
        lambda noised, t: network.estimate(params, noised, source, t, prompt),
        like,
        network.schedule,
        steps=STEPS,
    )
    return jax.tree.map(
        lambda before, end: jnp.concatenate([before, end[-1:]]), steps.x_t, steps.x0
    )


def _film(path, study, trained) -> None:
    """Draw one model, one sample for each class that is to go."""
    source = trees.take(study.originals["params"], 0)
    grids = []
    for key, classes in zip(
        jax.random.split(jax.random.key(60), 10), CLASSES, strict=True
    ):
        way = _way(*trained, key, source, classes)
        change = optax.tree.mul(way, trained.params.spread)
        params = jax.tree.map(lambda own, new: own[None] + new, source, change)
        scores = hypernet.score_all(
            study.classifier, {"params": params}, study.splits.test
        )
        grids.append(scores.accuracy)
    grids = np.stack(grids)
    figure, axis = plt.subplots(figsize=(3.6, 3.4), layout="constrained")
    shown = _heat(figure, axis, grids[:, 0])

    def draw(step):
        shown.set_data(grids[:, step])
        axis.set_title(f"step {step} of {STEPS}")

    # The last one is to be looked at.
    steps = [*range(grids.shape[1]), *[grids.shape[1] - 1] * 8]
    film = animation.FuncAnimation(figure, draw, steps)
    film.save(path, animation.PillowWriter(fps=5), dpi=80)


if __name__ == "__main__":
    main(tyro.cli(Pictures))
