"""How many members are at work at once: a budget over what one of them writes."""

import jax
import jax.numpy as jnp
import pytest

from hyperforget_jax.memory import members_that_fit

BUDGET = 256 * 2**20  # Of CPUs, on which tests run.


def shape(*sizes):
    return jax.ShapeDtypeStruct(sizes, jnp.float32)


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit, jax.checkpoint])
@pytest.mark.parametrize("side", [64, 1000, 4096])
def test_every_intermediate_counts(wrap, side):
    def program(x):  # Two matrices and a number.
        return jnp.sum(wrap(lambda y: jnp.sin(jnp.cos(y)))(x))

    found = members_that_fit(program, shape(side, side))
    # A call counts its result once more, and the sum is a number.
    most, least = BUDGET // (8 * side**2), BUDGET // (12 * side**2 + 16)
    assert max(least, 1) <= found <= max(most, 1)


def test_what_a_member_holds_and_devices_count_too():
    program = jnp.sin
    alone = members_that_fit(program, shape(1024))
    assert alone == BUDGET // 4097
    assert members_that_fit(program, shape(1024), held=4096) == BUDGET // 8193
    assert members_that_fit(program, shape(1024), devices=8) == 8 * BUDGET // 4097
    # Larger than the budget: one a device.
    assert members_that_fit(program, shape(2**27)) == 1
    assert members_that_fit(program, shape(2**27), devices=8) == 8
