"""The rows behind ``hyperforget app``: samples say what all rows would."""

import types

import jax
import numpy as np
import pytest

import hyperforget_jax as hf
from hyperforget_jax.app import rows

SIZE, SAMPLE, SHARES = 8_000, 2_000, np.array([0.4, 0.3, 0.2, 0.1])


def made_up(seed):
    """Examples whose inputs are logits, right in three cases of four."""
    rng = np.random.default_rng(seed)
    y = rng.choice(4, SIZE, p=SHARES)
    logits = rng.normal(size=(SIZE, 4)) + 2 * np.eye(4)[y]
    return hf.data.examples(
        logits.astype(np.float32), y, id=seed * SIZE + np.arange(SIZE)
    )


@jax.jit
def scores(request, test):
    data = hf.metrics.evaluation_data(request, test)
    return hf.metrics.score_logits(hf.metrics.Logits(data.train.x, test.x), data)


def test_scores_of_samples_are_those_of_all_rows():
    train, test = made_up(0), made_up(1)
    some = [rows.sample(each, SAMPLE, seed=1) for each in (train, test)]
    for each, whole in zip(some, (train, test), strict=True):
        share = np.bincount(each.y) - np.bincount(whole.y) * SAMPLE / SIZE
        assert np.abs(share).max() <= 1 and each.y.shape == (SAMPLE,)
        np.testing.assert_array_equal(each.x, whole.x[np.isin(whole.id, each.id)])
    for classes in ((3,), (0, 2)):
        whole = scores(rows.request(train, classes, 4), test)
        found = scores(rows.request(some[0], classes, 4), some[1])
        for half in ("forget_train", "retain_train", "forget_test", "retain_test"):
            own, all_rows = getattr(found, half), getattr(whole, half)
            share = float(all_rows.accuracy)
            # Four standard errors of a share of as many rows.
            error = 4 * np.sqrt(share * (1 - share) / float(own.weight))
            assert 0.02 < error < 0.15
            assert float(own.accuracy) == pytest.approx(share, abs=error)
        # The standard error of an AUC where members cannot be told, four times.
        counts = (
            float(getattr(found, half).weight)
            for half in ("forget_train", "forget_test")
        )
        error = 4 * np.sqrt(sum(1 / count for count in counts) / 12)
        assert float(found.auc) == pytest.approx(float(whole.auc), abs=error)


def test_rows_are_of_those_that_were_trained_on():
    splits = hf.data.Splits(made_up(0), made_up(2), made_up(1))
    seen = splits.train.id[::2]
    chosen = rows.choose(types.SimpleNamespace(train_ids=seen), splits)
    np.testing.assert_array_equal(chosen.train.id, seen)
    given, scored = (set(np.asarray(each.id)) for each in chosen[1:3])
    assert given < set(np.asarray(seen)) and scored < set(np.asarray(seen))
    # Drawn apart: half of the 4,000 would be in both by chance.
    assert len(given) == len(scored) == SAMPLE and 800 < len(given & scored) < 1_200
    small = splits._replace(train=splits.train.take(np.arange(SAMPLE)))
    whole = rows.choose(types.SimpleNamespace(train_ids=None), small)
    assert whole.given is whole.scored is small.train


def test_requests_have_one_shape():
    train = made_up(0)
    asked = [rows.request(train, classes, 4) for classes in ((), (1,), (0, 1, 3))]
    assert {each.rows.shape for each in asked} == {(SIZE,)}
    assert [int(each.forget.weight.sum()) for each in asked] == [
        0,
        *(int(np.isin(train.y, each).sum()) for each in ((1,), (0, 1, 3))),
    ]
