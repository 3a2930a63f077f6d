"""Every method, once: the conformance and guarantee tests run down this table."""

import jax
import jax.numpy as jnp
import optax

import hyperforget_jax as hf
from hyperforget_jax import hypernet
from tests import toys


def _hypernetwork(classifier, **changes):
    """One whose weights are noise: it changes models, and that is all."""
    recipe = hypernet.Recipe(width=8, heads=2, depth=1, chunk_size=20, **changes)
    built = hypernet.build(classifier, toys.points().x, recipe)
    learnt = hypernet.untrained(built)
    leaves, structure = jax.tree.flatten(learnt.weights)
    keys = jax.random.split(jax.random.key(3), len(leaves))
    noisy = [
        leaf + 0.1 * jax.random.normal(key, leaf.shape)
        for key, leaf in zip(keys, leaves, strict=True)
    ]
    eye = jnp.eye(toys.NUM_CLASSES)
    profiles = hypernet.Profiles(
        eye > 0, 0.1 + 5 * eye, 6 * jnp.ones(4), jnp.array([0, 1e9])
    )
    learnt = learnt._replace(weights=structure.unflatten(noisy), profiles=profiles)
    return built._replace(learnt=learnt)


PROBE = toys.points(seed=8, first_id=100)

# They read and move what the method does that they are variants of.
VARIANTS = (
    "ascent_plain",
    "fiun_published",
    "fiun_folded",
    "pgu_published",
    "ssd_batch",
)

METHODS = {
    "identity": hf.identity,
    "logit_mask": hf.logit_mask,
    # Not Adam: the bias ahead of BatchNorm has a zero gradient, whose rounding errors
    # Adam would blow up to full steps.
    "retrain": lambda c: hf.retrain(c, optax.sgd(0.05), 6, batch_size=16),
    "finetune": lambda c: hf.finetune(c, steps=5, batch_size=16),
    "ascent": lambda c: hf.ascent(c, steps=4, batch_size=8),
    "ascent_plain": lambda c: hf.ascent(
        c, objective="cross_entropy", steps=4, batch_size=8
    ),
    "neggrad_plus": lambda c: hf.neggrad_plus(c, steps=4, batch_size=8),
    "fiun": lambda c: hf.fiun(c, alpha=0.2, batch_size=16),
    "fiun_published": lambda c: hf.fiun(c, "published", batch_size=16),
    "fiun_folded": lambda c: hf.fiun(c, "folded", batch_size=16),
    # Steps small enough that rounding does not decide where forty rows end up.
    "pgu": lambda c, probe=PROBE: hf.pgu(
        c, probe=probe, learning_rate=1.0, rounds=2, round_steps=2
    ),
    "pgu_published": lambda c: hf.pgu(c, "published", rounds=3, batch_size=16),
    "dihyfo": lambda c: hf.dihyfo(c, _hypernetwork(c)),
    "ssd": lambda c: hf.ssd(c, alpha=1.5, batch_size=16),
    "ssd_batch": lambda c: hf.ssd(
        c, alpha=1.5, batch_size=16, estimator="batch_gradient"
    ),
}
