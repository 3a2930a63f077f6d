"""A small federated network that forgets a class, for the quickstart's report.

One network and one training seed: a picture of what happens, and no result.
``fiun.py`` is the study.
"""

import io
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from recipes import Recipe

import hyperforget_jax as hf
from hyperforget_jax import inheritance

SETTINGS: dict[str, Any] = {
    "rule": "repaired",
    "clients": 3,
    "rounds": 2,
    "rows": 6_000,
    "steps": 200,
    "weight_decay": 0.3,
}


def network_pictures(
    recipe: Recipe,
    splits: hf.data.Splits,
    classes: tuple[int, ...],
    directory: Path,
    *,
    rule: str,
    clients: int,
    rounds: int,
    rows: int,
    steps: int,
    weight_decay: float,
) -> list[tuple[str, str, bytes]]:
    """Pictures of a network before and after a request: title, caption and PNG.

    Args:
        recipe: of the classifiers.
        splits: training rows are shared out, test rows judge.
        classes: to be forgotten.
        directory: where the network is kept, to go on from if the run is stopped.
        rule: how :func:`hyperforget_jax.inheritance.unlearn` answers.
        clients: how many average their models.
        rounds: how often.
        rows: how many training rows are shared out at most.
        steps: of training at every node.
        weight_decay: weaker than the recipe's, since every node goes on from another.
    """
    key_plan, key_train, key_unlearn = jax.random.split(jax.random.key(4), 3)
    classifier = recipe.classifier
    data = splits.train.take(jnp.arange(min(rows, splits.train.y.shape[0])))
    plan = inheritance.federated_averaging(
        key_plan, data, rounds=rounds, client_sizes=[1] * clients
    )
    request = hf.forget_classes(data, classes)
    schedule = optax.cosine_decay_schedule(recipe.learning_rate, steps)
    graph, retrained = (
        jax.tree.map(lambda leaf: leaf[0], each)
        for each in inheritance.train_networks(
            key_train[None],
            classifier,
            data,
            [plan, plan.without(request)],
            optax.adamw(schedule, weight_decay=weight_decay),
            steps,
            batch_size=recipe.batch_size,
            directory=directory,
        )
    )
    how = inheritance.rule(rule)
    graph = inheritance.register(graph, classifier, data, plan, how)
    asked = {root: plan.request_at(request, root) for root in plan.roots(request)}
    unlearned, _ = inheritance.unlearn(key_unlearn, graph, classifier, asked, how)

    forget, retain = request.split(splits.test)
    before, after, gold = (
        (_accuracies(classifier, each, forget), _accuracies(classifier, each, retain))
        for each in (graph, unlearned, retrained)
    )
    figure = inheritance.draw(
        unlearned,
        dict(zip(graph.names, before[0], strict=True)),
        dict(zip(graph.names, after[0], strict=True)),
    )
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=150)
    named = "class " + "+".join(map(str, classes))
    held = np.count_nonzero(request.forget.weight)
    caption = (
        f"{clients} clients share {data.y.shape[0]:,} training rows, {held:,} of them "
        f"of {named}, and average their models {rounds} times. Nodes are models, with "
        f"their accuracy on test rows of {named}. hf.inheritance.unlearn (rule "
        f"{rule!r}) is asked at {', '.join(asked)}, reads the forgotten rows that are "
        f"there, and changes all {len(graph.names)} models at once. Accuracy on "
        f"{named}, mean over models (highest): {_mean(before[0], max)} before, "
        f"{_mean(after[0], max)} after, {_mean(gold[0], max)} in the same network "
        f"retrained without it. On other classes, mean (lowest): "
        f"{_mean(before[1], min)}, {_mean(after[1], min)}, {_mean(gold[1], min)}. One "
        "network, one seed: an illustration."
    )
    return [("A federated network, before and after", caption, image.getvalue())]


def _accuracies(classifier, graph, examples) -> np.ndarray:
    """Of every node, in the order of their names, ``[M]``."""
    (models,) = graph.models.values()
    there = np.flatnonzero(examples.weight)
    logits = hf.models.population_logits(
        classifier, models.variables, examples.x[there]
    )
    right = np.argmax(logits, -1) == np.asarray(examples.y)[None, there]
    return np.asarray(right).mean(-1)


def _mean(accuracies: np.ndarray, worst) -> str:
    return f"{accuracies.mean():.3f} ({worst(accuracies):.3f})"
