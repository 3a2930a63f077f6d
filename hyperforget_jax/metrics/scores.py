"""Every metric of a model after a request, in one pure function.

A population is evaluated in one program::

    data = hf.metrics.evaluation_data(request, splits.test)
    of_one = functools.partial(hf.metrics.scores, classifier, data=data)
    found = jax.jit(jax.vmap(of_one))(stacked_variables)
    found.forget_test.accuracy  # [P]
"""

from typing import NamedTuple

import jax.numpy as jnp

from hyperforget_jax import losses
from hyperforget_jax.base import Array, Classifier, Examples, ForgetRequest, Variables
from hyperforget_jax.metrics.accuracy import (
    ClassScores,
    accuracy,
    class_scores,
    mean_loss,
)
from hyperforget_jax.metrics.distances import (
    jensen_shannon,
    kullback_leibler,
    mean_distance,
    output_distance,
)
from hyperforget_jax.metrics.membership import auc
from hyperforget_jax.models.predictions import logits

__all__ = [
    "EvaluationData",
    "HalfScores",
    "Halves",
    "Logits",
    "Scores",
    "evaluation_data",
    "predict",
    "score_logits",
    "scores",
]


class Halves(NamedTuple):
    """One split's inputs and labels ``[N]``, and its halves as weights ``[N]``."""

    x: Array
    y: Array
    forget: Array
    retain: Array


class EvaluationData(NamedTuple):
    """What models are evaluated on. Made by :func:`evaluation_data`.

    Attributes:
        train: the request's data, ``[N]``.
        test: held-out examples, ``[M]``.
        non_members: weights of the test rows that membership inference compares the
            forgotten training rows with, ``[M]``: those of the forgotten classes, or
            all of them where single rows are forgotten.
    """

    train: Halves
    test: Halves
    non_members: Array


class Logits(NamedTuple):
    """A model's logits on both splits, ``[N, C]`` and ``[M, C]``."""

    train: Array
    test: Array


class HalfScores(NamedTuple):
    """Metrics on one half of one split, scalars; zero where the half is empty.

    Attributes:
        weight: the half's total weight.
        non_finite: rows that count and whose logits are not finite. If there are any,
            the model has diverged and no metric means anything.
        accuracy: a fraction.
        loss: mean cross-entropy in nats.
        js: mean Jensen-Shannon divergence from the retrained models in nats; None
            without any, like the following.
        kl: mean Kullback-Leibler divergence.
        l2: mean Euclidean distance of softmax outputs.
    """

    weight: Array
    non_finite: Array
    accuracy: Array
    loss: Array
    js: Array | None
    kl: Array | None
    l2: Array | None


class Scores(NamedTuple):
    """Metrics of one model after one request.

    Attributes:
        forget_train: on the forgotten training rows.
        retain_train: on the other training rows.
        forget_test: on the test rows that the request covers: of the same classes.
        retain_test: on the other test rows.
        test_accuracy: on all test rows, ``[]``.
        train_classes: class by class, on the training rows.
        test_classes: class by class, on the test rows.
        auc: of membership inference by the loss, ``[]``; zero without non-members.
    """

    forget_train: HalfScores
    retain_train: HalfScores
    forget_test: HalfScores
    retain_test: HalfScores
    test_accuracy: Array
    train_classes: ClassScores
    test_classes: ClassScores
    auc: Array


def evaluation_data(request: ForgetRequest, test: Examples) -> EvaluationData:
    """Return a request's data and held-out examples ``[M]``, each in two halves."""
    if request.data is None:
        raise ValueError(
            "request carries no data, and models are evaluated on the training rows "
            "too: hf.forget_classes and hf.forget_rows make one that does."
        )
    # The rows that the request names, not its classes: what is in the data and is not
    # asked for is retained, whatever its label.
    data, retain = request.data, request.retain.weight
    train = Halves(data.x, data.y, data.weight - retain, retain)
    forget_test, retain_test = request.split(test)
    halves = Halves(test.x, test.y, forget_test.weight, retain_test.weight)
    is_class_request = jnp.any(request.classes)
    non_members = jnp.where(is_class_request, forget_test.weight, test.weight)
    return EvaluationData(train, halves, non_members)


def predict(
    classifier: Classifier,
    variables: Variables,
    data: EvaluationData,
    *,
    batch_size: int = 512,
) -> Logits:
    """Compute a model's logits on both splits, ``batch_size`` inputs at a time."""
    return Logits(
        logits(classifier, variables, data.train.x, batch_size=batch_size),
        logits(classifier, variables, data.test.x, batch_size=batch_size),
    )


def scores(
    classifier: Classifier,
    variables: Variables,
    data: EvaluationData,
    references: Logits | None = None,
    *,
    batch_size: int = 512,
) -> Scores:
    """Compute every metric of one model after a request.

    Args:
        classifier: the model.
        variables: its variables after unlearning.
        data: what it is evaluated on.
        references: retrained models' logits, stacked ``[R, ...]``, for the
            distances from them; None for none.
        batch_size: the most inputs whose activations are held at once.
    """
    own = predict(classifier, variables, data, batch_size=batch_size)
    return score_logits(own, data, references)


def score_logits(
    logits: Logits, data: EvaluationData, references: Logits | None = None
) -> Scores:
    """Compute :func:`scores` from a model's logits."""
    halves, classes = {}, {}
    for name in ("train", "test"):
        own, split = getattr(logits, name), getattr(data, name)
        others = None if references is None else getattr(references, name)
        for half in ("forget", "retain"):
            weight = getattr(split, half)
            halves[f"{half}_{name}"] = _half(own, split.y, weight, others)
        weight = split.forget + split.retain
        classes[name] = class_scores(own, split.y, weight)
    return Scores(
        **halves,
        test_accuracy=accuracy(
            logits.test, data.test.y, data.test.forget + data.test.retain
        ),
        train_classes=classes["train"],
        test_classes=classes["test"],
        auc=auc(
            -losses.cross_entropy(logits.train, data.train.y),
            -losses.cross_entropy(logits.test, data.test.y),
            data.train.forget,
            data.non_members,
        ),
    )


def _half(logits, y, weight, references) -> HalfScores:
    js = kl = l2 = None
    if references is not None:
        js, kl, l2 = (
            mean_distance(distance, logits, references, weight)
            for distance in (jensen_shannon, kullback_leibler, output_distance)
        )
    is_bad = ~jnp.all(jnp.isfinite(logits), axis=-1) & (weight > 0)
    return HalfScores(
        weight=jnp.sum(weight),
        non_finite=jnp.sum(is_bad, dtype=jnp.int32),
        accuracy=accuracy(logits, y, weight),
        loss=mean_loss(logits, y, weight),
        js=js,
        kl=kl,
        l2=l2,
    )
