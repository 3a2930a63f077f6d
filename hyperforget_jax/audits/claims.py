"""What shadow models say, as audits take it: claims to judge, and pools to attack."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from hyperforget_jax import trees
from hyperforget_jax.audits.folder import Claim
from hyperforget_jax.audits.judge import KINDS, scaled_confidence
from hyperforget_jax.audits.pool import IN, OUT, Pool
from hyperforget_jax.audits.shadow import Shadows, rows_there
from hyperforget_jax.base import Classifier, Examples, ForgetRequest, Variables
from hyperforget_jax.models.predictions import population_logits

__all__ = ["histograms", "pose", "shadow_claim"]


def shadow_claim(
    classifier: Classifier,
    shadows: Shadows,
    unlearned: Variables,
    request: ForgetRequest,
    *,
    most: int | None = None,
) -> Claim:
    """Collect the logits of all models on what was to be forgotten.

    Of halves, two models that follow each other are one: for every example the one
    that was trained with it; retrained models are paired alike.

    Args:
        classifier: the model.
        shadows: made for ``request``.
        unlearned: what :func:`unlearn_shadows` gave, leaves ``[K, ...]``.
        request: likewise.
        most: examples at the most, the first ones; None for all.
    """
    there = np.flatnonzero(rows_there(request))[:most]
    forget = request.forget.take(jnp.asarray(there))
    included = shadows.included[:, there]
    models = {
        "original": shadows.original,
        "retrained": shadows.retrained,
        "unlearned": unlearned,
    }
    logits, kinds = [], []
    for kind in KINDS:
        found = np.asarray(population_logits(classifier, models[kind], forget.x))
        if not included.all():
            mask = included[np.arange(0, found.shape[0], 2) % included.shape[0]]
            found = np.where(mask[..., None], found[::2], found[1::2])
        logits.append(found)
        kinds += [kind] * found.shape[0]
    return Claim(np.concatenate(logits), np.asarray(forget.y), tuple(kinds))


def pose(
    classifier: Classifier,
    shadows: Shadows,
    posed: Variables,
    request: ForgetRequest,
    population: Examples,
    *,
    most: int | None = None,
) -> tuple[Pool, np.ndarray]:
    """Pose models as trained with their rows, against retrained ones.

    Whoever distinguishes them by :func:`hyperforget_jax.audits.lira`,
    :func:`hyperforget_jax.audits.rmia` and the like sees what the rows left behind.

    Args:
        classifier: the model.
        shadows: made for ``request``.
        posed: K models, such as the unlearned ones, the originals, or for the floor
            the second half of the retrained ones.
        request: likewise.
        population: examples that no model was trained with, for RMIA; those of weight
            zero are left out.
        most: examples at the most, the first ones; None for all.

    Returns:
        The pool of the posed models, of complementary ones the first halves before
        the second ones, and then the first K retrained models: :data:`IN` where a row
        is the posed model's own and else :data:`OUT`; and the confidences on
        ``population``, ``[2 K, Z]``.
    """
    count = shadows.included.shape[0]
    there = np.flatnonzero(rows_there(request))[:most]
    forget = request.forget.take(jnp.asarray(there))
    reference = trees.take(shadows.retrained, slice(count))
    present = np.flatnonzero(np.asarray(population.weight))
    population = population.take(jnp.asarray(present))

    def phi(examples):
        # Apart: a mask of classes is in the variables of some.
        logits = [
            np.asarray(population_logits(classifier, models, examples.x))
            for models in (posed, reference)
        ]
        return scaled_confidence(np.concatenate(logits), np.asarray(examples.y))

    world = np.full((2 * count, there.size), OUT, np.int8)
    world[:count][shadows.included[:, there]] = IN
    # Complementary models one stretch apart: groups of models that are left out have
    # as many of either world then (audits.held_out).
    step = 2 if not shadows.included[:, there].all() else 1
    posed_first = np.concatenate([np.arange(i, count, step) for i in range(step)])
    order = np.concatenate([posed_first, np.arange(count, 2 * count)])
    return Pool(phi(forget)[order], world[order]), phi(population)[order]


def histograms(claim: Claim, count: int = 4) -> list[dict[str, Any]]:
    """Count models by their confidence on the examples that training tells most about.

    Args:
        claim: with original models, or the first examples are taken.
        count: examples at the most.

    Returns:
        ``{"example", "edges", "original", "retrained", "unlearned"}`` each: the
        example's place, 25 edges, and how many models of a kind lie between two.
        Confidences are clipped to [-30, 30].
    """
    phi = np.clip(scaled_confidence(claim.logits, claim.labels), -30, 30)
    kinds = np.array(claim.kinds)
    parts = {kind: phi[kinds == kind] for kind in KINDS}
    gap = np.zeros(phi.shape[1])
    if parts["original"].size:
        gap = np.abs(parts["original"].mean(axis=0) - parts["retrained"].mean(axis=0))
    found = []
    for example in np.argsort(-gap, kind="stable")[:count].tolist():
        own = phi[:, example]
        edges = np.linspace(own.min(), own.max() + 1e-6, 25)
        counts = {
            kind: np.histogram(part[:, example], edges)[0].tolist()
            for kind, part in parts.items()
        }
        found.append({"example": example, "edges": edges.tolist(), **counts})
    return found
