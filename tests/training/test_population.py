"""Populations: vmap of fit, in chunks, sharded, killed and resumed."""

import os
import signal
import subprocess
import sys
import textwrap
import time
import warnings

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import hyperforget_jax as hf
from hyperforget_jax.training import members
from tests import toys

# Equal ones, and so one compilation for many tests.
CLASSIFIER, ADAM, DATA = toys.perceptron(), optax.adam(1e-2), toys.points()


def train(members=5, steps=12, key=None, **options):
    return hf.fit_population(
        jax.random.key(3) if key is None else key,
        CLASSIFIER,
        options.pop("data", DATA),
        options.pop("optimizer", ADAM),
        steps,
        members=members,
        batch_size=16,
        progress=False,
        **options,
    )


def member(tree, index):
    return jax.tree.map(lambda leaf: leaf[index], tree)


def test_members_are_fits_of_their_own_key():
    population = train()
    for index in (0, 4):
        alone = hf.fit(
            jax.random.fold_in(jax.random.key(3), index),
            CLASSIFIER,
            DATA,
            ADAM,
            12,
            batch_size=16,
        )
        # Batched products sum in another order.
        chex.assert_trees_all_close(
            member(population.variables, index), alone, atol=1e-5
        )


def test_members_may_minimise_what_their_conditions_say():
    """A member each for minus, for one and for three times the cross-entropy."""

    def objective(scale, shared):
        def loss_fn(key, variables, batches):
            del key
            rows = batches[0].examples
            logits = CLASSIFIER.apply(variables, rows.x)
            loss = hf.losses.cross_entropy(logits, rows.y)
            return shared["half"] * scale * jnp.mean(loss), variables

        return loss_fn

    scales = jnp.array([-1.0, 1.0, 3.0])
    population = train(
        members=3,
        optimizer=optax.sgd(0.1),
        objective=objective,
        conditions=scales,
        shared={"half": jnp.array(0.5)},
    )
    for index, scale in enumerate(scales):
        alone = hf.fit(
            jax.random.fold_in(jax.random.key(3), index),
            CLASSIFIER,
            DATA,
            optax.sgd(0.1 * 0.5 * float(scale)),
            12,
            batch_size=16,
        )
        chex.assert_trees_all_close(
            member(population.variables, index), alone, atol=1e-5
        )
    with pytest.raises(ValueError, match="conditions must be stacked"):
        train(members=2, objective=objective, conditions=scales)
    with pytest.raises(ValueError, match="augment goes unused"):
        train(objective=objective, augment=lambda x, id, epoch: x)


def test_segments_of_a_common_length_end_where_one_long_one_does():
    whole = train(steps=12, segment_steps=12)
    parts = train(steps=12, checkpoint_steps=(2, 8))
    # Another program, of two steps, that is run six times.
    chex.assert_trees_all_close(parts.variables, whole.variables, atol=1e-5)
    chex.assert_trees_all_close(
        jax.tree.map(lambda leaf: leaf[:, 1], parts.checkpoints),
        train(steps=8).variables,
        atol=1e-5,
    )


@pytest.mark.parametrize("options", [{"chunk_size": 2}, {"segment_steps": 5}])
def test_chunks_and_segments_change_nothing_but_bits(options):
    chex.assert_trees_all_close(
        train(**options).variables, train().variables, atol=1e-5
    )


def test_checkpoints_are_kept_at_the_chosen_steps():
    population = train(checkpoint_steps=(4, 12), segment_steps=5, chunk_size=3)
    np.testing.assert_array_equal(population.checkpoint_steps, [4, 12])
    for place, steps in enumerate((4, 12)):
        chex.assert_trees_all_close(
            jax.tree.map(
                lambda leaf, place=place: leaf[:, place], population.checkpoints
            ),
            train(steps=steps).variables,
            atol=1e-5,
        )
    assert train().checkpoints is None


def test_weights_say_who_saw_what():
    weights = jnp.ones((2, 40), jnp.int32).at[1, ::2].set(0)
    population = train(members=2, weights=weights)
    scribbled = toys.scribble(jax.random.key(0), DATA, jnp.arange(0, 40, 2))
    other = train(members=2, weights=weights, data=scribbled)
    chex.assert_trees_all_equal(
        member(population.variables, 1), member(other.variables, 1)
    )
    changed = member(population.variables, 0)["params"]["Dense_0"]["kernel"]
    assert (changed != member(other.variables, 0)["params"]["Dense_0"]["kernel"]).any()


def test_starts_are_gone_on_from():
    starts = train(members=3).variables
    on = train(members=3, steps=1, starts=starts, optimizer=optax.sgd(1e-6))
    chex.assert_trees_all_close(on.variables, starts, atol=1e-4)


def test_eight_devices_equal_one():
    mesh = hf.sharding.make_mesh(population=8)
    sharded = train(members=16, mesh=mesh)
    chex.assert_trees_all_close(
        sharded.variables, train(members=16).variables, atol=1e-5
    )


@pytest.mark.slow
def test_each_device_trains_convolutions_of_its_own_members_alone():
    data, mesh = toys.points(), hf.sharding.make_mesh(population=8)
    data = data._replace(x=jnp.ones((data.x.shape[0], 8, 8, 3)))
    classifier = hf.from_linen(hf.models.GptCNN())
    objective = members.CrossEntropy(classifier, None)
    program = members.Program(classifier, optax.sgd(1e-2), objective, 4)
    keys = jax.random.split(jax.random.key(0), 16)
    own = members.start_all(program, data.x, keys, None)
    own = hf.sharding.shard(own, mesh, "population")
    data = hf.sharding.replicate(data, mesh)
    common = ((), None, data, (), jnp.int32(0), jnp.int32(2))
    text = (
        members.advance_all.lower(program, *own, *common, mesh=mesh).compile().as_text()
    )
    assert "convolution(" in text and "all-gather" not in text
    # Of sixteen kernels, each device has two.
    assert "f32[2,3,3,16,32]" in text and "f32[16,3,3,16,32]" not in text


def test_finished_runs_are_read_not_trained(tmp_path):
    options = dict(checkpoint_steps=(6,), segment_steps=4, directory=tmp_path)
    first = train(**options)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.json")}
    second = train(**options)
    chex.assert_trees_all_equal(first, second)
    after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.json")}
    assert before == after and before


@pytest.mark.parametrize(
    "change, name",
    [
        ({"optimizer": optax.adam(2e-2)}, "program"),
        ({"steps": 13}, "steps"),
        ({"key": jax.random.key(4)}, "key"),
        ({"data": toys.points(seed=8)}, "data"),
        ({"chunk_size": 4}, "chunk_size"),
        ({"checkpoint_steps": (3,)}, "checkpoint_steps"),
        ({"weights": jnp.ones((5, 40), jnp.int32)}, "weights"),
    ],
)
def test_another_run_is_not_gone_on_with(tmp_path, change, name):
    train(directory=tmp_path)
    with pytest.raises(ValueError, match=f"started with {name}="):
        train(directory=tmp_path, **change)


SCRIPT = """
import sys
import chex
chex.set_n_cpu_devices(8)
import jax
jax.config.update("jax_compilation_cache_dir", sys.argv[2])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
import optax
import hyperforget_jax as hf
from hyperforget_jax.training import members
from tests import toys
hf.fit_population(
    jax.random.key(3), toys.normalised(), toys.points(), optax.adam(1e-2), 1000,
    members=6, batch_size=16, chunk_size=3, segment_steps=50,
    checkpoint_steps=(120, 700), directory=sys.argv[1], progress=False,
)
"""


@pytest.mark.slow
def test_killed_run_that_is_started_again_ends_bit_identical(tmp_path):
    arguments = [sys.executable, "-c", textwrap.dedent(SCRIPT)]
    env = {
        **os.environ,
        "PYTHONPATH": str(os.path.dirname(os.path.dirname(toys.__file__))),
    }
    cache = str(tmp_path / "cache")
    env["XLA_FLAGS"] = ""  # What users run, not the tests' quicker compilation.
    kills = 0
    while True:
        process = subprocess.Popen(
            [*arguments, str(tmp_path / "killed"), cache], env=env
        )
        # Killed soon after the first chunk is written, and again in the second.
        chunk = tmp_path / "killed" / f"chunk-{kills:05d}"
        while process.poll() is None and not (kills < 2 and chunk.exists()):
            time.sleep(0.01)
        if process.poll() is None:
            time.sleep(0.2)
            process.send_signal(signal.SIGKILL)
        if process.wait() == 0:
            break
        kills += 1
    assert kills
    subprocess.run([*arguments, str(tmp_path / "whole"), cache], env=env, check=True)
    for index in range(2):
        whole, killed = (
            hf.checkpointing.load(tmp_path / name / f"chunk-{index:05d}")
            for name in ("whole", "killed")
        )
        chex.assert_trees_all_equal(whole, killed)
        for step in (120, 700):
            name = f"chunk-{index:05d}-step-{step:09d}"
            chex.assert_trees_all_equal(
                hf.checkpointing.load(tmp_path / "whole" / name),
                hf.checkpointing.load(tmp_path / "killed" / name),
            )


def test_failed_members_are_flagged_carried_on_and_named():
    starts = jax.vmap(CLASSIFIER.init, (0, None))(
        jax.random.split(jax.random.key(0), 3), DATA.x
    )
    starts = jax.tree.map(lambda leaf: leaf.at[1].set(jnp.inf), starts)
    with pytest.warns(RuntimeWarning, match=r"1 of 3 members .* member 1 at step 0"):
        population = train(members=3, starts=starts)
    np.testing.assert_array_equal(population.failed_at, [-1, 0, -1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        well = jax.tree.map(lambda leaf: leaf.at[1].set(leaf[0]), starts)
        train(members=3, starts=well)


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"weights": jnp.ones((4, 40), int)}, ValueError, r"weights must have shape"),
        ({"weights": -jnp.ones((5, 40), int)}, ValueError, "must be non-negative"),
        ({"weights": jnp.full((5, 40), jnp.nan)}, ValueError, "must not be NaN"),
        ({"weights": jnp.ones((5, 40))}, TypeError, "weights must be integers"),
        (
            {"weights": jnp.ones((5, 40), int).at[2].set(0)},
            ValueError,
            r"leave each member an example.*\[2\]",
        ),
        ({"checkpoint_steps": (13,)}, ValueError, r"lie in \[1, 12\], got \(13,\)"),
        ({"checkpoint_steps": (4, 4)}, ValueError, "must increase"),
    ],
)
def test_bad_arguments_are_refused_by_name(options, error, message):
    with pytest.raises(error, match=message):
        train(**options)


def test_starts_must_be_stacked():
    start = CLASSIFIER.init(jax.random.key(0), DATA.x)
    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf] * 4), start)
    with pytest.raises(ValueError, match=r"starts must be stacked \[members=5"):
        train(starts=stacked)


def test_numpy_weights_and_starts_are_taken(tmp_path):
    starts = jax.tree.map(np.asarray, train(members=2).variables)
    weights = np.ones((2, 40), np.int64)
    train(members=2, steps=2, weights=weights, starts=starts, directory=tmp_path)


def test_another_constant_is_another_program():
    from hyperforget_jax.training.resuming import program_digest

    def program(constant):
        return program_digest(lambda x: x * constant, jnp.ones(3))

    assert program(np.arange(3.0)) == program(np.arange(3.0))
    assert program(np.arange(3.0)) != program(np.arange(3.0)[::-1].copy())
