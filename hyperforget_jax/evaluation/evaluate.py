"""One model after a request, beside retrained models."""

from collections.abc import Sequence

import jax
import numpy as np

from hyperforget_jax.base import Array, Classifier, Examples, ForgetRequest, Variables
from hyperforget_jax.evaluation.evaluation import Evaluation, Spread
from hyperforget_jax.evaluation.measure import (
    checked_data,
    measure,
    relearning_by_name,
    tug_of_war,
)
from hyperforget_jax.evaluation.retrained import Retrained, prepare_retrained
from hyperforget_jax.metrics import predict, relearn, relearning_target

__all__ = ["ceiling", "evaluate"]

_relearn = jax.jit(relearn, static_argnames="classifier")


def evaluate(
    classifier: Classifier,
    variables: Variables,
    request: ForgetRequest,
    examples: Examples,
    *,
    retrained: Variables | Sequence[Variables] | Retrained | None = None,
    original: Variables | None = None,
    key: Array | None = None,
    batch_size: int = 512,
) -> Evaluation:
    """Measure a model after a request.

    *Train* is ``request.data``, *test* is ``examples``; each has a forget and a retain
    half. An empty half has no metrics: a request of rows leaves the test split's
    forget half empty. The metrics are

    - ``{forget,retain}_{accuracy,loss}_{train,test}`` and ``accuracy_test``;
    - ``mia_auc``, ``mia_accuracy``, ``mia_tpr_at_1_fpr``: membership inference from
      the loss. Members are the forgotten training rows; non-members are the test rows
      of the forgotten classes, or all test rows where single rows are forgotten;
    - with ``retrained``: ``{js,kl,l2}_to_oracle_{forget,retain}_{train,test}``, the
      distances from the retrained models (called oracles in records), with
      ``js_to_oracle`` and the like short for forget, train; and ``tow``;
    - with ``original``: ``relearn_steps`` and ``relearn_censored`` (0 or 1), the
      target being 0.95 times the original's accuracy on the forgotten training rows;
      with retrained models too ``relearn_steps_oracle``, their mean.

    A model that is itself among the retrained ones is at distance zero from itself:
    compare these with :func:`ceiling`. Test examples that an *earlier* request covered
    count as retained; take them out with ``examples.without``.

    Args:
        classifier: the model.
        variables: its variables after unlearning.
        request: what was forgotten, with the training data.
        examples: held-out examples, ``[M]``, none of which is a training example by
            its id.
        retrained: models retrained without the forgotten data: stacked variables
            (every leaf ``[R, ...]``), a list of variables, or what
            :func:`prepare_retrained` gives for the same request and examples, which
            saves measuring them again.
        original: the trained model's variables, before unlearning.
        key: a typed key for the order of the data in relearning, the same for all
            models that are compared; by default the retrained models', or a fixed one.
        batch_size: the most inputs whose activations are held at once.

    Raises:
        TypeError: arguments of the wrong kind.
        ValueError: a request without data or of several requests at once; logits,
            labels and classes that do not match; examples that were trained on; logits
            that are not finite; retrained models prepared for another request.

    Examples:
        >>> import jax
        >>> import hyperforget_jax as hf
        >>> splits = hf.data.load("digits")
        >>> classifier = hf.from_linen(hf.models.MLP((16,)))
        >>> variables = classifier.init(jax.random.key(0), splits.train.x)
        >>> request = hf.forget_classes(splits.train, [3])
        >>> found = hf.evaluate(classifier, variables, request, splits.test)
        >>> sorted(found.metrics)[:3]
        ['accuracy_test', 'forget_accuracy_test', 'forget_accuracy_train']
        >>> found.per_class["test"].accuracy.shape
        (10,)
    """
    models = {"variables": variables}
    if original is not None:
        models["original"] = original
    options = {"key": key, "batch_size": batch_size}
    data = checked_data(classifier, models, request, examples, **options)
    beside, target = None, None
    if retrained is not None:
        beside = prepare_retrained(
            classifier, retrained, request, examples, original=original, **options
        )
        target, key = beside.target_accuracy, beside.key if key is None else key
    elif original is not None and np.any(data.train.forget):
        target = relearning_target(classifier, original, request.forget)
        key = jax.random.key(0) if key is None else key

    def measured(variables, owner):
        logits = predict(classifier, variables, data, batch_size=batch_size)
        references = None if beside is None else beside.logits
        metrics, per_class = measure(logits, data, references, owner=owner)
        if beside is not None:
            metrics |= _against(metrics, beside.metrics)
        return metrics, per_class

    metrics, per_class = measured(variables, "the model")
    before = {} if original is None else measured(original, "the original")[0]
    if target is not None:
        outcome = _relearn(
            classifier, variables, request.forget, target_accuracy=target, key=key
        )
        metrics |= relearning_by_name(outcome)
    references = () if beside is None else beside.metrics
    return _evaluation(metrics, per_class, before, references, request)


def ceiling(
    classifier: Classifier,
    retrained: Variables | Sequence[Variables] | Retrained,
    request: ForgetRequest,
    examples: Examples,
    *,
    original: Variables | None = None,
    key: Array | None = None,
    batch_size: int = 512,
) -> list[Evaluation]:
    """Evaluate each retrained model against the others: the best to be hoped for.

    The arguments are those of :func:`evaluate`.

    Returns:
        One evaluation a retrained model, in their order.

    Raises:
        ValueError: fewer than two of them, and as for :func:`evaluate`.
    """
    options = {"original": original, "key": key, "batch_size": batch_size}
    prepared = prepare_retrained(classifier, retrained, request, examples, **options)
    if len(prepared.metrics) < 2:
        raise ValueError(
            "ceiling compares each retrained model with the others and needs at least "
            f"two, got {len(prepared.metrics)}."
        )
    evaluations = []
    for i, own in enumerate(prepared.metrics):
        others = prepared.metrics[:i] + prepared.metrics[i + 1 :]
        metrics = {**own, **_against(own, others)}
        evaluations.append(
            _evaluation(metrics, prepared.per_class[i], {}, others, request)
        )
    return evaluations


def _against(metrics, references) -> dict[str, float]:
    """Return the metrics that follow from one's own and from retrained models'."""
    found = tug_of_war(metrics, references)
    if "relearn_steps" in references[0]:
        steps = [each["relearn_steps"] for each in references]
        found["relearn_steps_oracle"] = float(np.mean(steps))
    return found


def _evaluation(metrics, per_class, before, references, request) -> Evaluation:
    names = references[0] if references else ()
    return Evaluation(
        metrics=metrics,
        per_class=per_class,
        original=before,
        retrained={n: Spread.of([each[n] for each in references]) for n in names},
        num_retrained=len(references),
        classes=tuple(np.flatnonzero(request.classes).tolist()),
        num_forgotten=int(np.count_nonzero(request.forget.weight)),
    )
