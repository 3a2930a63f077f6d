"""Long jobs in small, to be killed and gone on with: see ``endurance.py``.

    python experiments/endurance_jobs.py population runs/population

A job keeps its unfinished work under the folder, goes on from what it finds there, and
at last writes ``digest.txt``, a digest of everything that it made.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import optax

import hyperforget_jax as hf
from hyperforget_jax import atomic_write, hypernet, inheritance

CLASSIFIER = hf.from_linen(hf.models.MLP((16,)))
ADAM = optax.adam(1e-2)
MASKS = [[0], [1], [2]]


def population(out: Path) -> Any:
    """Train twelve classifiers, four at once."""
    return hf.fit_population(
        jax.random.key(0),
        CLASSIFIER,
        hf.data.load("digits").train,
        ADAM,
        3_000,
        members=12,
        batch_size=64,
        chunk_size=4,
        segment_steps=100,
        checkpoint_steps=(500, 2_000),
        directory=out / "population",
        progress=False,
    )


def zoo(out: Path) -> Any:
    """Train starts, retrained models that teach, and runs that forget."""
    splits = hf.data.load("digits")
    return hypernet.edit_zoo(
        jax.random.key(1),
        CLASSIFIER,
        splits.train,
        splits.probe,
        masks=MASKS,
        starts=8,
        start=hypernet.FitConfig(ADAM, 1_000, 64),
        forget=hypernet.FitConfig(ADAM, 500, 64),
        checkpoint_steps=(100, 200),
        directory=out / "zoo",
        progress=False,
    )


def hypernetwork(out: Path) -> Any:
    """Train a hypernetwork on a small zoo."""
    train, probe, _ = hf.data.load("digits")
    found = hypernet.edit_zoo(
        jax.random.key(2),
        CLASSIFIER,
        train,
        probe,
        masks=[[label] for label in range(10)],
        starts=2,
        start=hypernet.FitConfig(ADAM, 50, 64),
        forget=hypernet.FitConfig(ADAM, 50, 64),
        checkpoint_steps=(25,),
        directory=out / "zoo",
        progress=False,
    )
    network = hypernet.build(
        CLASSIFIER, train.x, hypernet.HypernetConfig(width=16, heads=2, depth=1)
    )
    return hypernet.fit_hypernetwork(
        jax.random.key(3),
        network,
        CLASSIFIER,
        found,
        train,
        hypernet.TrainConfig(steps=300, batch_size=16),
        segment_steps=20,
        directory=out / "hypernetwork",
        progress=False,
    )


def networks(out: Path) -> Any:
    """Train graphs of models that inherit from each other, eight seeds."""
    train = hf.data.load("digits").train
    return inheritance.train_networks(
        jax.random.split(jax.random.key(4), 8),
        CLASSIFIER,
        train,
        [inheritance.federated_dag(jax.random.key(5), train, sensitive=[0])],
        ADAM,
        1_000,
        directory=out / "networks",
        progress=False,
    )


def audit(out: Path) -> Any:
    """Audit two methods by the study's own command, cell by cell."""
    import audit as audits  # Whose imports take longer than the other jobs.

    folder = out / "audit"
    audits.main(
        audits.Audit(
            models=5,
            scenarios=("class",),
            methods=("logit_mask", "ascent"),
            resume=(folder / "config.json").exists(),
            out=folder,
        )
    )
    rows = json.loads((folder / "results.json").read_text())["rows"]
    return [[row["method"], row["verdict"], row["audits"]] for row in rows]


JOBS: dict[str, Callable[[Path], Any]] = {
    "population": population,
    "zoo": zoo,
    "hypernetwork": hypernetwork,
    "networks": networks,
    "audit": audit,
}


def main(name: str, out: Path) -> None:
    """Do a job, or the rest of it."""
    made = JOBS[name](out)
    text = json.dumps(made) if name == "audit" else hf.checkpointing.digest(made)
    with atomic_write.replace_file(out / "digest.txt") as file:
        file.write(text)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
