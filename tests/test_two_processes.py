"""Two processes train one population together, and one process reads what they left."""

import os
import pathlib
import re
import socket
import subprocess
import sys

import chex
import jax
import numpy as np
import optax
import pytest

import hyperforget_jax as hf
from tests import toys

SCRIPT = """
import sys
import jax
jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_cpu_collectives_implementation", "gloo")
port, rank, folder = sys.argv[1:]
jax.distributed.initialize(f"localhost:{port}", 2, int(rank))
from tests import test_two_processes
test_two_processes.train_and_save(folder)
"""


def train(**options):
    return hf.fit_population(
        jax.random.key(3),
        toys.perceptron(),
        toys.points(),
        optax.sgd(0.1),
        12,
        members=6,
        weights=np.arange(6 * 40).reshape(6, 40) % 3,
        batch_size=16,
        checkpoint_steps=(6,),
        segment_steps=4,
        progress=False,
        **options,
    )


def train_and_save(folder):
    """What each of the processes does."""
    folder = pathlib.Path(folder)
    assert (jax.process_count(), jax.device_count()) == (2, 4)
    mesh = hf.sharding.make_mesh()
    population = train(mesh=mesh, directory=folder / "run")
    again = train(mesh=mesh, directory=folder / "run")  # Read by both, not trained.
    chex.assert_trees_all_equal(again, population)
    if hf.sharding.is_writer(mesh):
        hf.checkpointing.save(folder / "population", population, kind="population")


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    # Devices are counted by the script.
    flags = re.sub(r"--xla_force_host\S*", "", os.environ.get("XLA_FLAGS", ""))
    root = pathlib.Path(__file__).parents[1]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(port), str(rank), str(tmp_path)],
            env={**os.environ, "PYTHONPATH": str(root), "XLA_FLAGS": flags},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        for process in processes:
            said, _ = process.communicate(timeout=120)
            assert process.returncode == 0, said
    finally:
        for process in processes:
            process.kill()
            process.wait()
    alone = train()
    saved = hf.checkpointing.load(tmp_path / "population", like=alone)
    # Batched products of three models and of two sum in another order.
    chex.assert_trees_all_close(saved, alone, atol=1e-5)
    # And as many devices of one process go on from what the two left on disk.
    mesh = hf.sharding.make_mesh(population=4)
    chex.assert_trees_all_equal(train(mesh=mesh, directory=tmp_path / "run"), saved)
