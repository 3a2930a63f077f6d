"""Several models as one classifier: the mean of what they predict."""

import functools
import math

import jax

from hyperforget_jax import checks
from hyperforget_jax.base import Array, Classifier, Variables

__all__ = ["ensemble"]


@functools.cache  # Ensembles made alike are one, and share what is compiled.
def ensemble(classifier: Classifier, members: int) -> Classifier:
    """Make one Classifier of several models of a kind.

    Its logits are logarithms of the members' mean probabilities. In training mode each
    member draws its own, and keeps its own statistics. It has no taps.

    Args:
        classifier: of each member.
        members: P. The variables are stacked, every leaf ``[P, ...]``, as those of
            :func:`hyperforget_jax.fit_population`.
    """
    checks.check_is_classifier(classifier)
    checks.check_sizes(members=members)

    def mean(logits: Array) -> Array:
        together = jax.nn.logsumexp(jax.nn.log_softmax(logits, axis=-1), axis=0)
        return together - math.log(members)

    def init(key: Array, x: Array) -> Variables:
        keys = jax.random.split(key, members)
        return jax.vmap(classifier.init, (0, None))(keys, x)

    def apply(variables: Variables, x: Array) -> Array:
        return mean(jax.vmap(classifier.apply, (0, None))(variables, x))

    def apply_train(key: Array, variables: Variables, x: Array):
        keys = jax.random.split(key, members)
        logits, updated = jax.vmap(classifier.apply_train, (0, 0, None))(
            keys, variables, x
        )
        return mean(logits), updated

    return Classifier(
        init,
        apply,
        apply_train,
        description=f"{members} x {classifier.description}",
    )
