"""Forgetting nothing: the first row of every table."""

from hyperforget_jax.base import Access, Classifier, Unlearner
from hyperforget_jax.methods.stateless import stateless

__all__ = ["identity"]


def identity(classifier: Classifier) -> Unlearner:
    """Return the model as it is. It reads nothing, and everything remains.

    Args:
        classifier: the model.
    """

    def forget_fn(key, variables, request):
        del key, request  # Nothing is forgotten.
        return variables, None

    access = Access(remains="everything: the model is unchanged")
    return stateless(classifier, forget_fn, access)
