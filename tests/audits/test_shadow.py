"""Shadow models: who was trained with what, forgets what, and goes on from where."""

import shutil

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import hyperforget_jax as hf
from hyperforget_jax import audits, trees
from tests import toys

DATA = toys.points()
RECIPE = dict(optimizer=optax.sgd(0.2), steps=12, batch_size=8, progress=False)
CLASSIFIER = toys.perceptron()


def shadows_of(request, models=2, **changes):
    return audits.train_shadows(
        jax.random.key(0), CLASSIFIER, request, models=models, **RECIPE | changes
    )


ASCENT = hf.ascent(CLASSIFIER, steps=2, batch_size=8)


def unlearned_of(shadows, request, unlearner=ASCENT, **changes):
    return audits.unlearn_shadows(
        jax.random.key(1),
        unlearner,
        shadows,
        request,
        progress=False,
        **changes,
    )


ROWS = hf.forget_rows(DATA, np.arange(0, 20, 2), num_classes=toys.NUM_CLASSES)
CLASS = hf.forget_classes(DATA, [1], num_classes=toys.NUM_CLASSES)


def test_halves_are_complementary_and_padding_is_in_none():
    there = np.array([True] * 9 + [False] * 3)
    included = audits.complementary_halves(jax.random.key(0), there, 40)
    assert included.shape == (80, 12)
    assert not included[:, ~there].any()
    assert np.all(included[::2, there] ^ included[1::2, there])
    assert set(included[::2].sum(axis=1)) == {4}
    # A fair draw: every row is in about half of the firsts (4 of 9, 40 draws).
    assert np.abs(included[::2, there].mean(axis=0) - 4 / 9).max() < 0.3
    assert len({row.tobytes() for row in included}) > 60


@pytest.mark.slow
@pytest.mark.parametrize("halves", [pytest.param(False, marks=pytest.mark.slow), True])
def test_models_depend_on_the_rows_that_they_were_trained_with_alone(halves):
    before = shadows_of(ROWS, halves=halves)
    assert before.included.shape == (2 * (1 + halves), ROWS.rows.size)
    rows = np.asarray(ROWS.rows)[np.asarray(ROWS.forget.weight) > 0]
    included = before.included[:, : rows.size]
    changed = toys.scribble(jax.random.key(9), DATA, jnp.asarray(rows[included[0]]))
    after = shadows_of(ROWS._replace(data=changed), halves=halves)
    chex.assert_trees_all_equal(after.retrained, before.retrained)
    moved = [
        not all(
            np.array_equal(*pair)
            for pair in zip(
                jax.tree.leaves(trees.take(after.original, model)),
                jax.tree.leaves(trees.take(before.original, model)),
                strict=True,
            )
        )
        for model in range(len(included))
    ]
    shared = [bool((row & included[0]).any()) for row in included]
    assert moved == shared


def test_each_model_forgets_its_own_half_from_its_own_data():
    shadows = shadows_of(ROWS, halves=True)
    unlearned = unlearned_of(shadows, ROWS)
    rows = np.asarray(ROWS.rows)
    for model in (0, 3):
        mine = shadows.included[model]
        own = DATA.without(rows[~mine & (np.asarray(ROWS.forget.weight) > 0)])
        key_init, key = jax.random.split(jax.random.fold_in(jax.random.key(1), model))
        state = ASCENT.init(key_init, trees.take(shadows.original, model), own)
        # As many padded rows, since what is drawn depends on their number.
        padded = jnp.where(mine, rows, DATA.y.size)
        request = hf.ForgetRequest(own, padded, ROWS.classes)
        alone = ASCENT.unlearn(key, state, request)[0].variables
        # Float32 sums in another order under vmap.
        chex.assert_trees_all_close(trees.take(unlearned, model), alone, atol=1e-5)


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_to_the_same_bits(tmp_path):
    shadows = shadows_of(CLASS, models=3)
    mask = hf.logit_mask(CLASSIFIER)
    changes = dict(unlearner=mask, chunk_size=2, directory=tmp_path / "models")
    whole = unlearned_of(shadows, CLASS, **changes)
    again = unlearned_of(shadows, CLASS, **changes)
    chex.assert_trees_all_equal(again, whole)
    kept = sorted(path.name for path in (tmp_path / "models").iterdir())
    assert kept == ["chunk-00000", "chunk-00001"]
    shutil.rmtree(tmp_path / "models" / "chunk-00001")
    chex.assert_trees_all_equal(unlearned_of(shadows, CLASS, **changes), whole)
    other = shadows._replace(original=trees.take(shadows.retrained, slice(3)))
    with pytest.raises(ValueError, match="started with given="):
        unlearned_of(other, CLASS, **changes)


@pytest.mark.slow
def test_a_claim_pairs_models_and_a_class_needs_no_pairs():
    shadows = shadows_of(ROWS, halves=True)
    unlearned = unlearned_of(shadows, ROWS)
    claim = audits.shadow_claim(CLASSIFIER, shadows, unlearned, ROWS)
    assert claim.kinds == ("original",) * 2 + ("retrained",) * 4 + ("unlearned",) * 2
    count = claim.labels.size
    for kind, models, first in (
        ("original", shadows.original, 0),
        ("unlearned", unlearned, 6),
    ):
        for pair in range(2):
            for place in range(count):
                own = 2 * pair + (not shadows.included[2 * pair, place])
                x = ROWS.forget.x[place][None]
                alone = CLASSIFIER.apply(trees.take(models, own), x)[0]
                found = claim.logits[first + pair, place]
                np.testing.assert_allclose(found, alone, atol=1e-5, err_msg=kind)
    shadows = shadows_of(CLASS)
    masked = unlearned_of(shadows, CLASS, hf.logit_mask(CLASSIFIER))
    claim = audits.shadow_claim(CLASSIFIER, shadows, masked, CLASS, most=5)
    assert claim.logits.shape == (8, 5, toys.NUM_CLASSES)
    assert set(claim.labels.tolist()) == {1}


def test_models_are_posed_beside_retrained_ones():
    shadows = shadows_of(ROWS, halves=True)
    others = toys.points(seed=4, first_id=90)
    pool, population = audits.pose(
        CLASSIFIER, shadows, shadows.original, ROWS, others.without(jnp.arange(3))
    )
    there = np.asarray(ROWS.forget.weight) > 0
    # First halves, second halves, retrained models.
    order = [0, 2, 1, 3]
    assert np.array_equal(pool.is_(audits.IN)[:4], shadows.included[order][:, there])
    assert not pool.is_(audits.IN)[4:].any()
    assert population.shape == (8, others.y.size - 3)
    x, y = ROWS.forget.x[there], np.asarray(ROWS.forget.y)[there]
    for rows, models, chosen in (
        (slice(4), shadows.original, order),
        (slice(4, 8), shadows.retrained, range(4)),
    ):
        each = (trees.take(models, model) for model in chosen)
        logits = np.stack([CLASSIFIER.apply(own, x) for own in each])
        expected = audits.scaled_confidence(logits, y)
        np.testing.assert_allclose(pool.phi[rows], expected, atol=1e-4)


def test_what_cannot_be_audited_is_refused():
    with pytest.raises(ValueError, match="halves=True takes a request for rows"):
        shadows_of(CLASS, halves=True)
    alone = hf.forget_labels([1], num_classes=toys.NUM_CLASSES)
    with pytest.raises(ValueError, match="all training data at hand"):
        shadows_of(alone)
    with pytest.raises(TypeError, match="models must be"):
        shadows_of(CLASS, models=1.5)
    with (
        pytest.warns(RuntimeWarning, match="not finite"),
        pytest.raises(ArithmeticError, match="not finite: an audit needs a recipe"),
    ):
        shadows_of(CLASS, optimizer=optax.sgd(1e30))
    with pytest.raises(ValueError, match="the same request"):
        unlearned_of(shadows_of(ROWS), CLASS)


def test_folders_are_written_as_they_are_read(tmp_path):
    logits = np.random.default_rng(0).normal(size=(4, 3, 2)).astype(np.float32)
    claim = audits.Claim(
        logits, np.array([0, 1, 1]), ("retrained",) * 2 + ("unlearned",) * 2
    )
    audits.save_folder(tmp_path / "claim", *claim)
    found = audits.load_folder(tmp_path / "claim")
    np.testing.assert_array_equal(found.logits, logits)
    np.testing.assert_array_equal(found.labels, claim.labels)
    assert found.kinds == claim.kinds
