"""Projected-gradient unlearning: steps that the retained data do not notice."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from hyperforget_jax import checks, subspace
from hyperforget_jax.base import (
    Access,
    Array,
    Classifier,
    Examples,
    ForgetRequest,
    Unlearner,
    Variables,
)
from hyperforget_jax.keys import as_threefry
from hyperforget_jax.methods.change import Change, change
from hyperforget_jax.methods.pgu_recipe import Recipe, recipe
from hyperforget_jax.methods.pgu_rounds import descend_in_rounds
from hyperforget_jax.models import predictions, warn_of_untapped
from hyperforget_jax.models.head import logits_layer
from hyperforget_jax.sharding import check_mesh
from hyperforget_jax.subspace import Grams, Store, Subspace, projection
from hyperforget_jax.subspace.drift import drift, relative_drift
from hyperforget_jax.subspace.ledger import (
    check_held,
    ledger_of,
    order_of,
    places,
    strike,
)
from hyperforget_jax.subspace.margins import margins_of
from hyperforget_jax.training.fit import Augment

__all__ = ["PGUInfo", "PGUState", "pgu"]


class PGUState(NamedTuple):
    """What projected-gradient unlearning carries between requests.

    Attributes:
        variables: the current model's variables.
        store: Gram matrices of every layer's inputs on the training data that are
            left, which examples those are, and how the model once answered.
    """

    variables: Variables
    store: Store


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
        change: how much the model was changed.
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
    change: Change


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
    what is left is that of the retained data, and its main directions are protected in
    every layer.

    Layers without taps, normalisation parameters and statistics do not move. Gram
    matrices are of the model as it is when they are measured: where a request moves a
    layer's inputs, the next one's subtraction is off by as much. How far is
    ``info.relative_drift``, layer by layer; ``info.clipped`` tells gross errors alone.

    Args:
        classifier: the model, with taps.
        preset: ``"repaired"``, or ``"published"``: the published loss, rank rule,
            frozen biases and schedule, 99 passes at most. It stops at held-out accuracy
            where a ``probe`` is given, and for a class, or without a probe, when
            nothing forgotten is answered right. Departures: the rate decays by steps
            and not by passes, minibatches are shuffled and dropout is off, patches have
            the layer's true strides, ``k`` is without the ``+ 1`` of the code for
            classes (which stops for retained accuracy alone), and the accuracy that
            stops is that of the present request.
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
            a malformed probe, or one that holds training examples; a classifier without
            taps; and where values can be seen, examples that are
            not in the Gram matrices.

    References:
        Hoang et al., Learn to unlearn for deep neural networks: minimizing unlearning
        interference with gradient projection, arXiv 2312.04095, 2024. ``"repaired"`` is
        not in it.
    """
    checks.check_is_classifier(classifier)
    checks.check_sizes(passes=passes)
    how = recipe(preset, **changes)
    if mesh is not None:
        check_mesh(mesh, "examples")
    if probe is not None:
        checks.check_examples(probe, name="probe")

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
        checks.check_key(key)  # Nothing here is random.
        checks.check_init(classifier, variables, data)
        if probe is not None:
            checks.check_held_out(data, probe)
        grams = measure(variables, data)
        if not grams.values:
            raise ValueError(
                f"The classifier ({classifier.description}) has no layer whose inputs "
                "are known: hf.pgu could not move anything."
            )
        warn_of_untapped(classifier, variables, data.x, "hf.pgu")

        def answers(examples: Examples) -> tuple[Array, Array, Array]:
            logits = predictions.logits(
                classifier, variables, examples.x, batch_size=how.batch_size
            )
            return logits, examples.y, examples.weight

        order = order_of(data)
        logits, y, weight = (leaf[order] for leaf in answers(data))
        held_out = None if probe is None else answers(probe)
        margins = margins_of(logits, y, weight, held_out)
        return PGUState(variables, Store(grams, ledger_of(data), margins))

    def unlearn(key: Array, state: PGUState, request: ForgetRequest):
        key = as_threefry(key)
        checks.check_is(PGUState, "what init gave", state=state)
        variables, store = state
        checks.check_request(classifier, variables, request)
        check_held(store.ledger, request.forget)
        ledger, forget, refused = strike(store.ledger, request.forget)
        forgotten = measure(variables, forget)
        left = subspace.subtract(store.grams, forgotten)
        kept = left if how.biases else subspace.without_bias(left, variables["params"])
        spectrum = subspace.decompose(kept)
        room, protected = _room(how, spectrum, variables["params"])
        head = _head(classifier, variables, forget.x)
        if how.free_columns and head is not None:
            room = room._replace(free={head: request.classes[None]})
        is_class = jnp.any(request.classes)
        changed, curves, rounds, failed_at = descend_in_rounds(
            key,
            classifier,
            how,
            variables,
            forget,
            is_class,
            store.margins.rows[places(store.ledger, forget)],
            store.margins,
            forgotten,
            room,
        )
        before = variables["params"]
        step = jax.tree.map(jnp.subtract, changed["params"], before)
        moved = projection.protected(room, step, left)
        info = PGUInfo(
            *curves,
            rounds,
            drift(left, moved),
            relative_drift(left, projection.protected(room, before, left), moved),
            protected,
            spectrum.clipped,
            refused,
            failed_at,
            change(classifier, variables, changed, forget, batch_size=how.batch_size),
        )
        # Nothing of an example that is gone.
        rows = jnp.where(ledger.weight > 0, store.margins.rows, 0)
        margins = store.margins._replace(rows=rows)
        return PGUState(changed, Store(left, ledger, margins)), info

    held = probe is not None  # Then rows and classes are different requests.
    access = Access(
        init={"retain", "forget", "probe"} if held else {"retain", "forget"},
        unlearn={"forget", "classes"} if held or how.free_columns else {"forget"},
        remains="the Gram matrices, less the forgotten share; ids and quantiles of "
        "margins; normalisation statistics",
    )
    return Unlearner(init, unlearn, access)


def _head(classifier: Classifier, variables: Variables, x: Array) -> str | None:
    """The dense layer whose outputs are the logits, if there is one."""
    if classifier.tapped is None:
        return None
    row = jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype)
    _, taps = jax.eval_shape(classifier.tapped, variables, row, {})
    return logits_layer(taps)


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
