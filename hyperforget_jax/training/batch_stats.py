"""Normalisation statistics made anew, since the old ones remember forgotten data."""

import jax
import optax

from hyperforget_jax import checks
from hyperforget_jax.base import Array, Classifier, Examples, Variables
from hyperforget_jax.keys import as_threefry
from hyperforget_jax.training.config import FitConfig
from hyperforget_jax.training.fit import training_loss

__all__ = ["refresh_statistics"]


def refresh_statistics(
    key: Array,
    classifier: Classifier,
    variables: Variables,
    data: Examples,
    *,
    steps: int = 100,
    batch_size: int = 128,
) -> Variables:
    """Replace everything but ``params`` by what the given data leave there.

    Unlearners leave normalisation statistics alone, and these are means over the
    forgotten data too. Here they start from fresh ones and see minibatches of ``data``
    in training mode, while no parameter moves; of the old statistics not a bit remains.

    Do it before the request: parameters that forgot beside the old statistics may
    remember beside new ones.

    Args:
        key: a typed key, consumed.
        classifier: the model.
        variables: its variables.
        data: examples that may be remembered, such as ``request.retain``.
        steps: minibatches; with a momentum of 0.99 a thousand are wanted.
        batch_size: rows a minibatch.

    Returns:
        The variables, of the same structure.

    Raises:
        TypeError, ValueError: malformed arguments, or variables that do not fit.
    """
    key = as_threefry(key)
    config = FitConfig(optax.set_to_zero(), steps, batch_size)
    checks.check_is_examples(data)
    checks.check_variables_given(variables)
    num_classes = checks.check_classifier(classifier, variables, data.x)
    checks.check_examples(data, num_classes=num_classes)
    key_init, key_loop = jax.random.split(key)
    fresh = classifier.init(key_init, data.x)
    # What init does not make, such as an output mask, is no statistic.
    initial = {**variables, **fresh, "params": variables["params"]}
    return config.run(key_loop, training_loss(classifier), initial, (data,))[0]
