"""What projected-gradient unlearning aims at, beside NumPy on the definitions."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

import hyperforget_jax as hf
from hyperforget_jax.methods.pgu_losses import (
    margin_loss,
    published_loss,
    target_log_probs,
    target_loss,
)
from hyperforget_jax.subspace.store import Margins, margins_of

OUT, SHRINK, TEMPERATURE = -10.0, 0.7, 0.8
HOW = {"forget_margin": OUT, "shrink": SHRINK, "temperature": TEMPERATURE}
ROWS, CLASS = jnp.array(False), jnp.array(True)

# As many as make every one of them a level of the tabulated quantiles, or lie between
# two that are: both sides then interpolate along the same straight lines.
SEEN, UNSEEN = 129, 65


def _margin(logits, y):
    """``log p_y - log(1 - p_y)`` in float64."""
    logits = np.asarray(logits, np.float64)
    is_y = np.arange(logits.shape[1])[None, :] == np.asarray(y)[:, None]
    others = scipy.special.logsumexp(np.where(is_y, -np.inf, logits), axis=1)
    return logits[is_y] - others


def targets_of(logits, y, margins, is_class, *, known=None, weight=None, **how):
    """For rows whose margins are still those that were kept, unless they are given."""
    known = hf.losses.margin(logits, y) if known is None else known
    weight = jnp.ones_like(y) if weight is None else weight
    how = {"keep_spread": False, **how}
    return target_log_probs(logits, y, known, margins, is_class, weight, **how)


def _of(margins):
    """Logits and labels that have these margins."""
    margins = jnp.asarray(margins, jnp.float32)
    zeros = jnp.zeros(margins.shape, jnp.int32)
    return jnp.stack([margins, jnp.zeros_like(margins)], axis=-1), zeros


def _held_out(margins, weight=None):
    logits, y = _of(margins)
    return logits, y, jnp.ones_like(y) if weight is None else jnp.asarray(weight)


def _logits(seed, rows=12, classes=5, scale=3.0):
    rng = np.random.default_rng(seed)
    logits = jnp.asarray(scale * rng.normal(size=(rows, classes)), jnp.float32)
    return logits, jnp.asarray(rng.integers(classes, size=rows), jnp.int32)


def _slope(loss, logits, *how):
    return jax.grad(lambda logits: jnp.sum(loss(logits, *how)))(logits)


def _world(seed=0):
    """Margins of a sure model, and of the same where it is less sure."""
    rng = np.random.default_rng(seed)
    seen = rng.normal(4, 4, SEEN).astype(np.float32)
    unseen = rng.normal(1, 6, UNSEEN).astype(np.float32)
    found = margins_of(*_of(seen), jnp.ones(SEEN, jnp.int32), _held_out(unseen))
    return seen, unseen, found


@pytest.mark.slow
def test_margins_are_quantiles_of_what_counts():
    rng = np.random.default_rng(1)
    seen, unseen = rng.normal(size=50), rng.normal(size=31)
    weight = rng.integers(0, 2, 50)
    # Whatever stands in rows that do not count.
    given = np.where(weight > 0, seen, np.where(np.arange(50) % 2, 1e30, -1e30))
    found = margins_of(*_of(given), jnp.asarray(weight), _held_out(unseen))
    levels = np.linspace(0, 1, found.seen.size)
    assert 0 < weight.sum() < 50
    # Places between two values, in float32.
    np.testing.assert_allclose(
        found.seen, np.quantile(seen[weight > 0], levels), atol=1e-5
    )
    np.testing.assert_allclose(found.unseen, np.quantile(unseen, levels), atol=1e-5)


def test_held_out_rows_count_by_weight_and_their_accuracy_is_kept():
    logits = jnp.array([[2.0, 0.0, 1.0], [0.0, 1.0, 0.5], [9.0, 0.0, 0.0]])
    y, weight = jnp.array([0, 2, 1]), jnp.array([1, 1, 0])
    found = margins_of(logits, y, weight, (logits, y, weight))
    np.testing.assert_array_equal(found.seen, found.unseen)
    # Right by the largest logit, though below one half in the first row's company.
    assert found.accuracy == 0.5
    np.testing.assert_allclose(found.rows, [*_margin(logits, y)[:2], 0], rtol=1e-5)


@pytest.mark.slow
def test_held_out_rows_that_all_weigh_nothing_are_none():
    seen, unseen, _ = _world()
    ones, nothing = jnp.ones(SEEN, jnp.int32), jnp.zeros(UNSEEN, jnp.int32)
    found = margins_of(*_of(seen), ones, _held_out(unseen, nothing))
    none = margins_of(*_of(seen), ones)
    np.testing.assert_array_equal(found.unseen, none.unseen)
    assert found.accuracy == none.accuracy == 0


def test_ranks_are_those_of_old():
    """What earlier requests did to a row's margin does not make it harder."""
    _, _, margins = _world()
    logits, y = _logits(6, rows=40, scale=6.0)
    known = hf.losses.margin(logits, y)
    wanted = _margin(targets_of(logits, y, margins, ROWS, known=known, **HOW), y)
    lower = logits.at[jnp.arange(40), y].add(-1.0)
    moved = _margin(targets_of(lower, y, margins, ROWS, known=known, **HOW), y)
    np.testing.assert_allclose(
        moved, np.minimum(wanted, _margin(lower, y)), rtol=1e-4, atol=1e-4
    )


def test_one_example_is_every_quantile():
    found = margins_of(*_of([3.0, -2.0, 5.0]), jnp.array([0, 1, 0]))
    assert (found.seen == -2).all()


def test_without_held_out_examples_every_label_is_driven_out():
    seen, _, _ = _world()
    margins = margins_of(*_of(seen), jnp.ones(SEEN, jnp.int32))
    assert margins.unseen.shape == margins.seen.shape
    # Below what any shrinking makes a label's own margin.
    assert (margins.unseen < -1e3).all()
    logits, y = _logits(2)
    margin = _margin(logits, y)
    wanted = _margin(targets_of(logits, y, margins, ROWS, **HOW), y)
    assert margin.min() < 0 < margin.max()
    # Of a log-probability of about -10: a few last places.
    np.testing.assert_allclose(wanted, np.minimum(margin, OUT), rtol=1e-5)
    # A class is then no different.
    np.testing.assert_array_equal(
        targets_of(logits, y, margins, CLASS, **HOW),
        targets_of(logits, y, margins, ROWS, **HOW),
    )


@pytest.mark.parametrize("shrink", [1.0, SHRINK, 0.1])
def test_a_row_gets_the_held_out_margin_of_its_rank(shrink):
    seen, unseen, margins = _world()
    logits, y = _logits(3, rows=200, scale=6.0)
    margin = _margin(logits, y)
    rank = np.interp(margin, np.sort(seen.astype(float)), np.linspace(0, 1, SEEN))
    held_out = np.quantile(unseen.astype(float), rank)
    expected = np.minimum(margin, np.maximum(shrink * held_out, OUT))
    # Easy and hard ones, beyond either end and between; every branch is taken.
    assert (rank == 0).any() and (rank == 1).any() and ((0 < rank) & (rank < 1)).any()
    assert (expected == margin).any() and (expected < margin).any()
    if shrink == 1:
        assert (expected == OUT).any()
    targets = targets_of(logits, y, margins, ROWS, **HOW | {"shrink": shrink})
    # Interpolation in float32; where values lie close, their differences matter.
    np.testing.assert_allclose(_margin(targets, y), expected, rtol=1e-4, atol=1e-4)


def test_a_class_is_driven_out_whatever_is_held_out():
    _, _, margins = _world()
    logits, y = _logits(4)
    targets = targets_of(logits, y, margins, CLASS, **HOW)
    np.testing.assert_allclose(
        _margin(targets, y), np.minimum(_margin(logits, y), OUT), rtol=1e-5
    )
    # What is out already is not driven back in.
    further = logits.at[jnp.arange(y.size), y].set(-40.0)
    targets = targets_of(further, y, margins, CLASS, **HOW)
    np.testing.assert_allclose(_margin(targets, y), _margin(further, y), rtol=1e-5)


@pytest.mark.parametrize("is_class", [ROWS, CLASS])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_other_labels_share_what_is_left_as_the_model_has_them(temperature, is_class):
    _, _, margins = _world()
    logits, y = _logits(5)
    how = HOW | {"temperature": temperature}
    targets = np.asarray(targets_of(logits, y, margins, is_class, **how), np.float64)
    # Sums of a few float32 numbers.
    np.testing.assert_allclose(np.exp(targets).sum(axis=1), 1, atol=1e-6)
    is_y = np.arange(5)[None, :] == np.asarray(y)[:, None]
    others = np.where(is_y, -np.inf, np.asarray(logits, np.float64) / temperature)
    expected = scipy.special.log_softmax(others, axis=1)
    found = scipy.special.log_softmax(np.where(is_y, -np.inf, targets), axis=1)
    np.testing.assert_allclose(found[~is_y], expected[~is_y], atol=1e-5)


@pytest.mark.parametrize("is_class", [ROWS, CLASS])
@pytest.mark.parametrize("held_out", [True, False])
def test_extreme_logits_have_finite_targets_and_losses(held_out, is_class):
    _, _, margins = _world()
    if not held_out:
        margins = margins._replace(unseen=jnp.full_like(margins.unseen, -1e4))
    y = jnp.array([0, 0, 0, 1, 2], jnp.int32)
    logits = 1e4 * jnp.array(
        [[1, -1, -1, -1], [-1, 1, -1, -1], [1, 1, 1, 1], [1, -1, 1, 1], [0, 0, 1, -1]],
        jnp.float32,
    )
    targets = targets_of(logits, y, margins, is_class, **HOW)
    assert jnp.isfinite(targets).all()
    np.testing.assert_allclose(jnp.exp(targets).sum(axis=1), 1, atol=1e-6)
    for loss, how in (
        (target_loss, (targets,)),
        (margin_loss, (y, targets)),
        (published_loss, (y, 0.05, 0.2)),
    ):
        assert jnp.isfinite(loss(logits, *how)).all()
        assert jnp.isfinite(_slope(loss, logits, *how)).all()


def test_divergence_equals_scipy():
    logits, y = _logits(6)
    other, _ = _logits(7)
    targets = jax.nn.log_softmax(other)
    p = scipy.special.softmax(np.asarray(other, np.float64), axis=1)
    q = scipy.special.softmax(np.asarray(logits, np.float64), axis=1)
    np.testing.assert_allclose(
        target_loss(logits, targets),
        scipy.special.rel_entr(p, q).sum(axis=1),
        rtol=1e-5,
        atol=1e-6,
    )
    # Logits are known up to a constant.
    shifted = target_loss(logits + 3, targets)
    np.testing.assert_allclose(shifted, target_loss(logits, targets), atol=1e-5)


def test_divergence_and_its_gradient_vanish_at_the_target():
    _, _, margins = _world()
    logits, y = _logits(8)
    for is_class in (ROWS, CLASS):
        targets = targets_of(logits, y, margins, is_class, **HOW)
        # Probabilities that sum to one but for rounding.
        np.testing.assert_allclose(target_loss(targets, targets), 0, atol=1e-6)
        slope = _slope(target_loss, targets, targets)
        np.testing.assert_allclose(slope, 0, atol=1e-6)
        away = target_loss(logits, targets)
        assert (away > -1e-6).all() and away.max() > 0.1


def test_rows_that_are_driven_out_keep_their_distances():
    seen, _, held_out = _world()
    margins = margins_of(*_of(seen), jnp.ones(SEEN, jnp.int32))
    logits, y = _logits(3, rows=9)
    weight = jnp.array([1, 1, 0, 1, 2, 1, 1, 1, 1])
    margin, how = _margin(logits, y), {"weight": weight, **HOW, "keep_spread": True}
    wanted = _margin(targets_of(logits, y, margins, ROWS, **how), y)
    expected = OUT + margin - np.average(margin, weights=weight)
    np.testing.assert_allclose(wanted, np.minimum(margin, expected), rtol=1e-5)
    assert np.average(wanted, weights=weight) == pytest.approx(OUT, rel=1e-5)
    # A masked label, or an impossible one, is no reason to spare the others.
    for far in (-1e4, -jnp.inf, jnp.inf):
        known = jnp.asarray(margin, jnp.float32).at[0].set(far)
        given = targets_of(logits, y, margins, ROWS, known=known, **how)
        expected = OUT + margin - np.average(margin[1:], weights=weight[1:])
        expected[0] = OUT
        np.testing.assert_allclose(
            _margin(given, y), np.minimum(margin, expected), rtol=1e-5
        )
    # Where a class goes, or held-out examples say what becomes of rows, it is nothing.
    for given, is_class in ((margins, CLASS), (held_out, ROWS), (held_out, CLASS)):
        np.testing.assert_array_equal(
            targets_of(logits, y, given, is_class, **how),
            targets_of(logits, y, given, is_class, **how | {"keep_spread": False}),
        )


def test_the_loss_of_margins_equals_scipy():
    logits, y = _logits(6, scale=1.5)
    other, _ = _logits(7, scale=1.5)
    gap = _margin(logits, y) - _margin(other, y)
    assert np.abs(gap).min() < 1 < np.abs(gap).max()
    is_y = np.arange(5)[None, :] == np.asarray(y)[:, None]
    p, q = (
        scipy.special.softmax(np.where(is_y, -np.inf, np.asarray(each, float)), axis=1)
        for each in (other, logits)
    )
    expected = scipy.special.huber(1, gap) + scipy.special.rel_entr(p, q).sum(axis=1)
    targets = jax.nn.log_softmax(other)
    np.testing.assert_allclose(margin_loss(logits, y, targets), expected, rtol=2e-5)
    for found in (
        margin_loss(targets, y, targets),
        _slope(margin_loss, targets, y, targets),
    ):
        np.testing.assert_allclose(found, 0, atol=2e-6)


def test_margins_count_where_the_divergence_is_blind():
    """From one in four hundred to one in twenty thousand is a long way yet."""
    logits, y = jnp.array([[-6.0, 0.0]]), jnp.array([0])
    targets = jax.nn.log_softmax(jnp.array([[-10.0, 0.0]]))
    assert abs(_slope(target_loss, logits, targets)[0, 0]) < 3e-3
    assert _slope(margin_loss, logits, y, targets)[0, 0] == pytest.approx(1)


def _published(logits, y, offset, entropy):
    """The definition, in float64, but that ``1 - p_y`` is summed without cancelling."""
    p = scipy.special.softmax(np.asarray(logits, np.float64), axis=1)
    is_y = np.arange(p.shape[1])[None, :] == np.asarray(y)[:, None]
    against = np.where(is_y, 0, p).sum(axis=1)
    return -np.log(offset + against) - entropy * scipy.special.entr(p).sum(axis=1)


@pytest.mark.parametrize("entropy", [0.0, 0.2, -0.5])
@pytest.mark.parametrize("offset", [0.05, 0.5, 0.0])
def test_the_published_loss_is_its_definition(offset, entropy):
    logits, y = _logits(9, rows=30)
    # Up to p_y = 1 - 1e-12, and down to 1e-12.
    sure = jnp.array([5.0, 12.0, 27.6, -12.0, -27.6])
    logits = logits.at[jnp.arange(5), y[:5]].set(sure)
    found = published_loss(logits, y, offset, entropy)
    expected = _published(logits, y, offset, entropy)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_without_offset_and_entropy_it_is_the_unlikelihood():
    logits, y = _logits(10, rows=40, scale=6.0)
    found = published_loss(logits, y, 0.0, 0.0)
    # Where the label is out already, what is near one is kept, and not what is left.
    np.testing.assert_allclose(
        found, hf.losses.unlikelihood(logits, y), rtol=1e-5, atol=1e-6
    )
    # Whose gradient on the label's logit is its probability.
    slope = _slope(published_loss, logits, y, 0.0, 0.0)
    p = scipy.special.softmax(np.asarray(logits, np.float64), axis=1)
    rows = np.arange(y.size)
    np.testing.assert_allclose(slope[rows, y], p[rows, y], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("offset", [0.0, 0.05])
def test_its_gradient_where_the_label_is_all_but_sure(offset):
    """``p_y = 1 - 1e-12``, which is one in float32."""
    sure = np.log(1e12)
    logits = jnp.array([[sure, 0.0, -20.0], [0.0, 0.0, sure]], jnp.float32)
    y = jnp.array([0, 2], jnp.int32)
    slope = _slope(published_loss, logits, y, offset, 0.2)
    assert jnp.isfinite(slope).all()
    own = np.asarray(slope)[[0, 1], [0, 2]]
    if offset:
        # The offset takes it away.
        assert (np.abs(own) < 1e-9).all()
    else:
        # The entropy's part is next to nothing.
        np.testing.assert_allclose(own, 1, rtol=1e-5)


def test_margins_are_a_pytree_that_jit_and_vmap_take():
    _, _, margins = _world()
    logits, y = _logits(11)
    together = Margins(*(jnp.stack([leaf, leaf - 1]) for leaf in margins))
    each = jax.jit(jax.vmap(lambda m: targets_of(logits, y, m, ROWS, **HOW)))(together)
    # The same numbers from another compilation.
    np.testing.assert_allclose(
        each[0], targets_of(logits, y, margins, ROWS, **HOW), rtol=1e-5, atol=1e-5
    )


def test_without_offset_it_is_finite_where_the_label_is_surer_still():
    logits, y = jnp.array([[110.0, 0.0, 0.0]]), jnp.array([0], jnp.int32)
    found = published_loss(logits, y, 0.0, 0.0)
    np.testing.assert_allclose(found, hf.losses.unlikelihood(logits, y), rtol=1e-5)
    assert jnp.isfinite(_slope(published_loss, logits, y, 0.0, 0.0)).all()


def test_elsewhere_is_sure_of_another_label():
    """The published loss for wrong labels, in float64 from its definition."""
    logits, y = _logits(12)
    found = published_loss(logits, y, 0.1, -0.2, others=True)
    z = np.asarray(logits, np.float64)
    is_y = np.arange(z.shape[1])[None, :] == np.asarray(y)[:, None]
    p = scipy.special.softmax(z, axis=1)[is_y]
    others = scipy.special.softmax(np.where(is_y, -np.inf, z), axis=1)
    entropy = scipy.special.entr(others).sum(axis=1)
    np.testing.assert_allclose(
        found, -np.log(1.1 - p) + 0.2 * entropy, rtol=1e-5, atol=1e-6
    )
    slope = _slope(lambda z, y: published_loss(z, y, 0.1, -0.2, others=True), logits, y)
    assert jnp.isfinite(slope).all()


def test_targets_and_losses_where_logits_are_infinite():
    """Limits by hand; a class at minus infinity is as good as absent."""
    inf = np.inf
    _, _, margins = _world()
    logits = jnp.array([[0.0, -inf, -inf], [0.0, -inf, 1.0], [-inf, 0.0, 1.0]])
    y = jnp.zeros(3, jnp.int32)
    absent = jnp.isneginf(logits)
    found = targets_of(logits, y, margins, CLASS, **HOW)
    # The label is driven out: alone, it leaves its share to all others alike.
    np.testing.assert_allclose(jnp.sum(jnp.exp(found), axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(found[0, 1:], np.log(0.5), atol=1e-4)
    np.testing.assert_array_equal(jnp.isneginf(found)[1:], absent[1:])
    np.testing.assert_allclose(target_loss(found[1:], found[1:]), 0, atol=1e-6)
    # What is not wanted costs nothing where it is not there; what is, everything.
    assert jnp.isinf(target_loss(logits[:1], found[:1])).all()
    finite = jnp.where(absent, -1e4, logits)
    for loss in (
        lambda logits: published_loss(logits, y, 0.05, 0.2),
        lambda logits: published_loss(logits, y, 0.05, 0.2, others=True)[1:],
        lambda logits: target_loss(logits[1:], found[1:]),
        # Which others there are, of the first row, is not known to finite logits.
        lambda logits: margin_loss(logits[1:], y[1:], found[1:]),
    ):
        np.testing.assert_allclose(loss(logits), loss(finite), rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(
            _slope(loss, logits), _slope(loss, finite), atol=1e-6
        )
    assert np.isfinite(margin_loss(logits, y, found)).all()
    assert np.isfinite(_slope(margin_loss, logits, y, found)).all()
    # Where there are no others, neither is their entropy: the offset is left.
    alone = functools.partial(published_loss, others=True)
    np.testing.assert_allclose(alone(logits, y, 0.05, 0.2)[0], -np.log(0.05), rtol=1e-6)
    assert np.isfinite(_slope(alone, logits, y, 0.05, 0.2)).all()


@pytest.mark.slow
def test_quantiles_of_infinite_margins():
    """They are above or below all others, and what lies between stays finite."""
    inf = np.inf
    logits = jnp.array([[0.0, -inf], [inf, 0.0], [-inf, 0.0], [1.0, 0.0], [2.0, 0.0]])
    found = margins_of(logits, jnp.zeros(5, jnp.int32), jnp.ones(5, jnp.int32))
    assert np.isfinite(found.seen).all() and (np.diff(found.seen) >= 0).all()
    middle = found.seen[512]
    assert middle == 2
