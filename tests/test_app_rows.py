"""The rows behind ``hyperforget app``: samples say what all rows would."""

import types

import numpy as np
import pytest

import hyperforget_jax as hf
from hyperforget_jax.app import rows

SIZE, SAMPLE, SHARES = 6_000, 2_000, np.array([0.4, 0.3, 0.2, 0.1])


def made_up(seed):
    """Examples whose inputs are logits, right in three cases of four."""
    rng = np.random.default_rng(seed)
    y = rng.choice(4, SIZE, p=SHARES)
    logits = rng.normal(size=(SIZE, 4)) + 2 * np.eye(4)[y]
    return hf.data.examples(
        logits.astype(np.float32), y, id=seed * SIZE + np.arange(SIZE)
    )


def accuracies(examples, classes):
    """Accuracies of both halves, with the rows that they are shares of."""
    x, y = np.asarray(examples.x), np.asarray(examples.y)
    is_forgotten = np.isin(y, classes)
    halves = [(x.argmax(1) == y)[half] for half in (is_forgotten, ~is_forgotten)]
    return [(float(right.mean()), right.size) for right in halves]


@pytest.mark.parametrize("seed", [0, 1])
def test_scores_of_a_sample_are_those_of_all_rows(seed):
    whole = made_up(seed)
    some = rows.sample(whole, SAMPLE, seed=1)
    share = np.bincount(some.y) - np.bincount(whole.y) * SAMPLE / SIZE
    assert np.abs(share).max() <= 1 and some.y.shape == (SAMPLE,)
    taken = np.isin(whole.id, some.id)
    np.testing.assert_array_equal(some.x, np.asarray(whole.x)[taken])
    for classes in ((3,), (0, 2)):
        pairs = zip(accuracies(some, classes), accuracies(whole, classes), strict=True)
        for (own, count), (share, _) in pairs:
            # Four standard errors of a share of as many rows.
            error = 4 * float(np.sqrt(share * (1 - share) / count))
            assert 0.02 < error < 0.15
            assert own == pytest.approx(share, abs=error)


def test_rows_are_of_those_that_were_trained_on():
    splits = hf.data.Splits(made_up(0), made_up(2), made_up(1))
    seen = splits.train.id[::2]
    chosen = rows.choose(types.SimpleNamespace(train_ids=seen), splits)
    np.testing.assert_array_equal(chosen.train.id, seen)
    given, scored = (set(np.asarray(each.id)) for each in chosen[1:3])
    assert given < set(np.asarray(seen)) and scored < set(np.asarray(seen))
    assert (len(given), len(scored)) == (1_000, SAMPLE) and not given & scored
    # Too few for both: drawn apart, by chance 800 of 2,500 are in both.
    seen = splits.train.id[:2_500]
    chosen = rows.choose(types.SimpleNamespace(train_ids=seen), splits)
    given, scored = (set(np.asarray(each.id)) for each in chosen[1:3])
    assert (len(given), len(scored)) == (1_000, SAMPLE)
    assert 700 < len(given & scored) < 900
    chosen = rows.choose(types.SimpleNamespace(train_ids=None), splits)
    given, scored = (set(np.asarray(each.id)) for each in chosen[1:3])
    assert (len(given), len(scored)) == (1_000, SAMPLE) and not given & scored
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
