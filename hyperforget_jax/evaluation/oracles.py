"""Retrained oracles, measured once for the evaluation of many other models."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from hyperforget_jax import memory
from hyperforget_jax.base import Array, Classifier, Examples, ForgetRequest, Variables
from hyperforget_jax.evaluation.correctness import PerClass
from hyperforget_jax.evaluation.measures import (
    distances_to_oracles,
    own_metrics,
    relearning_metrics,
    tug_of_war,
)
from hyperforget_jax.evaluation.outputs import (
    Outputs,
    Splits,
    check_inputs,
    check_options,
    finite_outputs,
    same_splits,
    split_in_halves,
)
from hyperforget_jax.evaluation.relearning import (
    Relearning,
    first_reached,
    relearning_curve,
    relearning_target,
)
from hyperforget_jax.models.predictions import population_logits

__all__ = ["Oracles", "beside_oracles", "leave_out", "prepare_oracles"]


@functools.partial(jax.jit, static_argnames="classifier")
def _relearning_curves(classifier, variables, forget, key):
    """Of every oracle, ``[R, steps + 1]``."""

    def one(own):
        return relearning_curve(classifier, own, forget, key=key)

    members, shapes = memory.one_of(variables)
    at_once = memory.members_at_once(members, one, shapes)
    return jax.lax.map(one, variables, batch_size=at_once)


@dataclasses.dataclass(frozen=True)
class Oracles:
    """Retrained models and what was measured of them, for one request.

    Made by :func:`prepare_oracles`.

    Attributes:
        variables: stacked, ``[R, ...]``.
        splits: the data in halves, by which a use for another request is noticed.
        outputs: their logits on both splits, stacked, ``[R, ...]``.
        metrics: every oracle's own, with its distances to the other oracles if there
            are two or more, and its relearning if there was an original.
        per_class: every oracle's accuracy class by class, by split.
        target_accuracy: what relearning aims for, or None if there was no original.
        key: a typed key, for the relearning.
        curves: accuracies while they relearn, ``[R, steps + 1]``, or None before.
    """

    variables: Variables
    splits: Splits
    outputs: Outputs
    metrics: tuple[Mapping[str, float], ...]
    per_class: tuple[Mapping[str, PerClass], ...]
    target_accuracy: Array | None
    key: Array
    curves: Array | None = None


def prepare_oracles(
    classifier: Classifier,
    oracles: Variables | Sequence[Variables] | Oracles,
    request: ForgetRequest,
    examples: Examples,
    *,
    original: Variables | None = None,
    key: Array | None = None,
    batch_size: int = 512,
) -> Oracles:
    """Measures retrained models once, for the evaluation of many others.

    Args:
        classifier: the model.
        oracles: as for :func:`evaluate`. Oracles that are prepared already keep what
            does not depend on ``original``: they relearn, to the last step allowed,
            once for all originals and one key.
        request: what was forgotten.
        examples: held-out examples, ``[M]``.
        original: the trained model, for relearning's target.
        key: a typed key for relearning.
        batch_size: the most inputs whose activations are held at once.

    Raises:
        ValueError: as for :func:`evaluate`, or oracles that are not stacked.
    """
    check_options(
        classifier, request, original=original, key=key, batch_size=batch_size
    )
    if not isinstance(oracles, Oracles):
        prepared = _measured(
            classifier, _stacked(oracles), request, examples, key, batch_size
        )
    elif same_splits(oracles.splits, split_in_halves(request, examples)):
        prepared = oracles
    else:
        raise ValueError(
            "These oracles were prepared for another request or other examples: "
            "prepare_oracles once for each."
        )
    if original is None or not np.any(prepared.splits.train.forget):
        return prepared
    key = prepared.key if key is None else key
    curves = prepared.curves
    # Keys of two kinds cannot be compared.
    if curves is None or key.dtype != prepared.key.dtype or key != prepared.key:
        curves = _relearning_curves(classifier, prepared.variables, request.forget, key)
    target = relearning_target(classifier, original, request.forget)
    outcomes = first_reached(curves, target)
    metrics = tuple(
        {**own, **relearning_metrics(Relearning(*of_one))}
        for own, *of_one in zip(prepared.metrics, *outcomes, strict=True)
    )
    return dataclasses.replace(
        prepared, metrics=metrics, target_accuracy=target, key=key, curves=curves
    )


def beside_oracles(
    metrics: Mapping[str, float], outputs: Outputs, oracles: Oracles
) -> dict[str, float]:
    """The metrics of a model that exist beside oracles alone.

    Args:
        metrics: the model's own.
        outputs: the model's logits.
        oracles: measured for the same request.
    """
    result = distances_to_oracles(outputs, oracles.outputs, oracles.splits)
    tow = tug_of_war(metrics, oracles.metrics)
    if tow is not None:
        result["tow"] = tow
    if "relearn_steps" in oracles.metrics[0]:
        steps = [of_one["relearn_steps"] for of_one in oracles.metrics]
        result["relearn_steps_oracle"] = float(np.mean(steps))
    return result


def leave_out(oracles: Oracles, position: int) -> Oracles:
    """All oracles but the one at a position."""
    kept = np.delete(np.arange(len(oracles.metrics)), position)
    variables, outputs = jax.tree.map(
        lambda leaf: leaf[kept], (oracles.variables, oracles.outputs)
    )
    return dataclasses.replace(
        oracles,
        variables=variables,
        outputs=outputs,
        curves=None if oracles.curves is None else oracles.curves[kept],
        metrics=tuple(oracles.metrics[i] for i in kept),
        per_class=tuple(oracles.per_class[i] for i in kept),
    )


def _measured(
    classifier: Classifier,
    stacked: Variables,
    request: ForgetRequest,
    examples: Examples,
    key: Array | None,
    batch_size: int,
) -> Oracles:
    """Everything about the oracles but their relearning."""
    first = jax.tree.map(lambda leaf: leaf[0], stacked)
    data, splits = check_inputs(classifier, first, request, examples, name="oracles")
    both = [
        population_logits(classifier, stacked, x, batch_size=batch_size)
        for x in (data.x, examples.x)
    ]
    each = [
        finite_outputs(Outputs(*of_one), splits, owner=f"oracle {i}")
        for i, of_one in enumerate(zip(*both, strict=True))
    ]
    is_class_request = bool(np.any(request.classes))
    measured = [
        own_metrics(one, splits, is_class_request=is_class_request) for one in each
    ]
    oracles = Oracles(
        variables=stacked,
        splits=splits,
        outputs=jax.tree.map(lambda *leaves: jnp.stack(leaves), *each),
        metrics=tuple(metrics for metrics, _ in measured),
        per_class=tuple(per_class for _, per_class in measured),
        target_accuracy=None,
        # A fixed default, so that models evaluated apart relearn in the same order.
        key=jax.random.key(0) if key is None else key,
    )
    if len(each) < 2:
        return oracles
    metrics = tuple(
        {**own, **beside_oracles(own, one, leave_out(oracles, i))}
        for i, (own, one) in enumerate(zip(oracles.metrics, each, strict=True))
    )
    return dataclasses.replace(oracles, metrics=metrics)


def _stacked(oracles: Variables | Sequence[Variables]) -> Variables:
    if not isinstance(oracles, Mapping):
        if not isinstance(oracles, list | tuple) or not all(
            isinstance(one, Mapping) for one in oracles
        ):
            raise TypeError(
                "oracles must be stacked variables, variables in a list, or what "
                f"prepare_oracles gives; got {type(oracles).__name__}."
            )
        if not oracles:
            raise ValueError("oracles is empty: give none, or at least one.")
        kinds = [jax.tree.map(jnp.shape, one) for one in oracles]
        for i, kind in enumerate(kinds):
            if kind != kinds[0]:
                raise ValueError(
                    f"oracles must be models of one kind, but oracles[{i}] has other "
                    "variables than oracles[0], in structure or in shape."
                )
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *oracles)
    sizes = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(oracles)}
    if len(sizes) != 1 or not all(sizes) or (0,) in sizes:
        raise ValueError(
            "oracles must be stacked variables, every leaf [R, ...] with the same R, "
            f"got leading axes {sorted(sizes)}: put one model's variables in a list."
        )
    return dict(oracles)
