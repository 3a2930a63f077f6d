"""Every method, once: the conformance and guarantee tests run down this table."""

import dataclasses

import jax
import jax.numpy as jnp
import optax

import hyperforget_jax as hf
from hyperforget_jax import fisher, hypernet, inheritance, trees
from tests import toys


def _hypernetwork(classifier, **changes):
    """One whose weights are noise: it changes models, and that is all."""
    config = hypernet.HypernetConfig(
        width=8, heads=2, depth=1, chunk_size=20, **changes
    )
    built = hypernet.build(classifier, toys.points().x, config)
    params = built.init(jax.random.key(0))
    leaves, structure = jax.tree.flatten(params.weights)
    keys = jax.random.split(jax.random.key(3), len(leaves))
    noisy = [
        leaf + 0.1 * jax.random.normal(key, leaf.shape)
        for key, leaf in zip(keys, leaves, strict=True)
    ]
    eye = jnp.eye(toys.NUM_CLASSES)
    profiles = hypernet.Profiles(
        eye > 0, 0.1 + 5 * eye, 6 * jnp.ones(4), jnp.array([0, 1e9])
    )
    weights = structure.unflatten(noisy)
    return built, params._replace(weights=weights, profiles=profiles)


PROBE = toys.points(seed=8, first_id=100)

# They read and move what the method does that they are variants of.
VARIANTS = (
    "ascent_plain",
    "dihyfo_protected",
    "fiun_published",
    "fiun_head_reassign",
    "graph_head_reassign",
    "graph_published",
    "pgu_margins",
    "pgu_published",
    "scrub_rewind",
    "ssd_batch",
)

# What they share with others is shown by these: retrain runs the same loop, fiun reads
# the same Fisher and follows the same rule. Their own rows are for .ci/run.
SHOWN_BY_OTHERS = (
    *VARIANTS,
    *("ascent", "finetune", "graph_fiun", "identity", "neggrad_plus", "ssd"),
)

FIUN = fisher.FIUnConfig(alpha=0.2, batch_size=16)
PUBLISHED = dataclasses.replace(fisher.FIUnConfig.published(), batch_size=16)
HEAD_REASSIGN = dataclasses.replace(fisher.FIUnConfig.head_reassign(), batch_size=16)


# Methods of hf.rivals: their rows are for .ci/run, since each of them compiles for long
# and shares loop, memory and checks with those above.
RIVALS = {
    "assd": lambda c: hf.rivals.assd(c, batch_size=16),
    # Adam divides gradients that are rounding errors by themselves.
    "bad_teaching": lambda c: hf.rivals.bad_teaching(c, steps=4, batch_size=16),
    "boundary_expand": lambda c: hf.rivals.boundary_expand(
        c, optimizer=optax.sgd(0.1), steps=4, batch_size=8
    ),
    "boundary_shrink": lambda c: hf.rivals.boundary_shrink(c, steps=4, batch_size=8),
    "cf_k": lambda c: hf.rivals.cf_k(c, steps=4, batch_size=16),
    "ct": lambda c: hf.rivals.ct(c, steps=4, batch_size=8),
    "damp": lambda c: hf.rivals.damp(c, batch_size=16),
    "eu_k": lambda c: hf.rivals.eu_k(
        c, optimizer=optax.sgd(0.05), steps=4, batch_size=16
    ),
    "fcs": lambda c: hf.rivals.fcs(
        c, rounds=2, first_steps=2, forget_steps=2, retain_steps=2, batch_size=8
    ),
    "fisher_noise": lambda c: hf.rivals.fisher_noise(c, batch_size=16),
    "influence": lambda c: hf.rivals.influence(c, iterations=8, batch_size=16),
    "jit_lipschitz": lambda c: hf.rivals.jit_lipschitz(
        c, draws=2, steps=4, batch_size=8
    ),
    "kfade": lambda c: hf.rivals.kfade(c, damping=1.0, steps=2, batch_size=16),
    "l1_sparse": lambda c: hf.rivals.l1_sparse(c, steps=4, batch_size=16),
    "lfssd": lambda c: hf.rivals.lfssd(c, alpha=1.5, batch_size=16),
    "msg": lambda c: hf.rivals.msg(c, steps=4, batch_size=8),
    "random_labels": lambda c: hf.rivals.random_labels(c, steps=4, batch_size=8),
    "regun": lambda c: hf.rivals.regun(c, probe=PROBE, steps=4, batch_size=8),
    "rewind": lambda c: hf.rivals.rewind(c, steps=3, batch_size=16),
    "salun": lambda c: hf.rivals.salun(c, steps=4, batch_size=8),
    "scrub": lambda c: hf.rivals.scrub(c, epochs=2, max_epochs=1, batch_size=16),
    "svd_forgetting": lambda c: hf.rivals.svd_forgetting(c, batch_size=16),
    "unsir": lambda c: hf.rivals.unsir(
        c, noise_steps=3, impair_steps=2, repair_steps=2, batch_size=16
    ),
}
SHOWN_BY_OTHERS += tuple(RIVALS)

# Made of the parts that the others are made of: one network, one mapping, one mixture
# of precisions shows what is theirs alone.
MADE_OF_PARTS = (*VARIANTS, *RIVALS)


def _graph(classifier, config):
    """FIUn on three models, of whom the first is asked and the second inherits.

    The answer to a request is that of an unlearner of one model, so that one table
    holds both.
    """
    names, every = ("root", "child", "apart"), tuple(range(toys.NUM_CLASSES))
    graph = inheritance.Graph(
        [inheritance.Node(name, time, every) for time, name in enumerate(names)],
        [inheritance.Edge("root", "child")],
    )
    unlearner = inheritance.fiun(graph, classifier, config)
    # All rows stand behind the root, and some behind the others; padding is 40.
    rows = jnp.stack([jnp.arange(40), *(jnp.arange(40) + by for by in (10, 30))])

    def init(key, variables, data):
        def stack(leaf):
            return jnp.stack([leaf, 1.05 * leaf, 0.95 * leaf]).astype(leaf.dtype)

        stacked = {"default": jax.tree.map(stack, variables)}
        given = inheritance.NetworkData(data, jnp.minimum(rows, 40))
        return unlearner.init(key, stacked, given)

    def unlearn(key, state, request):
        return unlearner.unlearn(key, state, {"root": request})

    return hf.Unlearner(init, unlearn, unlearner.access)


GRAPHS = {
    "graph_fiun": lambda c: _graph(c, FIUN),
    "graph_head_reassign": lambda c: _graph(c, HEAD_REASSIGN),
    "graph_published": lambda c: _graph(c, PUBLISHED),
}


# Of each the variables are those of several models, and all are asked.
ENSEMBLES = {
    "sisa": lambda c: hf.rivals.sisa(
        c, optax.sgd(0.05), 3, shards=2, slices=2, batch_size=16
    ),
}
SHOWN_BY_OTHERS += tuple(ENSEMBLES)


def one_model(method, variables):
    """The variables of a model that is asked."""
    if method in ENSEMBLES:
        return trees.take(variables, 0)
    return trees.take(variables["default"], 0) if method in GRAPHS else variables


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
    "fiun": lambda c: hf.fiun(c, FIUN),
    "fiun_published": lambda c: hf.fiun(c, PUBLISHED),
    "fiun_head_reassign": lambda c: hf.fiun(c, HEAD_REASSIGN),
    # Steps small enough that rounding does not decide where forty rows end up.
    "pgu": lambda c, probe=PROBE: hf.pgu(
        c, hf.PGUConfig(learning_rate=1.0, rounds=2, round_steps=2), probe=probe
    ),
    "pgu_margins": lambda c: hf.pgu(
        c,
        hf.PGUConfig(
            learning_rate=0.5,
            objective="margins",
            rounds=2,
            round_steps=2,
        ),
    ),
    "pgu_published": lambda c: hf.pgu(
        c, dataclasses.replace(hf.PGUConfig.published(), rounds=3, batch_size=16)
    ),
    "dihyfo": lambda c: hf.dihyfo(c, *_hypernetwork(c)),
    "dihyfo_protected": lambda c: hf.dihyfo(c, *_hypernetwork(c), protect=3.0),
    **RIVALS,
    "scrub_rewind": lambda c: hf.rivals.scrub(
        c, epochs=3, max_epochs=1, batch_size=16, probe=PROBE
    ),
    "ssd": lambda c: hf.ssd(c, alpha=1.5, batch_size=16),
    "ssd_batch": lambda c: hf.ssd(
        c, alpha=1.5, batch_size=16, estimator="batch_gradient"
    ),
}
