"""Several models as one: their probabilities are averaged."""

import jax
import numpy as np
from scipy.special import softmax

import hyperforget_jax as hf
from tests import toys


def test_it_predicts_the_mean_of_its_members_probabilities():
    data, classifier = toys.points(), toys.normalised()
    together = hf.models.ensemble(classifier, 3)
    variables = jax.jit(together.init)(jax.random.key(0), data.x)
    logits = [
        classifier.apply(jax.tree.map(lambda leaf, at=n: leaf[at], variables), data.x)
        for n in range(3)
    ]
    expected = np.mean([softmax(np.asarray(z, float), axis=1) for z in logits], axis=0)
    found = softmax(np.asarray(together.apply(variables, data.x), float), axis=1)
    # Single precision of three terms.
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert hf.models.ensemble(toys.normalised(), 3) is together


def test_in_training_mode_each_member_keeps_its_own_statistics():
    data, classifier = toys.points(), toys.normalised()
    together = hf.models.ensemble(classifier, 2)
    variables = jax.jit(together.init)(jax.random.key(0), data.x)
    logits, updated = together.apply_train(jax.random.key(1), variables, data.x)
    assert logits.shape == (40, toys.NUM_CLASSES)
    for n in range(2):
        one = jax.tree.map(lambda leaf, at=n: leaf[at], variables)
        _, alone = classifier.apply_train(jax.random.key(1), one, data.x)
        mean = updated["batch_stats"]["BatchNorm_0"]["mean"][n]
        np.testing.assert_allclose(
            mean, alone["batch_stats"]["BatchNorm_0"]["mean"], rtol=1e-5, atol=1e-6
        )
