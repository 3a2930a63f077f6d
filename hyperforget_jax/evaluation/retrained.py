"""Retrained models, measured once for the evaluation of many other models."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp

from hyperforget_jax import chunking, trees
from hyperforget_jax.base import Array, Classifier, Examples, ForgetRequest, Variables
from hyperforget_jax.evaluation.measure import (
    checked_data,
    measure,
    relearning_by_name,
    same_halves,
    tug_of_war,
)
from hyperforget_jax.metrics import (
    ClassScores,
    EvaluationData,
    Logits,
    first_reached,
    relearning_curve,
    relearning_target,
)
from hyperforget_jax.models.predictions import population_logits

__all__ = ["Retrained", "prepare_retrained"]


@dataclasses.dataclass(frozen=True)
class Retrained:
    """Retrained models and what was measured of them, for one request.

    Made by :func:`prepare_retrained`.

    Attributes:
        variables: stacked, ``[R, ...]``.
        data: what they were evaluated on; a use for another request is noticed by it.
        logits: on both splits, stacked, ``[R, ...]``.
        metrics: every model's own, with its distances to the others if there are two
            or more, and its relearning if there was an original.
        per_class: every model's scores class by class, by split.
        key: a typed key, for the relearning.
        target_accuracy: what relearning aims for, or None if there was no original.
        curves: accuracies while they relearn, ``[R, steps + 1]``, or None before.
    """

    variables: Variables
    data: EvaluationData
    logits: Logits
    metrics: tuple[Mapping[str, float], ...]
    per_class: tuple[Mapping[str, ClassScores], ...]
    key: Array
    target_accuracy: Array | None = None
    curves: Array | None = None


def prepare_retrained(
    classifier: Classifier,
    retrained: Variables | Sequence[Variables] | Retrained,
    request: ForgetRequest,
    examples: Examples,
    *,
    original: Variables | None = None,
    key: Array | None = None,
    batch_size: int = 512,
) -> Retrained:
    """Measure retrained models once, for the evaluation of many others.

    The arguments are those of :func:`evaluate`. What is prepared already keeps what
    does not depend on ``original``: the models relearn, to the last step allowed, once
    for all originals and one key.

    Raises:
        ValueError: as for :func:`evaluate`, or models that are not stacked.
    """
    check = functools.partial(
        checked_data,
        classifier,
        request=request,
        examples=examples,
        key=key,
        batch_size=batch_size,
    )
    models = {} if original is None else {"original": original}
    if not isinstance(retrained, Retrained):
        stacked = _stacked(retrained)
        data = check(models | {"retrained": trees.take(stacked, 0)})
        prepared = _measured(classifier, stacked, data, key, batch_size)
    elif same_halves(retrained.data, check(models)):
        prepared = retrained
    else:
        raise ValueError(
            "These retrained models were prepared for another request or other "
            "examples: prepare_retrained once for each."
        )
    if original is None or not jnp.any(prepared.data.train.forget):
        return prepared
    key = prepared.key if key is None else key
    curves = prepared.curves
    # Keys of two kinds cannot be compared.
    if curves is None or key.dtype != prepared.key.dtype or key != prepared.key:
        curves = _relearning_curves(classifier, prepared.variables, request.forget, key)
    target = relearning_target(classifier, original, request.forget)
    outcomes = first_reached(curves, target)
    metrics = tuple(
        {**own, **relearning_by_name(trees.take(outcomes, i))}
        for i, own in enumerate(prepared.metrics)
    )
    return dataclasses.replace(
        prepared, metrics=metrics, target_accuracy=target, key=key, curves=curves
    )


def _measured(classifier, stacked, data, key, batch_size) -> Retrained:
    """Measure everything but relearning."""
    outputs = functools.partial(
        population_logits, classifier, stacked, batch_size=batch_size
    )
    logits = Logits(outputs(data.train.x), outputs(data.test.x))
    count = logits.train.shape[0]
    found = []
    for i in range(count):
        others = None
        if count > 1:
            others = jax.tree.map(lambda leaf, i=i: jnp.delete(leaf, i, 0), logits)
        own, name = trees.take(logits, i), f"retrained model {i}"
        found.append(measure(own, data, others, owner=name))
    metrics, per_class = zip(*found, strict=True)
    if count > 1:
        metrics = tuple(
            own | tug_of_war(own, metrics[:i] + metrics[i + 1 :])
            for i, own in enumerate(metrics)
        )
    # A fixed default, so that models evaluated apart relearn in the same order.
    key = jax.random.key(0) if key is None else key
    return Retrained(stacked, data, logits, metrics, per_class, key)


@functools.partial(jax.jit, static_argnames="classifier")
def _relearning_curves(classifier, variables, forget, key):
    """Return every model's, ``[R, steps + 1]``."""

    def one(own):
        return relearning_curve(classifier, own, forget, key=key)

    return chunking.map_members(one, variables)


def _stacked(retrained: Variables | Sequence[Variables]) -> Variables:
    if not isinstance(retrained, Mapping):
        if not isinstance(retrained, list | tuple) or not all(
            isinstance(one, Mapping) for one in retrained
        ):
            raise TypeError(
                "retrained must be stacked variables, variables in a list, or what "
                f"prepare_retrained gives; got {type(retrained).__name__}."
            )
        if not retrained:
            raise ValueError("retrained is empty: give none, or at least one.")
        kinds = [jax.tree.map(jnp.shape, one) for one in retrained]
        for i, kind in enumerate(kinds):
            if kind != kinds[0]:
                raise ValueError(
                    f"retrained must be models of one kind, but retrained[{i}] has "
                    "other variables than retrained[0], in structure or in shape."
                )
        return trees.stack(retrained)
    sizes = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(retrained)}
    if len(sizes) != 1 or not all(sizes) or (0,) in sizes:
        raise ValueError(
            "retrained must be stacked variables, every leaf [R, ...] with the same R, "
            f"got leading axes {sorted(sizes)}: put one model's variables in a list."
        )
    return dict(retrained)
