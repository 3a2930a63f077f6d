"""Forgets nothing: the neutral element, and the first row of every table."""

from hyperforget_jax import checks
from hyperforget_jax.base import Access, Classifier, Unlearner
from hyperforget_jax.methods.unprepared import unprepared

__all__ = ["identity"]


def identity(classifier: Classifier) -> Unlearner:
    """Returns the model as it is. It reads nothing, and everything remains.

    Args:
        classifier: the model.
    """

    checks.check_is_classifier(classifier)

    def forget_fn(key, variables, request):
        del key, request  # Nothing is forgotten.
        return variables, None

    access = Access(remains="everything: the model is unchanged")
    return unprepared(classifier, forget_fn, access)
