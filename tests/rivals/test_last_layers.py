"""CF-k and EU-k: which layers, steps by hand, and what does not move by a bit."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import hyperforget_jax as hf
from hyperforget_jax.rivals.last_layers import in_last_layers
from tests import toys
from tests.rivals import by_hand

KEY = jax.random.key(2)


def test_cf_k_moves_the_head_alone_even_under_momentum_and_weight_decay():
    data, classifier, variables, request, x, y, gone = by_hand.world()
    unlearner = hf.rivals.cf_k(
        classifier,
        optimizer=optax.chain(
            optax.add_decayed_weights(0.3), optax.sgd(0.1, momentum=0.9)
        ),
        steps=2,
        batch_size=60,
    )
    found = by_hand.world().unlearn(unlearner, KEY)
    params = by_hand.double(variables)
    trace = by_hand.combine(np.zeros_like, params)
    for _ in range(2):
        gradients = by_hand.cross_entropy(params, x[~gone], y[~gone])
        trace = by_hand.combine(
            lambda m, g, at: 0.9 * m + g + 0.3 * at, trace, gradients, params
        )
        trace[by_hand.HIDDEN] = {"kernel": 0.0, "bias": 0.0}
        params = by_hand.step(params, trace, 0.1)
    by_hand.assert_close(found, params)
    chex.assert_trees_all_equal(
        found["params"][by_hand.HIDDEN], variables["params"][by_hand.HIDDEN]
    )


@pytest.mark.slow
def test_eu_k_starts_its_layers_anew():
    data, classifier, variables, request, x, y, gone = by_hand.world()
    unlearner = hf.rivals.eu_k(
        classifier, optimizer=optax.sgd(0.1), steps=1, batch_size=60
    )
    found = by_hand.world().unlearn(unlearner, KEY)
    params = by_hand.double(variables)
    fresh = classifier.init(jax.random.split(KEY)[0], data.x)
    params[by_hand.HEAD] = by_hand.double(fresh)[by_hand.HEAD]
    gradients = by_hand.cross_entropy(params, x[~gone], y[~gone])
    params[by_hand.HEAD] = by_hand.step(params, gradients, 0.1)[by_hand.HEAD]
    by_hand.assert_close(found, params)
    chex.assert_trees_all_equal(
        found["params"][by_hand.HIDDEN], variables["params"][by_hand.HIDDEN]
    )


def test_layers_are_counted_from_the_logits_and_normalisation_is_none():
    classifier, x = toys.normalised(), jnp.zeros((1, 6))
    variables = jax.eval_shape(classifier.init, jax.random.key(0), x)

    def marked(k):
        mask = hf.trees.by_path(in_last_layers(classifier, variables, x, k))
        return {path.partition("/")[0] for path, chosen in mask.items() if chosen}

    assert marked(1) == {"Dense_1"}
    assert marked(2) == {"Dense_0", "Dense_1"}
    with pytest.raises(ValueError, match="k must be at most .* 2, got k=3"):
        marked(3)


def test_a_model_without_taps_is_refused():
    world = by_hand.world()
    classifier = world.classifier._replace(taps=None)
    with pytest.raises(ValueError, match="has no taps"):
        in_last_layers(classifier, world.variables, world.data.x, 1)


@pytest.mark.parametrize("k", [0, 1.5])
def test_what_is_no_number_of_layers_is_refused(k):
    classifier = by_hand.world().classifier
    with pytest.raises((TypeError, ValueError), match="k must be"):
        hf.rivals.cf_k(classifier, k=k)
    with pytest.raises((TypeError, ValueError), match="k must be"):
        hf.rivals.eu_k(classifier, optimizer=optax.sgd(0.1), steps=1, k=k)
