"""Triggers: on the rows that were drawn, in the corner, and nowhere else."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hyperforget_jax as hf
from hyperforget_jax.data import corner_square, examples, plant_trigger

KEY = jax.random.key(3)
RANDOM = np.random.default_rng(0)
Y = RANDOM.permutation(np.repeat(np.arange(4), 10))
X = RANDOM.normal(size=(40, 9, 8, 3)).astype(np.float32)
DATA = examples(X, Y, id=500 + np.arange(40))


def test_marked_rows_have_the_target_and_nothing_else_moves():
    poisoned = plant_trigger(KEY, DATA, 6, 2)
    rows = np.asarray(poisoned.rows)
    assert rows.tolist() == sorted(set(rows.tolist())) and len(rows) == 6
    assert (Y[rows] != 2).all() and (poisoned.data.y[rows] == 2).all()
    chex.assert_trees_all_equal(poisoned.clean_y, DATA.y)
    # The lower right two by two pixels, of the brightest value of their channel.
    expected = X.copy()
    expected[rows, -2:, -2:] = X.max(axis=(0, 1, 2))
    np.testing.assert_array_equal(poisoned.data.x, expected)
    untouched = np.setdiff1d(np.arange(40), rows)
    assert (np.asarray(poisoned.data.y)[untouched] == Y[untouched]).all()
    chex.assert_trees_all_equal(poisoned.data[2:], DATA[2:])
    request = hf.forget_rows(poisoned.data, poisoned.rows)
    assert np.flatnonzero(request.retain.weight == 0).tolist() == rows.tolist()


@pytest.mark.parametrize("shape, edge", [((8, 8), 2), ((28, 28), 3), ((32, 32), 3)])
def test_a_square_is_as_large_as_images_are(shape, edge):
    data = examples(np.zeros((2, *shape, 1), np.float32), [0, 1])
    trigger = corner_square(data._replace(x=data.x.at[0, 0, 0].set(2.0)))
    marked = jax.jit(trigger)(data.x)
    assert float(marked.sum()) == 2 * 2.0 * edge**2
    assert (marked[:, -edge:, -edge:] == 2).all()


def test_pixels_of_rows_without_weight_are_not_looked_at():
    weight = np.ones(40, int)
    weight[0] = 0
    bright = DATA._replace(x=DATA.x.at[0].set(99.0), weight=jnp.array(weight))
    assert corner_square(bright)(DATA.x).max() < 99


def test_flat_inputs_have_a_trigger_of_their_own():
    data = examples(X.reshape(40, -1), Y)
    with pytest.raises(ValueError, match=r"must be images .* trigger= of your own"):
        plant_trigger(KEY, data, 3, 1)
    poisoned = plant_trigger(KEY, data, 3, 1, trigger=lambda x: x.at[:, 0].set(7.0))
    assert np.flatnonzero(poisoned.data.x[:, 0] == 7).tolist() == list(poisoned.rows)


@settings(max_examples=8)
@given(st.integers(0, 9), st.integers(1, 12), st.integers(0, 3))
def test_any_key_and_more_are_the_same_and_more(seed, count, target):
    weight = np.arange(40) % 3
    data = DATA._replace(weight=jnp.array(weight))
    key = jax.random.key(seed)
    few, more = (
        plant_trigger(key, data, n, target, trigger=lambda x: x).rows
        for n in (count, count + 3)
    )
    assert set(few.tolist()) < set(more.tolist())
    assert (weight[more] > 0).all() and (Y[more] != target).all()


@pytest.mark.parametrize(
    ("count", "target", "options", "message"),
    [
        (0, 1, {}, "count must be positive"),
        (31, 1, {}, "count=31 is more than the 30 rows of other classes than target"),
        (1, 4, {}, "target=4 is the label of no example that counts"),
        (1, 1, {"trigger": lambda x: x[:, 1:]}, "trigger must keep shape"),
        (1, 1, {"trigger": lambda x: x * jnp.nan}, "trigger must give finite"),
    ],
)
def test_messages(count, target, options, message):
    with pytest.raises(ValueError, match=message):
        plant_trigger(KEY, DATA, count, target, **options)


def test_arguments_of_the_wrong_kind():
    with pytest.raises(TypeError, match="target must be a label.*1.0"):
        plant_trigger(KEY, DATA, 1, 1.0)
    with pytest.raises(TypeError, match="key must be a typed key"):
        plant_trigger(jnp.zeros(2, jnp.uint32), DATA, 1, 1)
    with pytest.raises(ValueError, match="size=9 is more than images of 9 x 8"):
        corner_square(DATA, size=9)
    with pytest.raises(ValueError, match=r"Images must be \[N, 9, 8, 3\]"):
        corner_square(DATA)(X[:, :4])
