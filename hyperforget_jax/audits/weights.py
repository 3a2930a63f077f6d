"""The audits that need the models themselves, on all models of a request at once."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from hyperforget_jax import checks, trees
from hyperforget_jax.audits.inversion import invert, recognised
from hyperforget_jax.audits.neighbours import neighbour_auc
from hyperforget_jax.audits.probe import linear_probe
from hyperforget_jax.audits.quantisation import FORMATS, quantised_scores
from hyperforget_jax.audits.relearning import draw_by_class, few_shot_relearning
from hyperforget_jax.base import Array, Classifier, Examples, ForgetRequest, Variables
from hyperforget_jax.keys import as_threefry
from hyperforget_jax.models.classifier import unmasked
from hyperforget_jax.models.predictions import population_logits

__all__ = ["weight_audits"]

_SHOTS = (1, 5, 10)
_INVERSIONS = 8
# Rows of each class that a probe is fitted to, and of which few shots are drawn.
_LABELLED = 100
# Forgotten rows of each class that models are measured on: means of so many are known
# better than models differ.
_MEASURED = 200


def weight_audits(
    key: Array,
    classifier: Classifier,
    models: Mapping[str, Variables],
    request: ForgetRequest,
    held_out: Examples | None = None,
) -> dict[str, dict[str, list[float]]]:
    """Audit populations of models through their weights.

    What a number says is its distance from that of the retrained models. Of every
    population, with one number a model:

    - ``forget_accuracy``, ``forget_phi``: on the forgotten training examples, and after
      rounding ``_bfloat16`` and ``_int8``: :func:`quantised_scores`.
    - ``few_shot_1``, ``_5``, ``_10``: accuracy on ``held_out`` after
      :func:`few_shot_relearning`.
    - ``probe``: accuracy of :func:`linear_probe` on ``held_out``.
    - ``inversion``, of class requests: the share of inputs of :func:`invert` that an
      original model answers by the forgotten class. The judge of the i-th model is the
      next original after the i-th, so that of two or more none judges itself or what
      was unlearned from it.
    - ``neighbours``, of class requests: :func:`neighbour_auc` against one half of the
      retrained models; of these, the other half is posed as unlearned. As many models
      are taken as a half has.

    Args:
        key: a typed key, consumed; what is drawn is the same for every population.
        classifier: the model.
        models: stacked variables by name, every leaf ``[P, ...]``: ``"original"``,
            ``"retrained"`` and any number of unlearned ones, the i-th of them from the
            i-th original. P may differ.
        request: what was forgotten, with the data it is to be forgotten from.
        held_out: examples of the forgotten kind that nobody was trained with, such as
            the test rows of a class or other inputs with a backdoor's trigger. None
            where there is no such kind: single rows.

    Returns:
        ``{name of a population: {audit: a number a model}}``. Audits for which data or
        models are missing are left out.

    Raises:
        TypeError: no classifier, key, request or dictionaries of variables.
        ValueError: no original or retrained models, variables that do not fit, models
            that diverged, or held-out examples that were trained with; with held-out
            examples, a classifier whose last layer is not one dense layer.
    """
    key = as_threefry(key)
    counts = _checked(classifier, models, request, held_out)
    num_classes = request.classes.shape[0]
    keys = dict(
        zip(
            ("forget", "held_out", "labelled", "pool", "shots", "inversion"),
            jax.random.split(key, 6),
            strict=True,
        )
    )

    def some(name, examples, count):
        return _there(draw_by_class(keys[name], examples, count, num_classes))

    forget = some("forget", request.forget, _MEASURED)
    found: dict[str, dict] = {name: {} for name in models}
    for name, stacked in models.items():
        for form in (None, *FORMATS):
            suffix = f"_{form}" if form else ""
            scores = quantised_scores(classifier, stacked, forget, form)
            found[name][f"forget_accuracy{suffix}"] = scores.accuracy
            found[name][f"forget_phi{suffix}"] = scores.phi
        bad = ~np.isfinite(found[name]["forget_phi"])
        if bad.any():
            raise ValueError(
                f"models[{name!r}] have no finite logits at {np.flatnonzero(bad)}: "
                "leave out models that diverged."
            )
    # From here on the attacker holds the weights. Undone here, so that models with a
    # mask and without share compilations.
    bare = {name: unmasked(stacked) for name, stacked in models.items()}
    if held_out is not None:
        held_out = some("held_out", held_out, _MEASURED)
        labelled = some("labelled", request.data, _LABELLED)
        # To sort a large table for every model would take longer than the attack.
        pools = [
            some("pool", half, _LABELLED) for half in (request.forget, request.retain)
        ]
        for name, stacked in bare.items():
            for shots in _SHOTS:
                found[name][f"few_shot_{shots}"] = few_shot_relearning(
                    keys["shots"],
                    classifier,
                    stacked,
                    *pools,
                    held_out,
                    shots=shots,
                )
            found[name]["probe"] = linear_probe(classifier, stacked, labelled, held_out)
    classes = np.asarray(request.classes)
    floating = jnp.issubdtype(forget.x.dtype, jnp.floating)
    if classes.any() and counts["original"] > 1 and floating:
        labels = jnp.asarray(np.resize(np.flatnonzero(classes), _INVERSIONS), jnp.int32)
        for name, stacked in bare.items():
            images = invert(
                keys["inversion"], classifier, stacked, request.retain, labels
            )
            others = (np.arange(counts[name]) + 1) % counts["original"]
            judges = trees.take(bare["original"], others)
            found[name]["inversion"] = recognised(classifier, judges, images, labels)
    if classes.any() and (~classes).sum() > 1 and counts["retrained"] > 3:
        logits = {
            name: np.asarray(population_logits(classifier, stacked, forget.x))
            for name, stacked in models.items()
        }
        for name, values in _neighbours(logits, classes).items():
            found[name]["neighbours"] = values
    return {
        name: {audit: np.asarray(values).tolist() for audit, values in each.items()}
        for name, each in found.items()
    }


def _neighbours(logits: Mapping[str, np.ndarray], classes: np.ndarray):
    """The AUC of every model that is posed as unlearned, by name of its population."""
    half = len(logits["retrained"]) // 2
    reference = logits["retrained"][:half]
    for_each = {**logits, "retrained": logits["retrained"][half:]}
    found = {}
    for name, posed in for_each.items():
        side = min(half, len(posed))
        if side > 1:
            found[name] = neighbour_auc(posed[:side], reference[:side], classes)
    return found


def _there(examples: Examples) -> Examples:
    """The rows that weigh: what is absent is not to be computed for every model."""
    return examples.take(jnp.flatnonzero(examples.weight))


def _checked(classifier, models, request, held_out) -> dict[str, int]:
    """Raise unless everything fits together; return how many models each name has."""
    checks.check_is_classifier(classifier)
    checks.check_is_request(request)
    for kind in ("original", "retrained"):
        if kind not in models:
            raise ValueError(
                f"models must hold {kind} models, got {', '.join(models) or 'none'}: "
                "what an audit finds is read beside them."
            )
    forget, _ = request.forget, request.retain  # Or they say what is missing.
    counts = {}
    for name, stacked in models.items():
        checks.check_variables_given(stacked)
        sizes = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(stacked)}
        if len(sizes) != 1 or () in sizes:
            raise ValueError(
                f"The variables of models[{name!r}] must be stacked, every leaf "
                f"[P, ...] with the same P, got first axes {sorted(sizes)}: "
                "hf.fit_population and vmap give such, hf.trees.stack makes them."
            )
        (counts[name],) = sizes.pop()
        checks.check_classifier(
            classifier,
            trees.take(stacked, 0),
            forget.x,
            num_classes=request.classes.shape[0],
            name=f"models[{name!r}]",
        )
    if held_out is not None:
        checks.check_examples(
            held_out, num_classes=request.classes.shape[0], name="held_out"
        )
        checks.check_held_out(request.data, held_out, "held_out")
    return counts
