"""Projected-gradient unlearning: steps that the retained data do not notice."""

from typing import NamedTuple

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
from hyperforget_jax.forgotten import find
from hyperforget_jax.keys import as_threefry
from hyperforget_jax.methods.change import Change, change
from hyperforget_jax.methods.defaults import warn_of_driven_out
from hyperforget_jax.methods.pgu_config import PGUConfig
from hyperforget_jax.methods.pgu_losses import loss_of, target_log_probs
from hyperforget_jax.methods.pgu_optimise import optimise
from hyperforget_jax.models import predictions, warn_of_untapped
from hyperforget_jax.models.head import find_logits_layer
from hyperforget_jax.sharding import check_mesh
from hyperforget_jax.subspace import Projector, Spectrum, Store
from hyperforget_jax.subspace.projection import drift, relative_drift, without_free
from hyperforget_jax.subspace.store import (
    check_included,
    include,
    margins_of,
    remove,
)
from hyperforget_jax.training.fit import Augment

__all__ = ["PGUInfo", "PGUState", "pgu"]

_DEFAULTS = PGUConfig()


class PGUState(NamedTuple):
    """What projected-gradient unlearning carries between requests.

    Attributes:
        variables: the current model's variables.
        store: Gram matrices of every layer's inputs on the training data that are
            left, which examples those are, and their margins in the first model.
    """

    variables: Variables
    store: Store


class PGUInfo(NamedTuple):
    """How a request went.

    Attributes:
        loss: the mean over each round's minibatches, float32, ``[rounds]``; zero of a
            round that was not taken.
        forget_accuracy: before each round and after the last, float32,
            ``[rounds + 1]``; after the last round taken it stays as it was. None where
            it does not decide when to stop (``stop="never"``).
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
    forget_accuracy: Array | None
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
    config: PGUConfig = _DEFAULTS,
    *,
    probe: Examples | None = None,
    augment: Augment | None = None,
    epochs: int = 1,
    mesh: Mesh | None = None,
) -> Unlearner:
    """Step on the forget data alone, clear of what the retained data use.

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
        config: the settings; :meth:`PGUConfig.rows` for single rows that a network
            knows by heart, :meth:`PGUConfig.published` for those of the paper, and
            ``dataclasses.replace`` to change some.
        probe: held-out examples, read by ``init`` alone. With them, forgotten rows are
            to be predicted as held-out rows are. Without, their labels are driven out
            altogether: right for wrong labels, too much for right ones, and said by a
            warning. A class request always drives out the class. A jitted ``init`` that
            is given them too, ``init(key, variables, data, probe)``, has them as an
            argument, and not as constants.
        augment: as in training: ``(x, id, epoch) -> x``. It must depend on nothing
            else.
        epochs: how many augmented epochs the Gram matrices are summed over.
        mesh: where rows are split over devices, the mesh; see
            :func:`hyperforget_jax.subspace.measure`.

    Raises:
        ValueError, TypeError: a malformed probe, or one that holds training examples; a
            classifier without taps; and where values can be seen, examples that are not
            in the Gram matrices.

    Examples:
        >>> import jax
        >>> import optax
        >>> import hyperforget_jax as hf
        >>> train = hf.data.load("digits").train
        >>> classifier = hf.from_linen(hf.models.MLP((16,)))
        >>> keys = jax.random.split(jax.random.key(0), 3)
        >>> variables = hf.fit(keys[0], classifier, train, optax.adam(5e-3), 200)
        >>> unlearner = hf.pgu(classifier)
        >>> state = unlearner.init(keys[1], variables, train)
        >>> request = hf.forget_classes(train, [3])
        >>> state, info = jax.jit(unlearner.unlearn)(keys[2], state, request)
        >>> float(info.change.forget_accuracy)
        0.0

    References:
        Hoang et al., Learn to unlearn for deep neural networks: minimizing unlearning
        interference with gradient projection, arXiv 2312.04095, 2024.
    """
    checks.check_is_classifier(classifier)
    checks.check_is(
        PGUConfig, "a hf.PGUConfig, such as hf.PGUConfig.published()", config=config
    )
    checks.check_sizes(epochs=epochs)
    if mesh is not None:
        check_mesh(mesh, "examples")
    if probe is not None:
        checks.check_examples(probe, name="probe")
    held_out, batch_size = probe, config.batch_size
    measured = dict(augment=augment, epochs=epochs, batch_size=batch_size, mesh=mesh)

    def init(
        key: Array,
        variables: Variables,
        data: Examples,
        probe: Examples | None = held_out,
    ) -> PGUState:
        checks.check_key(key)  # Nothing here is random.
        checks.check_init(classifier, variables, data)
        if probe is not None and held_out is None:
            raise ValueError(
                "init was given a probe and hf.pgu none: give it to hf.pgu too, whose "
                "access says what is read."
            )
        if probe is not None:
            checks.check_held_out(data, probe)
        grams = subspace.measure(classifier, variables, data, **measured)
        warn_of_untapped(classifier, variables, data.x, "hf.pgu")

        def predicted(examples: Examples) -> tuple[Array, Array, Array]:
            logits = predictions.logits(
                classifier, variables, examples.x, batch_size=batch_size
            )
            return logits, examples.y, examples.weight

        included, order = include(data)
        logits, y, weight = (leaf[order] for leaf in predicted(data))
        unseen = None if probe is None else predicted(probe)
        margins = margins_of(logits, y, weight, unseen)
        return PGUState(variables, Store(grams, included, margins))

    def unlearn(key: Array, state: PGUState, request: ForgetRequest):
        key = as_threefry(key)
        checks.check_is(PGUState, "what init gave", state=state)
        variables, (grams, included, margins) = state
        params = variables["params"]
        checks.check_request(classifier, variables, request)
        check_included(included, request.forget)
        left, forget, refused = remove(included, request.forget)
        if held_out is None and config.objective in ("targets", "margins"):
            warn_of_driven_out("hf.pgu", request.classes, forget, included.weight)

        # Where parameters may move.
        gone = subspace.measure(classifier, variables, forget, **measured)
        grams = subspace.subtract(grams, gone)
        spectrum = subspace.decompose(
            grams if config.biases else subspace.without_bias(grams, params)
        )
        projector = _projector(config, spectrum, params)
        head = find_logits_layer(classifier, variables, forget.x)
        if config.free_columns and head is not None:
            projector = projector._replace(free={head: request.classes[None]})

        # What is to become of the predictions.
        is_class = jnp.any(request.classes)
        targets = target_log_probs(
            predictions.logits(classifier, variables, forget.x, batch_size=batch_size),
            forget.y,
            margins.rows[find(included.id, forget.id)[0]],
            margins,
            is_class,
            forget.weight,
            keep_spread=config.objective == "margins",
            forget_margin=config.forget_margin,
            shrink=config.shrink,
            temperature=config.temperature,
        )

        after = optimise(
            key,
            classifier,
            config,
            variables,
            forget,
            loss_of(config, forget.y, targets),
            jnp.where(is_class, 0, margins.accuracy),
            projector,
            gone,
        )
        step = jax.tree.map(jnp.subtract, after.variables["params"], params)
        step, protected = (
            without_free(projector, tree, grams) for tree in (step, params)
        )
        info = PGUInfo(
            after.loss,
            after.accuracy,
            after.rounds,
            drift(grams, step),
            relative_drift(grams, protected, step),
            jax.tree.map(
                lambda share: jnp.sum(share < 0.5, dtype=jnp.int32), projector.share
            ),
            spectrum.clipped,
            refused,
            after.failed_at,
            change(
                classifier, variables, after.variables, forget, batch_size=batch_size
            ),
        )
        # Nothing of an example that is gone.
        rows = jnp.where(left.weight > 0, margins.rows, 0)
        store = Store(grams, left, margins._replace(rows=rows))
        return PGUState(after.variables, store), info

    held = probe is not None
    # Whether requests for rows and for classes differ.
    differ = held or config.free_columns or config.objective == "margins"
    access = Access(
        init={"retain", "forget", "probe"} if held else {"retain", "forget"},
        unlearn={"forget", "classes"} if differ else {"forget"},
        remains="the Gram matrices, less the forgotten share; ids and quantiles of "
        "margins; normalisation statistics",
    )
    return Unlearner(init, unlearn, access)


def _projector(config: PGUConfig, spectrum: Spectrum, params) -> Projector:
    if config.rank == "soft":
        return subspace.soft_null_space(spectrum, config.threshold)
    if config.rank == "none":
        return Projector(spectrum.basis, jax.tree.map(jnp.ones_like, spectrum.values))
    kept = subspace.keep(spectrum, config.rank, config.threshold, params)
    return subspace.null_space(spectrum, kept)
