"""One model after a request, measured beside retrained oracles."""

from collections.abc import Mapping, Sequence

import jax
import numpy as np

from hyperforget_jax.base import Array, Classifier, Examples, ForgetRequest, Variables
from hyperforget_jax.evaluation.correctness import PerClass
from hyperforget_jax.evaluation.measures import own_metrics, relearning_metrics
from hyperforget_jax.evaluation.oracles import (
    Oracles,
    beside_oracles,
    leave_out,
    prepare_oracles,
)
from hyperforget_jax.evaluation.outcome import Evaluation, Spread
from hyperforget_jax.evaluation.outputs import (
    Outputs,
    Splits,
    check_inputs,
    check_options,
    finite_outputs,
)
from hyperforget_jax.evaluation.relearning import relearn, relearning_target
from hyperforget_jax.models.predictions import logits

__all__ = ["ceiling", "evaluate"]

_relearn = jax.jit(relearn, static_argnames="classifier")


def evaluate(
    classifier: Classifier,
    variables: Variables,
    request: ForgetRequest,
    examples: Examples,
    *,
    oracles: Variables | Sequence[Variables] | Oracles | None = None,
    original: Variables | None = None,
    key: Array | None = None,
    batch_size: int = 512,
) -> Evaluation:
    """Measures a model after a request.

    *Train* is ``request.data``, *test* is ``examples``; each has a forget and a retain
    half. An empty half has no metrics: a request of rows leaves the test split's
    forget half empty. The metrics are

    - ``{forget,retain}_{accuracy,loss}_{train,test}`` and ``accuracy_test``;
    - ``mia_auc``, ``mia_accuracy``, ``mia_tpr_at_1_fpr``: membership inference from
      the loss. Members are the forgotten training rows; non-members are the test rows
      of the forgotten classes, or all test rows where single rows are forgotten;
    - with ``oracles``: ``{js,kl,l2}_to_oracle_{forget,retain}_{train,test}``, with
      ``js_to_oracle`` and the like short for forget, train; and ``tow``;
    - with ``original``: ``relearn_steps`` and ``relearn_censored`` (0 or 1), the
      target being 0.95 times the original's accuracy on the forgotten training rows;
      with oracles too ``relearn_steps_oracle``, their mean.

    A model that is itself among the oracles is at distance zero from itself: compare
    oracles with :func:`ceiling`. Test examples that an *earlier* request covered count
    as retained; take them out with ``examples.without``.

    Args:
        classifier: the model.
        variables: its variables after unlearning.
        request: what was forgotten, with the training data.
        examples: held-out examples, ``[M]``, none of which is a training example by
            its id.
        oracles: models retrained without the forgotten data: stacked variables (every
            leaf ``[R, ...]``), a list of variables, or :func:`prepare_oracles`' answer
            to the same request and examples, which saves measuring them again.
        original: the trained model's variables, before unlearning.
        key: a typed key for the order of the data in relearning, the same for all
            models that are compared; by default the oracles', or a fixed one.
        batch_size: the most inputs whose activations are held at once.

    Raises:
        TypeError: arguments of the wrong kind.
        ValueError: a request without data or of several requests at once; logits,
            labels and classes that do not match; examples that were trained on; logits
            that are not finite; oracles prepared for another request.
    """
    data, splits = check_inputs(classifier, variables, request, examples)
    check_options(
        classifier, request, original=original, key=key, batch_size=batch_size
    )
    target = None
    if oracles is not None:
        oracles = prepare_oracles(
            classifier,
            oracles,
            request,
            examples,
            original=original,
            key=key,
            batch_size=batch_size,
        )
        target, key = oracles.target_accuracy, oracles.key if key is None else key
    elif original is not None and np.any(splits.train.forget):
        target = relearning_target(classifier, original, request.forget)
        key = jax.random.key(0) if key is None else key

    def measured(variables, owner):
        outputs = Outputs(
            logits(classifier, variables, data.x, batch_size=batch_size),
            logits(classifier, variables, examples.x, batch_size=batch_size),
        )
        outputs = finite_outputs(outputs, splits, owner=owner)
        metrics, per_class = own_metrics(
            outputs, splits, is_class_request=bool(np.any(request.classes))
        )
        if oracles is not None:
            metrics |= beside_oracles(metrics, outputs, oracles)
        return metrics, per_class

    metrics, per_class = measured(variables, "the model")
    before = {} if original is None else measured(original, "the original")[0]
    if target is not None:
        outcome = _relearn(
            classifier, variables, request.forget, target_accuracy=target, key=key
        )
        metrics |= relearning_metrics(outcome)
    return _evaluation(metrics, per_class, splits, request, oracles, before)


def ceiling(
    classifier: Classifier,
    oracles: Variables | Sequence[Variables] | Oracles,
    request: ForgetRequest,
    examples: Examples,
    *,
    original: Variables | None = None,
    key: Array | None = None,
    batch_size: int = 512,
) -> list[Evaluation]:
    """Evaluates each oracle against the others: the best that a method can hope for.

    Args:
        classifier: the model.
        oracles: at least two, as for :func:`evaluate`.
        request: what was forgotten.
        examples: held-out examples, ``[M]``.
        original: the trained model, for relearning's target.
        key: a typed key for relearning.
        batch_size: the most inputs whose activations are held at once.

    Returns:
        One evaluation an oracle, in their order.

    Raises:
        ValueError: fewer than two oracles, and as for :func:`evaluate`.
    """
    prepared = prepare_oracles(
        classifier,
        oracles,
        request,
        examples,
        original=original,
        key=key,
        batch_size=batch_size,
    )
    if len(prepared.metrics) < 2:
        raise ValueError(
            "ceiling compares each oracle with the others and needs at least two, got "
            f"{len(prepared.metrics)}."
        )
    evaluations = []
    for i, own in enumerate(prepared.metrics):
        others = leave_out(prepared, i)
        one = jax.tree.map(lambda leaf, i=i: leaf[i], prepared.outputs)
        metrics = {**own, **beside_oracles(own, one, others)}
        evaluations.append(
            _evaluation(
                metrics, prepared.per_class[i], prepared.splits, request, others
            )
        )
    return evaluations


def _evaluation(
    metrics: Mapping[str, float],
    per_class: Mapping[str, PerClass],
    splits: Splits,
    request: ForgetRequest,
    oracles: Oracles | None,
    before: Mapping[str, float] | None = None,
) -> Evaluation:
    of_oracles = () if oracles is None else oracles.metrics
    spreads: dict[str, Spread] = {}
    for name in of_oracles[0] if of_oracles else ():
        spreads[name] = Spread.of([of_one[name] for of_one in of_oracles])
    return Evaluation(
        metrics=metrics,
        per_class=per_class,
        original=before or {},
        oracles=spreads,
        num_oracles=len(of_oracles),
        classes=tuple(np.flatnonzero(request.classes).tolist()),
        num_forgotten=int(np.count_nonzero(splits.train.forget)),
    )
