"""Pictures of a finished study of hypernetworks.

    python experiments/dihyfo_pictures.py runs/dihyfo-digits --out picture.png

Losses that were asked for against losses that came; which classes are still answered
when each is forgotten; and samples on their way from noise, in the two directions in
which the models of the zoo differ most. And a film: a grid of accuracies, one row for
each class that is to go, as the samples come out of the noise.
"""

import dataclasses
import json
from pathlib import Path

import dihyfo_world as worlds
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import study as studies
import tyro
from dihyfo_measures import CLASSES, maker, member, params_of
from dihyfo_presets import PRESETS
from matplotlib import animation
from sklearn.decomposition import PCA

import hyperforget_jax as hf
from hyperforget_jax import diffusion, hypernet

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
    """Draws the picture and the film."""
    record = json.loads((config.folder / "config.json").read_text())
    preset = PRESETS[record["preset"]]
    study = studies.Study(
        "dihyfo", preset.recipe, record["seeds"], config.folder / "models"
    )
    world = worlds.World(preset, config.folder, study.splits, study.classifier)
    network = world.trained("dihyfo_2", 0)
    document = hf.report.read(config.folder / "results.json", references=False)
    figure, axes = plt.subplots(1, 3, figsize=(13.5, 4.2), layout="constrained")
    _prompts(axes[0], document["rows"])
    _grid(figure, axes[1], study, network)
    _ways(axes[2], study, world, network)
    figure.savefig(config.out, dpi=110)
    _film(config.film, study, network)


def _prompts(axis, rows) -> None:
    for row in rows:
        factors = row["factors"]
        chosen = row["scenario"] == "prompts" and row["method"] == "dihyfo_2"
        if not chosen or factors["network"] != 0:
            continue
        label = int(row["request"].removeprefix("class "))
        asked, came = (
            np.array(
                [
                    row["metrics"][f"{name}_{place}"]["values"]
                    for place in range(
                        sum(n.startswith("came") for n in row["metrics"])
                    )
                ]
            )
            for name in ("asked", "came")
        )
        axis.plot(asked, came, ".", color=f"C{label}", markersize=3)
        axis.plot([], [], ".", color=f"C{label}", label=str(label))
    top = max(axis.get_xlim()[1], axis.get_ylim()[1])
    axis.plot([0, top], [0, top], color="black", linewidth=0.8)
    axis.legend(title="class", ncols=2, fontsize=7, loc="upper left")
    axis.set(
        xlabel="loss asked for, nats",
        ylabel="loss of the sample, nats",
        title="Asked for, and achieved",
    )


def _grid(figure, axis, study, network) -> None:
    make = maker(network, hypernet.Sampler(), 1)
    grid = np.zeros((10, 10))
    for label, classes in enumerate(CLASSES):
        samples = [
            make(jax.random.key(40), member(seed, params_of(study)), classes)
            for seed in range(study.seeds)
        ]
        params = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *samples)
        scores = hypernet.score_all(
            study.classifier, {"params": params}, study.splits.test
        )
        grid[label] = scores.accuracy.mean(axis=0)
    shown = axis.imshow(grid, vmin=0, vmax=1, cmap="Blues")
    for row, column in np.ndindex(10, 10):
        colour = "white" if grid[row, column] > 0.5 else "black"
        text = f"{100 * grid[row, column]:.0f}"
        axis.text(column, row, text, ha="center", va="center", color=colour, fontsize=6)
    figure.colorbar(shown, ax=axis, shrink=0.8)
    axis.set(
        xlabel="class",
        ylabel="class that was to go",
        title="Accuracy on test rows, %",
        xticks=range(10),
        yticks=range(10),
    )


def _ways(axis, study, world, network) -> None:
    """From noise to change, each class in its colour, from one model."""
    zoo, learnt = world.anchored(), network.learnt
    begin = jax.tree.map(lambda leaf: leaf[zoo.start], zoo.starts["params"])
    changes = worlds.flat(
        jax.tree.map(
            lambda end, start: end[:, -1] - start, zoo.variables["params"], begin
        )
    )
    flat = PCA(2, random_state=0).fit(changes[:2000])
    anchor = jax.tree.map(lambda leaf: leaf[0], study.originals["params"])
    single = zoo.masks.sum(1) == 1
    for place, label in enumerate(SHOWN):
        runs = single & zoo.masks[:, label]
        shown = flat.transform(changes[runs])
        axis.plot(*shown.T, ".", color=f"C{place}", alpha=0.15, markersize=3)
        classes = jnp.arange(10) == label
        way = jax.vmap(_way, (0, None, None, None))(
            jax.random.split(jax.random.key(41 + label), SAMPLES),
            network,
            anchor,
            classes,
        )
        scaled = hypernet.scale_up(way, learnt.spread)
        for sample in range(SAMPLES):
            own = jax.tree.map(lambda leaf, at=sample: leaf[at], scaled)
            points = flat.transform(worlds.flat(own))
            axis.plot(*points.T, color=f"C{place}", linewidth=0.8)
            axis.plot(*points[-1], "o", color=f"C{place}", markersize=4)
        axis.plot([], [], "o", color=f"C{place}", label=f"forget {label}")
    axis.legend(fontsize=7)
    axis.set(
        xlabel="first direction",
        ylabel="second direction",
        title="From noise to a change (dots: the zoo)",
    )


def _way(key, network, anchor, classes):
    """What becomes of noise, and at last the sample: ``[STEPS + 1, ...]``."""
    learnt = network.learnt
    loss = hypernet.profile(learnt.profiles, classes)
    prompt = hypernet.features(network.recipe.prompt, loss, classes)

    def denoise(noised, t):
        return hypernet.estimate(network, learnt, noised, anchor, t, prompt)

    like = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.float32), anchor
    )
    schedule = diffusion.schedule(network.recipe.schedule)
    went = diffusion.trajectory(key, denoise, like, schedule, steps=STEPS)
    return jax.tree.map(
        lambda before, end: jnp.concatenate([before, end[-1:]]), went.x_t, went.x0
    )


def _film(path, study, network) -> None:
    """One model, one sample for each class that is to go."""
    anchor = jax.tree.map(lambda leaf: leaf[0], study.originals["params"])

    def model(x_t):
        change = hypernet.scale_up(x_t, network.learnt.spread)
        return {"params": jax.tree.map(jnp.add, anchor, change)}

    @jax.jit
    def frames(key, classes):
        models = jax.vmap(model)(_way(key, network, anchor, classes))
        return hypernet.population_scores(
            study.classifier, models, study.splits.test
        ).accuracy

    keys = jax.random.split(jax.random.key(60), 10)
    every = zip(keys, np.eye(10, dtype=bool), strict=True)
    grids = np.stack([frames(key, classes) for key, classes in every])
    figure, axis = plt.subplots(figsize=(3.6, 3.4), layout="constrained")
    shown = axis.imshow(grids[:, 0], vmin=0, vmax=1, cmap="Blues")
    figure.colorbar(shown, ax=axis, shrink=0.8, label="accuracy, test")
    axis.set(
        xlabel="class",
        ylabel="class that is to go",
        xticks=range(10),
        yticks=range(10),
    )

    def draw(step):
        shown.set_data(grids[:, step])
        axis.set_title(f"step {step} of {STEPS}")

    # The last one is to be looked at.
    steps = [*range(grids.shape[1]), *[grids.shape[1] - 1] * 8]
    film = animation.FuncAnimation(figure, draw, steps)
    film.save(path, animation.PillowWriter(fps=5), dpi=80)


if __name__ == "__main__":
    main(tyro.cli(Pictures))
