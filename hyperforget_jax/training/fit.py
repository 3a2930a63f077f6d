"""Training one classifier: a pure function of a key and the data."""

from collections.abc import Callable

import jax
import optax

from hyperforget_jax import checks, losses
from hyperforget_jax.base import Array, Classifier, Examples, Variables
from hyperforget_jax.keys import as_threefry
from hyperforget_jax.training import loop
from hyperforget_jax.training.config import FitConfig

__all__ = ["Augment", "NonFiniteLossError", "fit", "training_loss"]

Augment = Callable[[Array, Array, Array], Array]
"""``(x [B, ...], id [B], epoch [B]) -> x``, as ``hf.data.crop_and_flip`` makes it."""


class NonFiniteLossError(ArithmeticError):
    """A loss or an update of training is not finite.

    Attributes:
        step: the step at which it happened.
        variables: the last finite variables.
    """

    def __init__(self, step: int, variables: Variables):
        super().__init__(
            f"The loss or the update is not finite at step {step}: training stopped "
            "there, and the last finite variables are this error's `variables`. A "
            "smaller learning rate, or optax.clip_by_global_norm, may help."
        )
        self.step = step
        self.variables = variables


def training_loss(
    classifier: Classifier, augment: Augment | None = None
) -> loop.LossFn:
    """Make the loss of training: a minibatch's mean cross-entropy, in training mode."""

    def loss_fn(key, variables, batches):
        (batch,) = batches
        x, y, weight, id = batch.examples
        if augment is not None:
            moved = augment(x, id, batch.epoch)
            if getattr(moved, "shape", None) != x.shape:
                raise ValueError(
                    f"augment must give inputs of shape {x.shape}, like those it is "
                    f"given; got {getattr(moved, 'shape', type(moved).__name__)}."
                )
            x = moved
        logits, variables = classifier.apply_train(key, variables, x)
        return losses.weighted_mean(losses.cross_entropy(logits, y), weight), variables

    return loss_fn


def fit(
    key: Array,
    classifier: Classifier,
    data: Examples,
    optimizer: optax.GradientTransformation,
    steps: int,
    *,
    batch_size: int = 128,
    start: Variables | None = None,
    augment: Augment | None = None,
) -> Variables:
    """Train a classifier on the examples whose weight is not zero.

    Pure and jittable: ``jax.jit(lambda key, data: hf.fit(key, classifier, data,
    optimizer, steps))`` compiles once and serves every weighting of the data. A
    population of classifiers is :func:`hyperforget_jax.fit_population`.

    Args:
        key: a typed key, consumed; of another implementation than threefry, a threefry
            key is derived from it.
        classifier: the model.
        data: training examples, ``[N]``.
        optimizer: any optax optimiser, those included that want the loss's value or
            evaluate it anew; but those that leave other parameters than the model's.
        steps: how many minibatches, static.
        batch_size: rows a minibatch, static.
        start: variables to start from; by default ``classifier.init``'s.
        augment: ``(x, id, epoch) -> x``, as ``hf.data.crop_and_flip`` makes it.

    Returns:
        The trained variables.

    Raises:
        TypeError, ValueError: malformed arguments, a classifier that does not fit the
            data, or an optimiser that cannot be run.
        NonFiniteLossError: training diverged. Under ``jit`` nothing can be raised: the
            last finite variables are returned.

    Examples:
        >>> import jax
        >>> import optax
        >>> import hyperforget_jax as hf
        >>> train = hf.data.load("digits").train
        >>> classifier = hf.from_linen(hf.models.MLP((16,)))
        >>> variables = hf.fit(
        ...     jax.random.key(0), classifier, train, optax.adam(1e-2), steps=100
        ... )
        >>> logits = classifier.apply(variables, train.x)
        >>> bool((logits.argmax(-1) == train.y).mean() > 0.8)
        True
    """
    key = as_threefry(key)
    config = FitConfig(optimizer, steps, batch_size)
    if augment is not None:
        checks.check_is_function("a function (x, id, epoch) -> x", augment=augment)
    checks.check_is_examples(data)
    num_classes = checks.check_classifier(classifier, start, data.x, name="start")
    checks.check_examples(data, num_classes=num_classes)
    key_init, key_loop = jax.random.split(key)
    variables = classifier.init(key_init, data.x) if start is None else start
    loss_fn = training_loss(classifier, augment)
    variables, info = config.run(key_loop, loss_fn, variables, (data,))
    if checks.is_concrete(info.failed_at) and info.failed_at >= 0:
        raise NonFiniteLossError(int(info.failed_at), variables)
    return variables
