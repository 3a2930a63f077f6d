"""The record and the page of one's own models after one's own request."""

import functools
import os
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from hyperforget_jax import losses, trees
from hyperforget_jax.base import (
    Access,
    Array,
    Classifier,
    Examples,
    ForgetRequest,
    Variables,
)
from hyperforget_jax.evaluation import ceiling, evaluate, prepare_retrained
from hyperforget_jax.models import logits
from hyperforget_jax.report.pages import write_report
from hyperforget_jax.report.records import (
    model_name,
    results_document,
    results_row,
    write,
)
from hyperforget_jax.report.schema import REFERENCES

__all__ = ["compare", "losses_of"]

Models = Variables | Sequence[Variables]


def compare(
    path: str | os.PathLike,
    classifier: Classifier,
    models: Mapping[str, Models],
    request: ForgetRequest,
    test: Examples,
    *,
    original: Models | None = None,
    retrained: Models | None = None,
    key: Array | None = None,
    dataset: str = "data of your own",
    model: str | None = None,
    access: Mapping[str, Access] | None = None,
    seconds: Mapping[str, Mapping[str, float]] | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    pictures: Sequence[tuple[str, str, bytes | str]] = (),
    title: str = "What was forgotten, and what was kept",
    batch_size: int = 512,
) -> dict[str, Any]:
    """Evaluate models after a request, and write ``results.json`` and ``report.html``.

    The page is the one that the experiments write: a verdict a model, every number
    beside its references, figures, and what it cannot show. With ``original`` or
    ``retrained`` left out, or with one seed, it says what cannot be judged.

    Example::

        splits = hf.data.load("digits")
        classifier = hf.from_linen(hf.models.MLP((16,)))  # or any network of yours
        keys = jax.random.split(jax.random.key(0), 2)
        recipe = dict(optimizer=optax.adam(1e-2), steps=200, members=2)
        original = hf.fit_population(keys[0], classifier, splits.train, **recipe)
        request = hf.forget_classes(splits.train, [3])
        retrained = hf.fit_population(keys[1], classifier, request.retain, **recipe)
        mine = jax.tree.map(lambda leaf: 0.9 * leaf, original.variables)
        beside = dict(original=original.variables, retrained=retrained.variables)
        rest = classifier, {"mine": mine}, request, splits.test
        hf.report.compare(out, *rest, **beside)

    Args:
        path: the folder, made if need be.
        classifier: the model.
        models: name to the variables after the request: of one model, stacked over
            training seeds (every leaf ``[S, ...]``), or in a list.
        request: what was to be forgotten, with the training data.
        test: held-out examples.
        original: the trained models, before: one for all, or one a seed.
        retrained: models retrained without the forgotten data, of seeds of their own.
        key: a typed key for the order of the data in relearning.
        dataset: its name.
        model: what the classifier is; by default the name of its class.
        access: name to what the method reads when, where it is known.
        seconds: name to ``{"init", "unlearn", "compile"}``, where it is known.
        settings: name to the method's settings, where they are known: numbers and
            words, for the record.
        pictures: as for :func:`write_report`.
        title: the page's.
        batch_size: the most inputs whose activations are held at once.

    Returns:
        The document that was written.

    Raises:
        ValueError: a model with the name of a reference; several originals, and not as
            many of a model; and as for :func:`hyperforget_jax.evaluate`.
    """
    started = time.perf_counter()
    if not isinstance(models, Mapping):
        raise TypeError(
            "models must be a dictionary, name to variables; got "
            f"{type(models).__name__}."
        )
    if taken := sorted(set(models) & set(REFERENCES)):
        raise ValueError(
            f"models has the names {taken}, which references have: rename."
        )
    if not isinstance(request, ForgetRequest) or request.data is None:
        raise ValueError(
            "request must be a hf.ForgetRequest that carries the training data: "
            "hf.forget_classes and hf.forget_rows make one."
        )
    if not models:
        raise ValueError("models is empty: give at least one, name to variables.")
    named = {"original": original, "retrained": retrained, **models}
    members = {
        name: _members(classifier, each, request.data.x[:1], name)
        for name, each in named.items()
        if each is not None
    }
    originals, references = members.get("original", []), members.get("retrained", [])
    if references:  # By the name of its row.
        members["retrain"] = members.pop("retrained")
    for name in models:
        if len(originals) > 1 and len(members[name]) != len(originals):
            raise ValueError(
                f"models[{name!r}] has {len(members[name])} seeds and original has "
                f"{len(originals)}: give one original a seed, or one for all."
            )

    # Relearning aims at each original's own accuracy.
    options = {"key": key, "batch_size": batch_size}
    aims = originals or [None]
    beside: list[Any] = [None] * len(aims)
    if references:
        prepare = functools.partial(
            prepare_retrained, classifier, request=request, examples=test
        )
        measured = prepare(references, **options)
        beside = [prepare(measured, original=one) for one in aims]
    found = {
        name: [
            evaluate(
                classifier,
                one,
                request,
                test,
                retrained=beside[seed % len(aims)],
                original=aims[seed % len(aims)],
                **options,
            )
            for seed, one in enumerate(each)
        ]
        for name, each in members.items()
        if name != "retrain" or len(references) == 1
    }
    if len(references) > 1:
        each = [ceiling(classifier, one, request, test) for one in beside]
        found["retrain"] = found["ceiling"] = [
            each[seed % len(each)][seed] for seed in range(len(references))
        ]
    metrics = {
        name: [dict(one.metrics) for one in each] for name, each in found.items()
    }
    for one in metrics.get("retrain", []):  # By themselves, compared with nothing.
        for name in [n for n in one if "_to_oracle" in n or n == "tow"]:
            del one[name]

    first = next(iter(found.values()))[0]
    labels = "+".join(map(str, first.classes))
    rows = [
        results_row(
            method,
            metrics[method],
            dataset=dataset,
            model=model or model_name(classifier),
            scenario="class" if labels else "rows",
            request=f"class {labels}" if labels else f"{first.num_forgotten} rows",
            access=(access or {}).get(method),
            seconds=(seconds or {}).get(method),
            num_forgotten=first.num_forgotten,
            num_train=int(np.count_nonzero(request.data.weight)),
        )
        for method in [*(name for name in REFERENCES if name in metrics), *models]
    ]
    config: dict[str, Any] = {"classifier": classifier.description}
    if settings:
        config["settings"] = settings
    if key is not None:
        config["key"] = str(jax.random.key_data(key).tolist())
    document = results_document(
        rows,
        preset="",
        config=config,
        seconds=time.perf_counter() - started,
        timed="evaluation",
    )
    path = pathlib.Path(path)
    write(path / "results.json", document, references=False)
    write_report(
        path / "report.html",
        document,
        losses=losses_of(classifier, members, request, test, batch_size),
        per_class={
            method: np.stack([one.per_class["test"].accuracy for one in each])
            for method, each in found.items()
            if method != "ceiling"
        },
        pictures=pictures,
        title=title,
        forgotten=first.classes,
        references=False,
    )
    return document


def _members(
    classifier: Classifier, variables: Models, x: Array, name: str
) -> list[Variables]:
    """Return the members of one model, of a stack or of a list."""
    if isinstance(variables, list | tuple):
        return list(variables)
    if not isinstance(variables, Mapping) or "params" not in variables:
        raise TypeError(
            f"{name} must be variables such as {{'params': ...}}, of one model, "
            f"stacked over seeds or in a list; got {type(variables).__name__}."
        )
    key = jax.eval_shape(lambda: jax.random.key(0))
    expected = jax.eval_shape(classifier.init, key, x)["params"]
    given = jax.tree.leaves(variables["params"])
    pairs = zip(given, jax.tree.leaves(expected), strict=False)
    if all(np.shape(leaf) == like.shape for leaf, like in pairs):
        return [dict(variables)]
    sizes = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(variables)}
    if len(sizes) != 1 or sizes == {()}:
        raise ValueError(
            f"{name} must be variables of the classifier, or such stacked over seeds "
            f"(every leaf [S, ...]); its leaves begin with {sorted(sizes)}."
        )
    ((size,),) = sizes
    return [trees.take(dict(variables), i) for i in range(size)]


def losses_of(
    classifier: Classifier,
    members: Mapping[str, Sequence[Variables]],
    request: ForgetRequest,
    test: Examples,
    batch_size: int,
) -> dict[str, dict[str, np.ndarray]]:
    """Compute every model's losses on forgotten rows and on test rows like them, all
    seeds together; none where there are no such rows."""
    # No test row is one of those that a request for rows names.
    unseen = request.split(test)[0] if np.any(request.classes) else test
    found: dict[str, dict[str, np.ndarray]] = {method: {} for method in members}
    for half, examples in (("forget", request.forget), ("test", unseen)):
        there = np.flatnonzero(np.asarray(examples.weight))
        if not there.size:
            return {}
        x, y = examples.x[there], examples.y[there]
        for method, each in members.items():
            outputs = [
                logits(classifier, one, x, batch_size=batch_size) for one in each
            ]
            found[method][half] = np.concatenate(
                [losses.cross_entropy(one, y) for one in outputs]
            )
    return found
