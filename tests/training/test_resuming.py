"""A run is gone on with only by what would have begun it."""

import os
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import hyperforget_jax as hf
from hyperforget_jax.training import resuming
from hyperforget_jax.training.resuming import program_digest
from tests import toys

DATA = toys.points()


def model(constant=0.0, scale=1.0):
    """A linear model with a constant in a function that is compiled by itself."""
    constant = jnp.asarray(constant)
    inner = jax.jit(lambda params, x: x @ params["w"] * (1 + constant))

    def init(key, x):
        return {"w": scale * jax.random.normal(key, (x.shape[-1], toys.NUM_CLASSES))}

    return hf.from_functions(init, inner, description="linear")


MODEL, ADAM = model(), optax.adam(1e-2)


def train(directory, classifier=MODEL, optimizer=ADAM, **options):
    return hf.fit_population(
        jax.random.key(3),
        classifier,
        DATA,
        optimizer,
        4,
        members=2,
        chunk_size=1,
        batch_size=16,
        progress=False,
        directory=directory,
        **options,
    )


def injected(rate):
    return optax.inject_hyperparams(optax.adam)(learning_rate=rate)


def looked_up(table):
    table = jnp.asarray(table)

    def loss(params, x):
        def body(carry, row):
            return carry + jax.lax.cond(
                row > 0, lambda: table @ params, lambda: 0.0
            ), None

        return jax.lax.scan(jax.checkpoint(body), 0.0, x)[0]

    return jax.grad(loss)


@pytest.mark.parametrize(
    "make",
    [
        lambda c: lambda params, x: jax.jit(lambda p: p * c)(params),
        lambda c: jax.vmap(jax.jit(lambda p, x: jnp.dot(c, c) * p), (0, None)),
        looked_up,
    ],
    ids=["inner jit", "vmapped jit", "scan and cond"],
)
def test_constants_at_any_depth_are_in_the_digest(make):
    shapes = (jnp.ones(3), jnp.ones(2))
    # The last one differs in its last bits, which nobody prints for people.
    one, same, other = (
        program_digest(make(np.array([first, 2, 3], np.float32)), *shapes)
        for first in (1, 1, 1 + 2**-20)
    )
    assert one == same != other


def test_large_constants_are_digested_in_full():
    def program(middle):
        table = np.zeros(5000, np.float32)
        table[2500] = middle
        return program_digest(lambda x: jnp.take(table, x), jnp.arange(3))

    assert program(1.0) == program(1.0) != program(2.0)


def fit_digest():
    return program_digest(
        lambda key, data: hf.fit(key, toys.normalised(), data, injected(1e-2), 3),
        jax.eval_shape(lambda: jax.random.key(0)),
        jax.eval_shape(lambda: DATA),
    )


@pytest.mark.slow
def test_the_digest_is_the_same_in_another_process():
    code = "from tests.training import test_resuming as t; print(t.fit_digest())"
    root = os.path.dirname(os.path.dirname(toys.__file__))
    env = {**os.environ, "PYTHONPATH": root, "PYTHONHASHSEED": "7", "XLA_FLAGS": ""}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True
    )
    assert done.stdout.split()[-1:] == [fit_digest()], done.stderr


@pytest.mark.parametrize(
    "change, name",
    [
        ({"classifier": model(constant=1.0)}, "program"),
        ({"classifier": model(scale=2.0)}, "init"),
        ({"optimizer": injected(1e-1)}, "init"),
    ],
)
@pytest.mark.parametrize("lost", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_another_program_does_not_make_the_missing_chunk(tmp_path, change, name, lost):
    begun = {"optimizer": injected(1e-2)} if "optimizer" in change else {}
    train(tmp_path, **begun)
    shutil.rmtree(tmp_path / f"chunk-0000{lost}")
    with pytest.raises(ValueError, match=f"holds a run started with {name}="):
        train(tmp_path, **change)
    assert not (tmp_path / f"chunk-0000{lost}").exists()
    whole = train(tmp_path, **begun)
    np.testing.assert_array_equal(
        whole.variables["params"]["w"], train(None, **begun).variables["params"]["w"]
    )


@pytest.mark.parametrize(
    "setting",
    [
        lambda: jax.threefry_partitionable(not jax.config.jax_threefry_partitionable),
        lambda: jax.default_matmul_precision("float32"),
    ],
    ids=["threefry_partitionable", "default_matmul_precision"],
)
def test_another_setting_of_numbers_is_another_run(tmp_path, setting):
    train(tmp_path)
    with setting(), pytest.raises(ValueError, match="started with numerics="):
        train(tmp_path)


def test_another_implementation_of_the_key_is_another_run(tmp_path):
    def run(key):
        hf.fit_population(
            key,
            MODEL,
            DATA,
            optax.sgd(0.1),
            2,
            members=1,
            progress=False,
            directory=tmp_path,
        )

    words = jax.random.key_data(jax.random.key(3, impl="rbg"))
    run(jax.random.wrap_key_data(words, impl="rbg"))
    with pytest.raises(ValueError, match="started with key="):
        run(jax.random.wrap_key_data(words, impl="unsafe_rbg"))


def rewritten(path, edit):
    """The chunk again, its recipe changed as an older version would have it."""
    manifest = hf.checkpointing.read_manifest(path)
    chunk = hf.checkpointing.load(path)
    config = edit(manifest.config)
    hf.checkpointing.save(
        path, chunk, kind=manifest.kind, config=config, overwrite=True
    )


def without(*names):
    def edit(config):
        kept = {k: v for k, v in config["recipe"].items() if k not in names}
        return {**config, "recipe": kept}

    return edit


@pytest.mark.parametrize(
    "edit, message",
    [
        (without("init", "numerics"), r"another version.*\['init', 'numerics'\]"),
        (
            lambda config: {**config, "recipe": {**config["recipe"], "colour": 1}},
            r"another version.*recorded \['colour'\]",
        ),
        (lambda config: {"step": 4}, "holds 'population-chunk', not .*gone on with"),
        (lambda config: None, "gone on with"),
    ],
)
def test_runs_of_other_versions_are_refused_by_name(tmp_path, edit, message):
    train(tmp_path)
    for chunk in ("chunk-00000", "chunk-00001"):
        rewritten(tmp_path / chunk, edit)
    with pytest.raises(ValueError, match=message):
        train(tmp_path)


def test_what_is_no_run_is_refused_by_name(tmp_path):
    hf.checkpointing.save(
        tmp_path / "chunk-00000", {"w": jnp.ones(2)}, kind="variables"
    )
    with pytest.raises(ValueError, match="holds 'variables', not 'population-chunk'"):
        train(tmp_path)


def test_recipes_are_compared_field_by_field():
    recipe = {"key": 1, "steps": 2}
    resuming.check_recipe("there", {}, recipe)
    resuming.check_recipe("there", dict(recipe), recipe)
    with pytest.raises(ValueError, match="started with steps=3, not 2"):
        resuming.check_recipe("there", {"key": 1, "steps": 3}, recipe)
