"""What evaluation is given, checked."""

import jax
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
from hyperforget_jax.metrics import EvaluationData, evaluation_data

__all__ = ["checked_data", "same_halves"]


def checked_data(
    classifier: Classifier,
    models: dict[str, Variables],
    request: ForgetRequest,
    examples: Examples,
    *,
    key: Array | None,
    batch_size: int,
) -> EvaluationData:
    """Return what models are evaluated on, if everything fits together.

    Args:
        classifier: the model.
        models: name to variables that must be the classifier's.
        request: what was forgotten.
        examples: held out, ``[M]``.
        key: a typed key, or None.
        batch_size: at least one.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: anything else that does not fit, examples that were trained on
            among it. Neither rows of weight zero nor those forgotten earlier count.
    """
    check_sizes(batch_size=batch_size)
    if key is not None:
        check_key(key)
    check_is_request(request)
    data = request.data
    if data is None:
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
    num_classes = request.classes.shape[0]
    check_examples(examples, num_classes=num_classes, name="examples")
    for name, variables in models.items():
        check_variables_given(variables)
        for x in (data.x, examples.x):
            check_classifier(
                classifier, variables, x, num_classes=num_classes, name=name
            )
    check_held_out(data, examples, "examples")
    return evaluation_data(request, examples)


def same_halves(one: EvaluationData, other: EvaluationData) -> bool:
    """Return whether two requests forget the same rows of the same tables."""
    pairs = zip(
        jax.tree.leaves([halves._replace(x=None) for halves in one[:2]]),
        jax.tree.leaves([halves._replace(x=None) for halves in other[:2]]),
        strict=True,
    )
    return all(np.array_equal(a, b) for a, b in pairs)
