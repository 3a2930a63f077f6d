"""The data in halves, and a model's outputs on them."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hyperforget_jax.base import Array, Classifier, Examples, ForgetRequest, Variables
from hyperforget_jax.checks import (
    check_classifier,
    check_examples,
    check_held_out,
    check_is_request,
    check_key,
    check_sizes,
    check_variables_given,
)

__all__ = [
    "Outputs",
    "Split",
    "Splits",
    "check_inputs",
    "check_options",
    "finite_outputs",
    "same_splits",
    "split_in_halves",
]


class Outputs(NamedTuple):
    """Logits on both splits, of one model, or stacked of several.

    Attributes:
        train: ``[N, C]``.
        test: ``[M, C]``.
    """

    train: Array
    test: Array


class Split(NamedTuple):
    """One split's labels, and its halves as weights.

    Attributes:
        y: labels, ``[N]``.
        forget: weights of the forget half, ``[N]``.
        retain: weights of the retain half, ``[N]``.
    """

    y: Array
    forget: Array
    retain: Array


class Splits(NamedTuple):
    """Both splits in halves.

    Attributes:
        train: of the request's data, ``[N]``.
        test: of held-out examples, ``[M]``.
    """

    train: Split
    test: Split


def split_in_halves(request: ForgetRequest, examples: Examples) -> Splits:
    """The request's data, and held-out examples, each in a forget and a retain half.

    Args:
        request: with data.
        examples: held out, ``[M]``.

    Raises:
        ValueError: a request without data, several requests stacked, or examples that
            were trained on.
    """
    data = _data(request)
    check_held_out(data, examples, "examples")
    # The rows that the request names, not its classes: what is in the data and is not
    # asked for is retained, whatever its label.
    retain = request.retain.weight
    train = Split(data.y, data.weight - retain, retain)
    forget_test, retain_test = request.split(examples)
    return Splits(train, Split(examples.y, forget_test.weight, retain_test.weight))


def same_splits(one: Splits, other: Splits) -> bool:
    """Whether two requests forget the same rows of the same tables."""
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


def check_inputs(
    classifier: Classifier,
    variables: Variables,
    request: ForgetRequest,
    examples: Examples,
    *,
    name: str = "variables",
) -> tuple[Examples, Splits]:
    """Raise unless model, request and held-out examples fit together.

    Args:
        classifier: the model.
        variables: its variables.
        request: what was forgotten.
        examples: held out, ``[M]``.
        name: the variables' name, for the message.

    Returns:
        The request's data, and both splits in halves.

    Raises:
        TypeError: a request or examples of the wrong type.
        ValueError: anything else that does not fit, examples that were trained on
            among it. Neither rows of weight zero nor those forgotten earlier count.
    """
    check_is_request(request)
    data = _data(request)
    num_classes = request.classes.shape[0]
    check_examples(examples, num_classes=num_classes, name="examples")
    check_variables_given(variables)
    for x in (data.x, examples.x):
        check_classifier(classifier, variables, x, num_classes=num_classes, name=name)
    return data, split_in_halves(request, examples)


def check_options(
    classifier: Classifier,
    request: ForgetRequest,
    *,
    original: Variables | None,
    key: Array | None,
    batch_size: int,
) -> None:
    """Raise unless what models are measured with is what it should be.

    Raises:
        TypeError, ValueError: something is not; the message names it.
    """
    check_sizes(batch_size=batch_size)
    if key is not None:
        check_key(key)
    check_is_request(request)
    if original is not None:
        check_classifier(classifier, original, _data(request).x, name="original")


def finite_outputs(outputs: Outputs, splits: Splits, *, owner: str) -> Outputs:
    """The outputs, those of weightless rows zeroed.

    Args:
        outputs: of one model.
        splits: both splits in halves.
        owner: whose they are, for the message.

    Raises:
        ValueError: logits of rows that count are not finite.
    """
    checked = []
    for name in ("train", "test"):
        split = getattr(splits, name)
        values = getattr(outputs, name)
        # Zero weight times NaN is NaN: rows that are absent must not be heard of.
        values = jnp.where((split.forget + split.retain > 0)[:, None], values, 0)
        bad = int(jnp.sum(~jnp.all(jnp.isfinite(values), axis=-1)))
        if bad:
            raise ValueError(
                f"The logits of {owner} are not finite for {bad} {name} examples: it "
                "has diverged, and no metric of it means anything."
            )
        checked.append(values)
    return Outputs(*checked)


def _data(request: ForgetRequest) -> Examples:
    if request.data is None:
        raise ValueError(
            "This request carries no data (data=None, made by forget_labels), and "
            "evaluation measures the training examples too: evaluate with the request "
            "that forget_classes makes from them."
        )
    if request.classes.ndim != 1:
        raise ValueError(
            "evaluate takes one request at a time, got several stacked (classes of "
            f"shape {request.classes.shape}): evaluate each of them."
        )
    return request.data
