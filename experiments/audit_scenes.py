"""What is to be forgotten in each scenario of the audits."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import recipes

import hyperforget_jax as hf
from hyperforget_jax import audits, inheritance, trees

SCENARIOS = (
    *("class", "subclass", "sequence", "inherited"),
    *("random", "memorised", "labels", "backdoor"),
)
# Answered by methods that know of classes alone.
OF_CLASSES = ("class", "sequence", "inherited")

CLASS = 3
# A sub-class is one of two that are one class to the classifier.
PAIRS = [(0, 1), (2, 3), (4, 5), (6, 7), (8, 9)]
# Of the training rows. Each model is to forget half of the candidates.
CANDIDATES, POISONED = 0.04, 0.02
# Trainings whose random halves of all rows tell what is memorised.
HALVES = 128
# Of the graph of models that inherit from each other.
NODES = 6


class Scene(NamedTuple):
    """A scenario.

    Attributes:
        name: its name.
        what: the request in words.
        request: what is to be forgotten.
        halves: whether each model has half of the request's rows.
        splits: the data.
        retained: held-out rows of what is retained.
        held_out: those of the forgotten kind; with a trigger they have the label that
            it calls up. None where there is no kind.
        in_turn: classes that are asked for one after another.
        plan: of models that inherit from each other. The training rows lie node by
            node, as many for each.
    """

    name: str
    what: str
    request: hf.ForgetRequest
    halves: bool
    splits: hf.data.Splits
    retained: hf.Examples
    held_out: hf.Examples | None = None
    in_turn: tuple[int, ...] = ()
    plan: inheritance.Plan | None = None


def make(
    name: str,
    recipe: recipes.Recipe,
    out: Path,
    *,
    halves: bool = True,
    held_out: Literal["probe", "test"] = "test",
    label: int = CLASS,
    seed: int = 11,
) -> Scene:
    """Make a scenario; what it must train for that is kept in ``out``.

    Args:
        name: of :data:`SCENARIOS`.
        recipe: the data, and how models are trained.
        out: a folder.
        halves: whether rows at random, or memorised ones, are candidates, of which each
            model is to forget half; or half as many are a request as others are.
        held_out: the split that held-out rows are from.
        label: the class, the sub-class, or the label that a trigger calls up.
        seed: of what is drawn.
    """
    splits, key = recipe.load(), jax.random.key(seed)
    count = round(CANDIDATES * np.count_nonzero(splits.train.weight))
    if name == "class":
        return _classes(splits, held_out, [label])._replace(name=name)
    if name == "sequence":
        labels = [(label + step) % 10 for step in (0, 2, 4, 6)]
        return _classes(splits, held_out, labels)._replace(in_turn=tuple(labels))
    if name == "inherited":
        return _inherited(key, splits, held_out, label)
    if name == "subclass":
        return _subclass(splits, held_out, label)
    if name == "labels":
        return _labels(key, splits, held_out, count // 20)
    if name == "backdoor":
        return _backdoor(key, splits, held_out, count // 2, label)
    asked = count if halves else count // 2
    if name == "random":
        request = hf.forget_random(key, splits.train, asked)
        what = "{} of the rows, drawn at random"
    else:
        rows = _memorised(key, recipe, splits.train, asked, out / "halves")
        request = hf.forget_rows(splits.train, rows)
        what = "the {} most memorised rows"
    what = what.format(f"{CANDIDATES if halves else CANDIDATES / 2:.0%}")
    if halves:
        what = f"a random half of {what}"
    judged = getattr(splits, held_out)
    return Scene(name, what, request, halves, splits, judged)


def _classes(splits: hf.data.Splits, held_out: str, labels: list[int]) -> Scene:
    request = hf.forget_classes(splits.train, labels)
    forgotten, retained = request.split(getattr(splits, held_out))
    what = f"class {labels[0]}"
    if len(labels) > 1:
        what = f"classes {', '.join(map(str, labels))}, one after another"
    return Scene("sequence", what, request, False, splits, retained, forgotten)


def _inherited(
    key: jax.Array, splits: hf.data.Splits, held_out: str, label: int
) -> Scene:
    active = jnp.flatnonzero(splits.train.weight)
    drawn = splits.train.take(active[: active.size - active.size % NODES])
    shared = inheritance.federated_dag(key, drawn)
    names, edges = shared.graph.names, shared.graph.edges
    # Node by node.
    order = np.nonzero(shared.rows)[1]
    data = drawn.take(jnp.asarray(order))
    rows = dict(zip(names, shared.rows[:, order], strict=True))
    return _classes(splits._replace(train=data), held_out, [label])._replace(
        name="inherited",
        what=f"class {label} of {NODES} models that inherit from each other",
        plan=inheritance.Plan.create(data, rows, edges),
    )


def _subclass(splits: hf.data.Splits, held_out: str, label: int) -> Scene:
    parts = {
        name: hf.data.merge_classes(split, PAIRS)
        for name, split in splits._asdict().items()
    }
    train, judged = parts["train"], parts[held_out]
    request = hf.forget_where(train.data, train.subclass == label, num_classes=10)
    weight, is_forgotten = judged.data.weight, judged.subclass == label
    return Scene(
        "subclass",
        f"sub-class {label} of a class of two",
        request,
        False,
        hf.data.Splits(**{name: part.data for name, part in parts.items()}),
        judged.data._replace(weight=jnp.where(is_forgotten, 0, weight)),
        judged.data._replace(weight=jnp.where(is_forgotten, weight, 0)),
    )


def _labels(
    key: jax.Array, splits: hf.data.Splits, held_out: str, per_class: int
) -> Scene:
    poisoned = hf.data.flip_labels(key, splits.train, per_class)
    return Scene(
        "labels",
        f"{len(poisoned.rows)} rows with wrong labels",
        hf.forget_rows(poisoned.data, poisoned.rows),
        False,
        splits._replace(train=poisoned.data),
        getattr(splits, held_out),
    )


def _backdoor(
    key: jax.Array, splits: hf.data.Splits, held_out: str, count: int, label: int
) -> Scene:
    train, judged = splits.train, getattr(splits, held_out)
    trigger = hf.data.corner_square(train)
    poisoned = hf.data.plant_trigger(key, train, count, label, trigger=trigger)
    triggered = judged._replace(
        x=trigger(judged.x),
        y=jnp.full_like(judged.y, label),
        weight=jnp.where(judged.y == label, 0, judged.weight),
    )
    return Scene(
        "backdoor",
        f"{POISONED:.0%} of the rows, with a trigger and the label {label}",
        hf.forget_rows(poisoned.data, poisoned.rows),
        False,
        splits._replace(train=poisoned.data),
        judged,
        triggered,
    )


def in_turn(unlearner: hf.Unlearner, labels: Sequence[int]) -> hf.Unlearner:
    """Answer a request for several classes as one request after another."""

    def unlearn(key, state, request):
        data, rows = request.data, request.rows
        own = data.y[jnp.minimum(rows, data.y.size - 1)]
        weights, parts = [], []
        for label in labels:
            weights.append(data.weight)
            parts.append(jnp.where(own == label, rows, data.y.size))
            data = data.without(parts[-1])
        asked = jnp.asarray(labels)[:, None] == jnp.arange(request.classes.size)
        stacked = hf.ForgetRequest(
            data._replace(weight=jnp.stack(weights)), jnp.stack(parts), asked
        )
        keys = jax.random.split(key, len(labels))
        states, infos = hf.unlearn_sequence(unlearner, keys, state, stacked)
        return trees.take(states, -1), trees.take(infos, -1)

    return hf.Unlearner(unlearner.init, unlearn, unlearner.access)


def shares(request: hf.ForgetRequest, size: int) -> hf.ForgetRequest:
    """Split a request among nodes: of each its own data and rows, stacked, ``[M]``."""
    data, rows = _stacked(request.data, size), jnp.asarray(request.rows)[None]
    own = data.y.shape[1]
    is_own = rows // own == jnp.arange(size)[:, None]
    return hf.ForgetRequest(
        data,
        jnp.where(is_own, rows % own, own),
        jnp.broadcast_to(request.classes, (size, request.classes.size)),
    )


def node_by_node(unlearner: hf.Unlearner, size: int) -> hf.Unlearner:
    """Let each node of a graph answer for its own share by a method for one model."""

    def init(key, variables, data):
        keys = jax.random.split(key, size)
        return jax.vmap(unlearner.init)(keys, variables, _stacked(data, size))

    def unlearn(key, state, request):
        keys = jax.random.split(key, size)
        state, info = jax.vmap(unlearner.unlearn)(keys, state, shares(request, size))
        if hasattr(info, "failed_at"):  # A graph fails where any of its nodes does.
            info = info._replace(failed_at=jnp.max(info.failed_at))
        return state, info

    return hf.Unlearner(init, unlearn, unlearner.access)


def at_roots(
    unlearner: hf.Unlearner, graph: inheritance.Graph, roots: Sequence[str]
) -> hf.Unlearner:
    """Let a graph of one architecture answer as a whole, asked at its roots."""
    (kind,), size = graph.architectures, len(graph.names)

    def init(key, variables, data):
        rows = jnp.arange(data.y.size).reshape(size, -1)
        network = inheritance.NetworkData(data, rows)
        state = unlearner.init(key, {kind: variables}, network)
        return state._replace(variables=state.variables[kind])

    def unlearn(key, state, request):
        state = state._replace(variables={kind: state.variables})
        own = shares(request, size)
        asked = {root: trees.take(own, graph.names.index(root)) for root in roots}
        state, info = unlearner.unlearn(key, state, asked)
        return state._replace(variables=state.variables[kind]), info

    return hf.Unlearner(init, unlearn, unlearner.access)


def _stacked(data, size: int) -> hf.Examples:
    """The rows of each node, ``[M, R]``, of rows that lie node by node."""
    return jax.tree.map(lambda leaf: leaf.reshape(size, -1, *leaf.shape[1:]), data)


def _memorised(key, recipe, train, count: int, directory: Path) -> np.ndarray:
    """Find the rows that are known from themselves and not from others."""
    key_halves, key_train = jax.random.split(key)
    rows = np.flatnonzero(np.asarray(train.weight))
    included = audits.complementary_halves(
        key_halves, np.ones(rows.size, bool), HALVES // 2
    )
    weights = np.zeros((HALVES, train.y.shape[0]), np.int32)
    weights[:, rows] = included
    models = recipe.train(
        key_train, train, HALVES, directory, jnp.asarray(weights)
    ).variables
    examples = train.take(rows)
    logits = hf.models.population_logits(recipe.classifier, models, examples.x)
    phi = audits.scaled_confidence(np.asarray(logits), np.asarray(examples.y))
    pool = audits.Pool(phi, included.astype(np.int8))
    # In the order of the table, or the first ones would be the most memorised.
    return np.sort(rows[audits.most_memorised(pool, count)])
