"""How many members are at work at once: a budget over what one of them writes."""

import jax
import jax.numpy as jnp
import pytest

from hyperforget_jax.chunking import chunk_size, map_members

BUDGET = 256 * 2**20  # Of CPUs.


@pytest.fixture(autouse=True)
def on_a_cpu(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")


def shape(*sizes):
    return jax.ShapeDtypeStruct(sizes, jnp.float32)


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit, jax.checkpoint])
@pytest.mark.parametrize("side", [256, 1024, 4096])
def test_every_intermediate_counts(wrap, side):
    def program(x):  # Two matrices and a number.
        return jnp.sum(wrap(lambda y: jax.lax.sin(jax.lax.cos(y)))(x))

    two = BUDGET // (2 * 4 * side**2)
    # A call counts its result once more.
    three = BUDGET // (3 * 4 * side**2 + 16)
    assert chunk_size(max(two, 1) + 1, program, shape(side, side)) <= max(two, 1)
    everyone = max(three, 1)
    assert chunk_size(everyone, program, shape(side, side)) == everyone


def test_what_a_member_holds_counts_too():
    fit = BUDGET // 4097
    for members, held, expected in (
        (fit, 0, fit),
        (fit + 1, 0, -(-(fit + 1) // 2)),  # Two groups of equal size.
        (fit, 4096, -(-fit // 2)),
        (5, 0, 5),
    ):
        found = chunk_size(members, jax.lax.sin, shape(1024), held=held)
        assert found == expected


def test_groups_are_shared_out_to_devices():
    fit = 8 * BUDGET // 4097
    arguments = jax.lax.sin, shape(1024)
    assert chunk_size(fit // 8 * 8, *arguments, devices=8) == fit // 8 * 8
    assert chunk_size(13, *arguments, devices=8) == 16
    # Each is larger than the budget: one a device.
    large = jax.lax.sin, shape(2**27)
    assert chunk_size(13, *large) == 1
    assert chunk_size(13, *large, devices=8) == 8


def test_members_are_mapped_in_order_and_with_what_they_share():
    keys = jax.random.split(jax.random.key(0), 5)
    stacked = {"scale": jnp.arange(5.0), "key": keys}

    def program(member, x):
        return member["scale"] * x + jax.random.uniform(member["key"])

    x = jnp.ones(BUDGET // 40)  # Two members fit, so that the last is by itself.
    found = map_members(program, stacked, x)
    expected = jnp.arange(5.0) + jax.vmap(jax.random.uniform)(keys)
    assert found.shape == (5, x.size)
    assert jnp.allclose(found[:, 0], expected, rtol=1e-6)
