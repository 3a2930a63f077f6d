"""Forgetting with a hypernetwork: a new model, sampled from the classes to forget."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from hyperforget_jax import checks, hypernet, subspace, trees
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
from hyperforget_jax.methods.dihyfo_checks import (
    check_classes,
    check_fitting,
    check_norm,
    check_rows_of_classes,
    check_state,
    checked_prompt,
    checked_protect,
    norm_ratio,
)
from hyperforget_jax.methods.dihyfo_choice import choose
from hyperforget_jax.models.head import find_logits_layer

__all__ = ["DiHyFoInfo", "DiHyFoState", "dihyfo"]

# Factors on ``scale``, tried in turn.
_RAISED = (1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0)


class DiHyFoState(NamedTuple):
    """The model, and the hypernetwork's parameters that can change it.

    Attributes:
        variables: the current model's variables.
        hypernet_params: the hypernetwork's parameters.
        forgotten: the classes forgotten so far, bool, ``[C]``.
        probe: held-out rows to choose and to report by, or None.
        grams: what every layer is given, by class, of the training data in the model
            that ``init`` got; None where nothing is protected.
    """

    variables: Variables
    hypernet_params: hypernet.HypernetParams
    forgotten: Array
    probe: Examples | None
    grams: subspace.Grams | None


class DiHyFoInfo(NamedTuple):
    """Diagnostics of one request.

    Attributes:
        prompt: the loss that was asked for on every class, nats, ``[C]``. Where several
            classes are forgotten one by one, each was asked for with its own profile.
        achieved: the loss of the chosen sample on every class of the probe, ``[C]``,
            zero for classes that the probe lacks; None without a probe.
        forgotten_accuracy: of every sample, ``best_of`` at each scale that was tried,
            the mean over the forgotten classes of the probe, ``[n]``, NaN if it is not
            finite; None without a probe.
        retained_accuracy: likewise, over the retained classes.
        left: likewise, the share of a forgotten class, of the worst one, that another
            row of it would still be recognised with, as the margins of the probe's tell
            (their logits are taken to be normal).
        chosen: which sample was kept, int32, ``[]``.
        scale: of the change that was kept, or of the one that forgets most where all
            were refused; in the generate mode what was given, to no effect.
        norm_ratio: the norm of all parameters of the model at hand over the nearest of
            those of the zoo's starts, ``[]``: 1 between them. None in the generate
            mode, which does not read the model.
        refused: whether the model stayed as it was, because the request named no class,
            or in the edit mode only classes of ``state.forgotten``, because too much
            was left at every scale, or because no sample was finite.
        change: how much the model was changed.
    """

    prompt: Array
    achieved: Array | None
    forgotten_accuracy: Array | None
    retained_accuracy: Array | None
    left: Array | None
    chosen: Array
    scale: Array
    norm_ratio: Array | None
    refused: Array
    change: Change


def dihyfo(
    classifier: Classifier,
    hypernetwork: hypernet.Hypernetwork,
    params: hypernet.HypernetParams,
    *,
    prompt: str | Sequence[float] | Array = "profile",
    steps: int = 1,
    scale: float = 1.0,
    sets: str = "sum",
    protect: float = 0.0,
    best_of: int = 1,
    probe: Examples | None = None,
    most_left: float = 1e-3,
) -> Unlearner:
    """Sample, from the classes to forget alone, a model that has forgotten them.

    Our reading of HyperForget and its diffusion hypernetworks DiHyFo-1 and DiHyFo-2
    (Lara Rangel et al., arXiv 2412.00761), whose details are not published, on the
    machinery of G.pt (Peebles et al., arXiv 2209.12892). In the edit mode a
    hypernetwork reads the parameters of the model at hand and samples their change; in
    the generate mode it samples a whole model. It was trained on models that knew the
    classes: what it makes can be audited, but nothing about it is certified.
    Normalisation statistics stay.

    In the edit mode it knows models that were trained as the zoo's starts were. One
    trained otherwise, with larger weights say, may forget in part: ``init`` warns where
    the norm of its parameters is more than a tenth outside those of the zoo's starts,
    but not under ``jit`` or ``vmap``; ``info.norm_ratio`` tells always. Give a
    ``probe``, and the change is scaled up until enough is forgotten. Or make a zoo with
    such starts.

    Args:
        classifier: the model.
        hypernetwork: for this classifier, from ``hypernet.build``.
        params: its parameters, from ``hypernet.fit_hypernetwork``; ``init`` puts them
            into the state.
        prompt: the losses to ask for: ``"profile"``, those that models of the zoo have
            that forgot the same classes; or the loss wanted on every class, nats,
            ``[C]``.
        steps: calls of the denoiser a sample, static.
        scale: factor on the change, in the edit mode; finite and not negative.
        sets: how several classes are forgotten by one request: ``"sum"``,
            ``"sequence"`` or ``"direct"``, as for ``hypernet.Sampler``. The generate
            mode is always direct.
        protect: how much more a mean retained row counts than a forgotten one where the
            sampled change is kept from what retained data use, in the edit mode: see
            ``subspace.protect``. ``init`` measures what that takes, the Gram matrices
            of every class. At 0 the change stays as sampled, and ``init`` reads no
            data. Known before tracing. Columns of forgotten classes are left alone
            where the layer that gives the logits is known, as of every Flax module.
        best_of: samples, of which the one with the smallest mean loss over the
            retained classes of the probe is kept, of those that forgot enough.
        probe: rows held out of training, ``[M]``, for ``best_of``, ``most_left`` and
            ``info``: ten of every class or more, for fewer leave much open.
        most_left: with a ``probe``, the largest share of a forgotten class that may
            still be recognised, as its margins on the probe tell (see ``info.left``).
            Where more is left, the change is scaled up, by up to three times
            ``scale``, as far as that takes; and where that is not enough, the request
            is refused. 1 keeps what ``scale`` gives. In the generate mode there is
            nothing to scale: what is not enough is refused. Classes of which the probe
            has no row are not judged.

    Returns:
        An unlearner for class requests, with or without data. One that names no class,
        for single rows, is refused: with an error where its values are known, under
        ``jit`` by leaving the model as it is and saying so in ``info``. So is one
        whose classes are all forgotten, in the edit mode.
    """
    checks.check_sizes(steps=steps, best_of=best_of)
    checks.check_factor(scale=scale, protect=protect, most_left=most_left)
    checks.check_one_of("sets", sets, hypernet.SETS)
    check_fitting(classifier, hypernetwork, params)
    num_classes = hypernetwork.num_classes
    if best_of > 1 and probe is None:
        raise ValueError(f"best_of={best_of} needs a probe to choose by.")
    if probe is not None:
        checks.check_examples(probe, num_classes=num_classes, name="probe")
        shape = hypernetwork.input_shape
        if probe.x.shape[1:] != shape:
            raise ValueError(f"probe.x must be [M, *{shape}], got {probe.x.shape}.")
    wanted = checked_prompt(prompt, num_classes)
    sampler = hypernet.Sampler(steps, scale, sets)
    takes_all = checks.is_concrete(most_left) and float(most_left) >= 1
    if probe is not None and not takes_all:
        check_rows_of_classes(probe, num_classes)
    raises = hypernetwork.edits and probe is not None and not takes_all
    raised = _RAISED if raises else (1.0,)
    protects = hypernetwork.edits and checked_protect(protect, classifier)

    def init(key: Array, variables: Variables, data: Examples) -> DiHyFoState:
        checks.check_key(key)  # Nothing is drawn before the request.
        checks.check_is_examples(data)
        checks.check_classifier(classifier, variables, data.x, num_classes=num_classes)
        if probe is not None:
            checks.check_held_out(data, probe)
        if checks.is_concrete(variables["params"], params):
            check_norm(hypernetwork, params, variables["params"])
        grams = None
        if protects:
            grams = subspace.measure_by_class(classifier, variables, data, num_classes)
        gone = jnp.zeros(num_classes, bool)
        return DiHyFoState(variables, params, gone, probe, grams)

    def unlearn(key: Array, state: DiHyFoState, request: ForgetRequest):
        key = as_threefry(key)
        checks.check_is(DiHyFoState, "what init gave", state=state)
        check_state(state, protects, probe)
        check_classes(classifier, state.variables, request, num_classes)
        classes, forgotten = request.classes, state.forgotten
        gone = classes | forgotten
        source = state.variables["params"]

        def sample(key):
            own = hypernet.forget_set(
                key,
                hypernetwork,
                state.hypernet_params,
                source,
                classes,
                forgotten,
                wanted,
                sampler,
            )
            if protects:
                own = protected(state, own, classes & ~forgotten, ~gone)
            return own

        samples = jax.vmap(sample)(jax.random.split(key, best_of))
        factors = jnp.repeat(jnp.asarray(raised), best_of)
        if len(raised) > 1:
            samples = jax.vmap(scaled, (0, None, None))(
                jnp.asarray(raised), samples, source
            )
            samples = jax.tree.map(
                lambda leaf: leaf.reshape(factors.size, *leaf.shape[2:]), samples
            )
        asks = jnp.any(classes & ~forgotten if hypernetwork.edits else classes)
        others = jax.tree.map(
            lambda leaf: jnp.broadcast_to(leaf, (factors.size, *leaf.shape)),
            {**state.variables, "params": None},
        )
        chosen = choose(
            classifier,
            {**others, "params": samples},
            state.probe,
            gone,
            best_of,
            most_left,
        )
        kept = trees.take(samples, chosen.number)
        kept = optax.tree.where(chosen.enough, kept, source)
        variables = {**state.variables, "params": kept}
        profile = hypernet.profile(state.hypernet_params.profiles, gone)
        info = DiHyFoInfo(
            profile if wanted is None else wanted,
            chosen.achieved,
            chosen.forgotten_accuracy,
            chosen.retained_accuracy,
            chosen.left,
            chosen.number,
            scale * factors[chosen.number],
            norm_ratio(hypernetwork, state.hypernet_params, source),
            ~(asks & chosen.enough),
            change(classifier, state.variables, variables),
        )
        forgotten = jnp.where(chosen.enough, gone, forgotten)
        return state._replace(variables=variables, forgotten=forgotten), info

    def protected(state, sample, forgotten, retained):
        source = state.variables["params"]
        x = jnp.zeros((1, *hypernetwork.input_shape))
        moved = subspace.protect(
            state.grams,
            optax.tree.sub(sample, source),
            forgotten,
            retained,
            protect,
            find_logits_layer(classifier, state.variables, x),
        )
        return optax.tree.cast_like(optax.tree.add(source, moved), source)

    access = Access(
        before={"retain", "forget", "classes", "probe"},
        init={"retain", "forget", "classes"} if protects else frozenset(),
        unlearn={"classes"} if probe is None else {"classes", "probe"},
        remains="a hypernetwork that was trained on models that knew everything; Gram "
        "matrices of every class, if a change is protected; rows of the probe, if one "
        "is given",
    )
    return Unlearner(init, unlearn, access)


def scaled(factor: Array, samples: Any, source: Any) -> Any:
    """Scale changes of a source, leaves ``[n, ...]``."""

    def leaf(sample, own):
        return (own[None] + factor * (sample - own[None])).astype(own.dtype)

    return jax.tree.map(leaf, samples, source)
