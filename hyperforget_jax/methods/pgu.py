"""Projected-gradient unlearning: steps that the retained data do not notice."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.sharding import Mesh

from hyperforget_jax import checks, losses, subspace
from hyperforget_jax.base import (
    Access,
    Array,
    Classifier,
    Examples,
    ForgetRequest,
    Unlearner,
    Variables,
)
from hyperforget_jax.methods.pgu_recipe import Recipe, recipe
from hyperforget_jax.methods.pgu_targets import (
    Margins,
    guess,
    margins_of,
    published_loss,
    target_loss,
)
from hyperforget_jax.subspace import Grams, Store, Subspace
from hyperforget_jax.training import descent
from hyperforget_jax.training.fitting import Augment
from hyperforget_jax.training.minibatches import pass_length

__all__ = ["PGUInfo", "PGUState", "pgu"]


class PGUState(NamedTuple):
    """What projected-gradient unlearning carries between requests.

    Attributes:
        variables: the current model's variables.
        store: Gram matrices of every layer's inputs on the training data that are
            left, and which examples those are.
        margins: how the model answered the training and held-out data at ``init``.
    """

    variables: Variables
    store: Store
    margins: Margins


class PGUInfo(NamedTuple):
    """How a request went.

    Attributes:
        loss: on the forget data before each round, float32, ``[rounds + 1]``; after the
            last round taken it stays as it was.
        forget_accuracy: likewise.
        rounds: how many were taken, int32, ``[]``.
        drift: by layer, the mean squared change of its outputs on the retained data,
            inputs held fixed, float32, ``[]``: the data-free certificate. Of the head,
            those of forgotten classes are left out where they are not protected.
        relative_drift: its root as a share of the outputs' own.
        protected: by layer, how many directions were, int32, ``[]``.
        clipped: by layer, as in :class:`hyperforget_jax.subspace.Spectrum`.
        refused: how many examples were not in the Gram matrices (any more): they are
            not taken out of them, and not forgotten, int32, ``[]``.
        failed_at: the step whose loss or update was not finite, int32, ``[]``; -1 if
            none. From there on the model stays as it was.
    """

    loss: Array
    forget_accuracy: Array
    rounds: Array
    drift: dict[str, Array]
    relative_drift: dict[str, Array]
    protected: dict[str, Array]
    clipped: dict[str, Array]
    refused: Array
    failed_at: Array


def pgu(
    classifier: Classifier,
    preset: str = "repaired",
    *,
    probe: Examples | None = None,
    augment: Augment | None = None,
    passes: int = 1,
    mesh: Mesh | None = None,
    **changes: Any,
) -> Unlearner:
    """Steps on the forget data alone, clear of what the retained data use.

    ``init`` sums the Gram matrix of every layer's inputs over the training data, which
    may then be thrown away. A request's own Gram matrices are subtracted from them:
    what is left is exactly that of the retained data, and its main directions are
    protected in every layer.

    Layers without taps, normalisation parameters and statistics do not move. Gram
    matrices are of the model as it is when they are measured: where a request moves a
    layer's inputs, the next one's subtraction is off by as much, and ``info.clipped``
    and ``info.relative_drift`` tell.

    Args:
        classifier: the model, with taps.
        preset: ``"repaired"``, or ``"published"``: the published loss, rank rule,
            frozen biases and schedule; it stops at held-out accuracy where a ``probe``
            is given, else when nothing forgotten is answered right.
        probe: held-out examples, read by ``init`` alone. With them, forgotten rows are
            to be answered as held-out rows are. Without, their labels are driven out
            altogether: right for wrong labels, and too much for right ones. A class
            request always drives out the class.
        augment: as in training: ``(x, id, pass) -> x``. It must depend on nothing else.
        passes: how many augmented passes the Gram matrices are summed over.
        mesh: where rows are split over devices, the mesh; see
            :func:`hyperforget_jax.subspace.measure`.
        **changes: any attribute of
            :class:`hyperforget_jax.methods.pgu_recipe.Recipe`.

    Raises:
        ValueError, TypeError: as for :func:`hyperforget_jax.methods.pgu_recipe.recipe`;
            a classifier without taps; and where values can be seen, examples that are
            not in the Gram matrices.

    References:
        Hoang et al., Learn to unlearn for deep neural networks: minimizing unlearning
        interference with gradient projection, arXiv 2312.04095, 2024. ``"repaired"`` is
        not in it.
    """
    how = recipe(preset, **changes)

    def measure(variables: Variables, data: Examples) -> Grams:
        return subspace.measure(
            classifier,
            variables,
            data,
            augment=augment,
            passes=passes,
            batch_size=how.batch_size,
            mesh=mesh,
        )

    def init(key: Array, variables: Variables, data: Examples) -> PGUState:
        del key  # Nothing here is random.
        grams = measure(variables, data)
        if not grams.values:
            raise ValueError(
                f"The classifier ({classifier.description}) has no layer whose inputs "
                "are known: hf.pgu could not move anything."
            )
        store = Store(grams, subspace.ledger_of(data))

        def answers(examples: Examples) -> Array:
            logits = _forward(classifier, variables, examples.x, how.batch_size)
            return losses.margin(logits, examples.y)

        unseen = None if probe is None else answers(probe)
        margins = margins_of(answers(data), data.weight, unseen)
        return PGUState(variables, store, margins)

    def unlearn(key: Array, state: PGUState, request: ForgetRequest):
        variables, store, margins = state
        checks.check_request(classifier, variables, request)
        subspace.check_held(store.ledger, request.forget)
        ledger, forget, refused = subspace.strike(store.ledger, request.forget)
        forgotten = measure(variables, forget)
        left = subspace.subtract(store.grams, forgotten)
        kept = left if how.biases else subspace.without_bias(left, variables["params"])
        spectrum = subspace.decompose(kept)
        room, protected = _room(how, spectrum, variables["params"])
        head = _head(classifier, variables, forget.x)
        if how.free_columns and head is not None:
            room = room._replace(free={head: request.classes[None]})
        is_class = jnp.any(request.classes)
        changed, curves, rounds, failed_at = _descend(
            key,
            classifier,
            how,
            variables,
            forget,
            is_class,
            margins,
            left,
            forgotten,
            room,
        )
        before = variables["params"]
        moved = subspace.protected(
            room, jax.tree.map(jnp.subtract, changed["params"], before)
        )
        info = PGUInfo(
            *curves,
            rounds,
            subspace.drift(left, moved),
            subspace.relative_drift(left, before, moved),
            protected,
            spectrum.clipped,
            refused,
            failed_at,
        )
        return PGUState(changed, Store(left, ledger), margins), info

    held = probe is not None  # Then rows and classes are different requests.
    access = Access(
        init={"retain", "forget", "probe"} if held else {"retain", "forget"},
        unlearn={"forget", "classes"} if held or how.free_columns else {"forget"},
        remains="the Gram matrices, less the forgotten share; normalisation statistics",
    )
    return Unlearner(init, unlearn, access)


def _head(classifier: Classifier, variables: Variables, x: Array) -> str | None:
    """The dense layer whose outputs are the logits, if there is one."""
    if classifier.tapped is None:
        return None
    row = jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype)
    _, taps = jax.eval_shape(classifier.tapped, variables, row, {})
    for path, calls in taps.items():
        if calls[-1].gives_logits and calls[-1].kind == "dense":
            return path
    return None


def _room(how: Recipe, spectrum, params) -> tuple[Subspace, dict[str, Array]]:
    """Where parameters may move, and how many directions of a layer are protected."""
    if how.rank == "soft":
        room = subspace.soft_complement(spectrum, how.threshold)
    elif how.rank == "none":
        ones = jax.tree.map(jnp.ones_like, spectrum.values)
        room = Subspace(spectrum.basis, ones)
    else:
        kept = subspace.keep(spectrum, how.rank, how.threshold, params)
        room = subspace.complement(spectrum, kept)
    protected = jax.tree.map(
        lambda share: jnp.sum(share < 0.5, dtype=jnp.int32), room.share
    )
    return room, protected


def _descend(
    key: Array,
    classifier: Classifier,
    how: Recipe,
    variables: Variables,
    forget: Examples,
    is_class: Array,
    margins: Margins,
    grams: Grams,
    forgotten: Grams,
    room: Subspace,
):
    """Rounds of steps, each looked at before the next.

    Returns:
        The variables, loss and forget accuracy by round, the number of rounds, and
        the step that failed.
    """
    start = variables["params"]

    def forward(variables: Variables) -> Array:
        return _forward(classifier, variables, forget.x, how.batch_size)

    targets = guess(
        forward(variables),
        forget.y,
        margins,
        is_class,
        out=how.out,
        shrink=how.shrink,
        temperature=how.temperature,
    )
    # The loop draws rows by id: here an id is a row of the targets.
    rows = forget._replace(id=jnp.arange(forget.id.shape[0], dtype=jnp.int32))
    answered = jnp.mean((margins.unseen > 0).astype(jnp.float32))
    accuracy_wanted = jnp.where(is_class, 0, answered)

    def loss(logits: Array, y: Array, id: Array) -> Array:
        if how.objective == "targets":
            return target_loss(logits, targets[id])
        return published_loss(logits, y, how.offset, how.entropy)

    def model(trained: Any) -> Variables:
        if how.optimizer == "coordinates":
            trained = subspace.from_coordinates(room, start, trained)
        return {**variables, "params": trained}

    def loss_fn(key, trained, batches):
        del key  # Evaluation mode draws nothing.
        examples = batches[0].examples
        logits = classifier.apply(model(trained["params"]), examples.x)
        values = loss(logits, examples.y, examples.id)
        return losses.weighted_mean(values, examples.weight), trained

    steps = how.round_steps or pass_length(forget.y.shape[0], how.batch_size)
    last_step = max(how.rounds * steps - 1, 1)

    def rate(step):  # optax.exponential_decay takes no tracers.
        return how.learning_rate * (how.end_rate / how.learning_rate) ** (
            step / last_step
        )

    optimizer = _optimizer(how.optimizer, rate, room, forgotten)
    trained = start
    if how.optimizer == "coordinates":
        trained = subspace.to_coordinates(room, start)
    begun = descent.start({"params": trained}, optimizer)

    def look(state: descent.DescentState) -> tuple[Array, Array]:
        logits = forward(model(state.variables["params"]))
        right = (jnp.argmax(logits, -1) == forget.y).astype(jnp.float32)
        return (
            losses.weighted_mean(loss(logits, forget.y, rows.id), forget.weight),
            losses.weighted_mean(right, forget.weight),
        )

    def done(value: Array, accuracy: Array) -> Array:
        if how.stop == "accuracy":
            return accuracy <= accuracy_wanted
        if how.stop == "targets":
            return value <= how.tolerance
        return jnp.zeros((), bool)

    def one_round(carry, number):
        state, going, value, accuracy = carry

        def go(state):
            new, _ = descent.descend(
                key,
                loss_fn,
                state,
                (rows,),
                optimizer,
                steps=steps,
                batch_size=how.batch_size,
                first_step=number * steps,
            )
            return new, *look(new)

        def stay(state):
            return state, value, accuracy

        new, new_value, new_accuracy = lax.cond(going, go, stay, state)
        after = model(new.variables["params"])["params"]
        change = subspace.protected(room, jax.tree.map(jnp.subtract, after, start))
        drifts = subspace.relative_drift(grams, start, change)
        moved = jnp.stack(list(drifts.values()))
        within = jnp.max(moved) <= how.max_drift
        stopped = done(new_value, new_accuracy)
        # Of the two rounds beside the mark, the nearer one.
        nearer = True
        if how.stop == "accuracy":
            nearer = jnp.abs(new_accuracy - accuracy_wanted) <= jnp.abs(
                accuracy - accuracy_wanted
            )
        take = going & within & (~stopped | nearer)
        state, value, accuracy = jax.tree.map(
            lambda new, old: jnp.where(take, new, old),
            (new, new_value, new_accuracy),
            (state, value, accuracy),
        )
        carry = state, going & within & ~stopped, value, accuracy
        return carry, (value, accuracy, take)

    value, accuracy = look(begun)
    first = begun, ~done(value, accuracy), value, accuracy
    (last, *_), (values, accuracies, taken) = lax.scan(
        one_round, first, jnp.arange(how.rounds, dtype=jnp.int32)
    )
    curves = (
        jnp.concatenate([value[None], values]),
        jnp.concatenate([accuracy[None], accuracies]),
    )
    changed = model(last.variables["params"])
    return changed, curves, jnp.sum(taken, dtype=jnp.int32), last.failed_at


def _optimizer(
    name: str, rate: Any, room: Subspace, forgotten: Grams
) -> optax.GradientTransformation:
    if name == "coordinates":
        return optax.adam(rate)
    projection = subspace.project_out(room)
    if name == "adam":
        # Before Adam too, lest its second moments be those of directions thrown away.
        return optax.chain(projection, optax.adam(rate), projection)
    if name == "sgd":
        return optax.chain(optax.sgd(rate), projection)
    return optax.chain(optax.sgd(rate), subspace.by_room(room, forgotten), projection)


def _forward(
    classifier: Classifier, variables: Variables, x: Array, batch_size: int
) -> Array:
    """Logits, in microbatches: memory is bounded whatever a request holds."""
    return lax.map(
        lambda row: classifier.apply(variables, row[None])[0], x, batch_size=batch_size
    )
