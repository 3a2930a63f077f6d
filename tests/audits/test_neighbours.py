"""Outputs told apart without the forgotten class: half for equals, one for others."""

import numpy as np
import pytest

from hyperforget_jax.audits import neighbour_auc

CLASSES = np.arange(5) == 3


def population(draw, models, base, towards=0.0):
    """Models that differ from each other as a whole, and on every example."""
    own = draw.normal(size=(models, 1, 5)) + draw.normal(size=(models, *base.shape)) / 2
    return base + own + towards * np.eye(5)[1]


@pytest.mark.slow
def test_equal_populations_are_not_told_apart():
    found = []
    for seed in range(30):
        draw = np.random.default_rng(seed)
        base = 3 * draw.normal(size=(12, 5))
        sides = population(draw, 4, base), population(draw, 6, base)
        found.append(neighbour_auc(*sides, CLASSES).mean())
    # Four standard errors. In-sample, or pooled over groups, they are off by more.
    assert abs(np.mean(found) - 0.5) < 4 * np.std(found) / np.sqrt(30)
    assert np.std(found) / np.sqrt(30) < 0.06


def test_populations_that_lean_to_a_neighbour_are():
    draw = np.random.default_rng(0)
    base = 3 * draw.normal(size=(12, 5))
    unlearned, retrained = population(draw, 6, base, 8.0), population(draw, 5, base)
    found = neighbour_auc(unlearned, retrained, CLASSES)
    assert found.shape == (6,) and found.min() > 0.99
    # What the forgotten class itself is given is not looked at, nor is a common shift.
    masked = unlearned + draw.normal(size=(6, 12, 1))
    masked[..., 3] = -1e4
    np.testing.assert_allclose(neighbour_auc(masked, retrained, CLASSES), found)


def test_what_cannot_be_told_is_refused():
    logits = np.zeros((4, 3, 5))
    spoilt = logits.copy()
    spoilt[2, 0, 0] = np.inf
    for given, message in (
        ((logits[:1], logits, CLASSES), "unlearned must be .* at least two models"),
        ((logits, logits, CLASSES[:4]), r"shapes \(4, 3, 5\) and \(4,\)"),
        ((logits, logits[:, :2], CLASSES), "got 3 unlearned and 2 retrained ones"),
        ((logits, logits, np.arange(5) > 0), "got 1 of 5 that are not forgotten"),
        ((logits, spoilt, CLASSES), r"retrained must be finite, .* models \[2\]"),
    ):
        with pytest.raises(ValueError, match=message):
            neighbour_auc(*given)
