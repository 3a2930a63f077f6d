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
from hyperforget_jax import inheritance, trees

SETTINGS: dict[str, Any] = {
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
    clients: int,
    rounds: int,
    rows: int,
    steps: int,
    weight_decay: float,
) -> list[tuple[str, str, bytes]]:
    """Draw a network before and after a request: title, caption and PNG.

    Args:
        recipe: of the classifiers.
        splits: training rows are shared out, test rows judge.
        classes: to be forgotten.
        directory: where the network is kept, to go on from if the run is stopped.
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
    graph = plan.graph
    models, retrained = (
        trees.take(each, 0)
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
    unlearner = inheritance.fiun(graph, classifier)
    state = unlearner.init(key_unlearn, models, plan.data(data))
    asked = plan.requests(request)
    state, _ = jax.jit(unlearner.unlearn)(key_unlearn, state, asked)

    forget, retain = request.split(splits.test)
    before, after, reference = (
        (_accuracies(classifier, each, forget), _accuracies(classifier, each, retain))
        for each in (models, state.variables, retrained)
    )
    figure = inheritance.draw(
        graph,
        dict(zip(graph.names, before[0], strict=True)),
        dict(zip(graph.names, after[0], strict=True)),
        roots=tuple(asked),
    )
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=150)
    named = "class " + "+".join(map(str, classes))
    held = np.count_nonzero(request.forget.weight)
    caption = (
        f"{clients} clients share {data.y.shape[0]:,} training rows, {held:,} of them "
        f"of {named}, and average their models {rounds} times. Nodes are models, with "
        f"their accuracy on test rows of {named}. hf.inheritance.fiun is asked at "
        f"{', '.join(asked)}, reads the forgotten rows that are there, and changes "
        f"all {len(graph.names)} models at once. Accuracy on "
        f"{named}, mean over models (highest): {_mean(before[0], max)} before, "
        f"{_mean(after[0], max)} after, {_mean(reference[0], max)} in the same network "
        f"retrained without it. On other classes, mean (lowest): "
        f"{_mean(before[1], min)}, {_mean(after[1], min)}, "
        f"{_mean(reference[1], min)}. One network, one seed: an illustration."
    )
    return [("A federated network, before and after", caption, image.getvalue())]


def _accuracies(classifier, models, examples) -> np.ndarray:
    """Of every node, in the order of their names, ``[M]``."""
    (stacked,) = models.values()
    there = np.flatnonzero(examples.weight)
    logits = hf.models.population_logits(classifier, stacked, examples.x[there])
    right = np.argmax(logits, -1) == np.asarray(examples.y)[None, there]
    return np.asarray(right).mean(-1)


def _mean(accuracies: np.ndarray, worst) -> str:
    return f"{accuracies.mean():.3f} ({worst(accuracies):.3f})"
