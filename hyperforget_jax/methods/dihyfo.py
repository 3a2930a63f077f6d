"""A diffusion hypernetwork that samples the model that has forgotten."""

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from hyperforget_jax import checks, hypernet, losses
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

__all__ = ["DiHyFoInfo", "DiHyFoState", "dihyfo"]

# Models of the study that are unlike the zoo lie half the largest norm and more above
# it, its own within; smaller ones were not measured.
_STRANGE = 1.1


class DiHyFoState(NamedTuple):
    """The model, and the hypernetwork that can change it.

    Attributes:
        variables: the current model's variables.
        learnt: what the hypernetwork has learnt.
        forgotten: the classes forgotten so far, bool, ``[C]``.
        probe: held-out rows to choose and to report by, or None.
        nearest: flat parameters of checkpoints of the zoo, ``[R, D]``, or None.
    """

    variables: Variables
    learnt: hypernet.Learnt
    forgotten: Array
    probe: Examples | None
    nearest: Array | None


class DiHyFoInfo(NamedTuple):
    """What was asked, and what came of it.

    Attributes:
        prompt: the loss that was asked for on every class, nats, ``[C]``. Where several
            classes are forgotten one by one, each was asked for with its own profile.
        achieved: the loss of the chosen sample on every class of the probe, ``[C]``,
            zero for classes that the probe lacks; None without a probe.
        forgotten_accuracy: of every sample, the mean over the forgotten classes of the
            probe, ``[n]``; NaN for a sample that is not finite; None without a probe.
        retained_accuracy: likewise, over the retained classes.
        chosen: which sample was kept, int32, ``[]``.
        distance: from the chosen sample to the nearest checkpoint of the zoo, in the
            Euclidean norm of all parameters, ``[]``; None where no zoo was given.
            Hidden units are compared as they come, and the free mode's come in any
            order: match them first (:func:`hyperforget_jax.hypernet.match`) to tell a
            copy.
        norm_ratio: how far the norm of all parameters of the model at hand lies outside
            those of the zoo's starts, ``[]``: 1 within them, above where it is larger
            than the largest, below where it is smaller than the smallest. None in the
            free mode, which does not read the model.
        refused: whether there was nothing to do, and the model stayed as it was: the
            request named no class, or in the anchored mode none that is not in
            ``state.forgotten``.
        change: how much the model was changed.
    """

    prompt: Array
    achieved: Array | None
    forgotten_accuracy: Array | None
    retained_accuracy: Array | None
    chosen: Array
    distance: Array | None
    norm_ratio: Array | None
    refused: Array
    change: Change


def dihyfo(
    classifier: Classifier,
    hypernetwork: hypernet.Hypernetwork,
    *,
    prompt: str | Sequence[float] | Array = "profile",
    steps: int = 1,
    eta: float = 0.0,
    dose: float = 1.0,
    sets: str = "sum",
    best_of: int = 1,
    probe: Examples | None = None,
    zoo: hypernet.Zoo | None = None,
) -> Unlearner:
    """Samples, from the classes to forget alone, a model that has forgotten them.

    Our reading of HyperForget and its diffusion hypernetworks DiHyFo-1 and DiHyFo-2
    (Lara Rangel et al., Learning to forget using hypernetworks, arXiv 2412.00761),
    whose details are not published, on the machinery of G.pt (Peebles et al., arXiv
    2209.12892). An anchored hypernetwork reads the parameters of the model at hand and
    samples their change; a free one samples a whole model, and the model at hand goes.

    The hypernetwork was trained on models that knew the classes: what it makes can be
    audited, but nothing about it is certified. Normalisation statistics stay.

    An anchored hypernetwork knows models that were trained as the zoo's starts were.
    One of another recipe, with larger weights say, may forget in part: ``init`` warns
    where the norm of a model's parameters is more than a tenth outside those of the
    zoo's starts, but not under ``jit`` or ``vmap``; ``info.norm_ratio`` tells always
    (a model that has forgotten may lie a little outside). Give a ``probe``, look at
    ``info.forgotten_accuracy``, and where something is left, ask an unlearner of a
    larger ``dose``, from the state before the request: what is in ``state.forgotten``
    is not forgotten again. Or make a zoo with starts of such recipes.

    Args:
        classifier: the model.
        hypernetwork: trained for this classifier by
            :func:`hyperforget_jax.hypernet.fit_hypernetwork`.
        prompt: the losses to ask for: ``"profile"``, those that models of the zoo have
            that forgot the same classes; or the loss wanted on every class, nats,
            ``[C]``.
        steps: calls of the denoiser a sample, static.
        eta: 0 for DDIM, 1 for ancestral sampling, or between.
        dose: factor on the change, in the anchored mode; finite and not negative.
        sets: how several classes are forgotten by one request: ``"sum"``,
            ``"sequence"`` or ``"direct"``, as for
            :class:`hyperforget_jax.hypernet.Sampler`. The free mode is always direct.
        best_of: samples, of which the one with the smallest mean loss over the
            retained classes of the probe is kept.
        probe: rows held out of training, ``[M]``, for ``best_of`` and for ``info``.
        zoo: for the distance to the nearest of its last checkpoints in ``info``.

    Returns:
        An unlearner for class requests, with or without data. One that names no class,
        for single rows, is refused: with an error where its values are known, under
        ``jit`` by leaving the model as it is and saying so in ``info``. So does one
        whose classes are all forgotten, in the anchored mode.

    Raises:
        TypeError, ValueError: malformed arguments, an untrained hypernetwork or another
            classifier's, or ``best_of`` without a probe. By ``init``: what does not fit
            the classifier, or parameters that are not finite.
    """
    checks.check_sizes(steps=steps, best_of=best_of)
    checks.check_factor(eta=eta, dose=dose)
    if checks.is_concrete(eta) and eta > 1:
        raise ValueError(f"eta must lie in [0, 1], got {eta}.")
    learnt = _check(classifier, hypernetwork, sets)
    num_classes = hypernetwork.num_classes
    if best_of > 1 and probe is None:
        raise ValueError(f"best_of={best_of} needs a probe to choose by.")
    if probe is not None:
        checks.check_examples(probe, num_classes=num_classes, name="probe")
        if probe.x.shape[1:] != hypernetwork.input_shape:
            raise ValueError(
                f"probe.x must be [M, *{hypernetwork.input_shape}], got shape "
                f"{probe.x.shape}."
            )
    if zoo is not None:
        checks.check_is(hypernet.Zoo, "a hf.hypernet.Zoo", zoo=zoo)
    asked = None
    if not (isinstance(prompt, str) and prompt == "profile"):
        try:
            asked = jnp.asarray(prompt, jnp.float32)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"prompt must be 'profile' or losses, got {prompt!r}."
            ) from error
    if asked is not None and asked.shape != (num_classes,):
        raise ValueError(
            f"prompt must have a loss for each of {num_classes} classes, got shape "
            f"{asked.shape}."
        )
    if asked is not None and checks.is_concrete(asked):
        if not (jnp.isfinite(asked) & (asked >= 0)).all():
            raise ValueError(
                f"prompt must hold losses, finite and not negative; got {asked}."
            )
    sampler = hypernet.Sampler(steps, eta, dose, sets)
    ends = None if zoo is None else jax.vmap(_flat)(_last(zoo))

    def init(key: Array, variables: Variables, data: Examples) -> DiHyFoState:
        checks.check_key(key)  # Nothing is drawn before the request.
        checks.check_is_examples(data)
        checks.check_classifier(classifier, variables, data.x, num_classes=num_classes)
        if probe is not None:
            checks.check_held_out(data, probe)
        if checks.is_concrete(variables["params"], learnt):
            _check_norm(hypernetwork, learnt, variables["params"])
        nobody = jnp.zeros(num_classes, bool)
        return DiHyFoState(variables, learnt, nobody, probe, ends)

    def unlearn(key: Array, state: DiHyFoState, request: ForgetRequest):
        key = as_threefry(key)
        checks.check_is(DiHyFoState, "what init gave", state=state)
        _check_classes(classifier, state, request, num_classes)
        classes = request.classes
        gone = classes | state.forgotten
        anchored = hypernetwork.recipe.mode == "anchored"
        new = classes & ~state.forgotten if anchored else classes
        profile = hypernet.profile(state.learnt.profiles, gone)
        wanted = profile if asked is None else asked
        anchor = state.variables["params"]

        def one(key):
            return hypernet.forget_set(
                key,
                hypernetwork,
                state.learnt,
                anchor,
                classes,
                state.forgotten,
                asked,
                sampler,
            )

        samples = jax.vmap(one)(jax.random.split(key, best_of))
        chosen, achieved = jnp.zeros((), jnp.int32), None
        forgotten, retained = None, None
        if state.probe is not None:
            others = jax.tree.map(
                lambda leaf: jnp.broadcast_to(leaf, (best_of, *leaf.shape)),
                {**state.variables, "params": None},
            )
            scores = hypernet.population_scores(
                classifier, {**others, "params": samples}, state.probe
            )
            there = jnp.zeros(num_classes).at[state.probe.y].add(state.probe.weight)
            kept = jnp.broadcast_to(~gone & (there > 0), scores.loss.shape)
            mean = jax.vmap(losses.weighted_mean)
            loss = mean(scores.loss, kept)
            # A sample that is not finite is not the best.
            finite = jnp.isfinite(loss)
            loss = jnp.where(finite, loss, jnp.inf)
            chosen = jnp.argmin(loss).astype(jnp.int32)
            achieved = scores.loss[chosen]
            # Nor has it forgotten: it answers nothing.
            retained = jnp.where(finite, mean(scores.accuracy, kept), jnp.nan)
            lost = jnp.broadcast_to(gone & (there > 0), kept.shape)
            forgotten = jnp.where(finite, mean(scores.accuracy, lost), jnp.nan)
        params = jax.tree.map(lambda leaf: leaf[chosen], samples)
        distance = None
        if state.nearest is not None:
            apart = jnp.square(state.nearest - _flat(params)[None])
            distance = jnp.sqrt(jnp.min(jnp.sum(apart, axis=1)))
        variables = {**state.variables, "params": params}
        info = DiHyFoInfo(
            wanted,
            achieved,
            forgotten,
            retained,
            chosen,
            distance,
            _norm_ratio(hypernetwork, state.learnt, anchor),
            ~jnp.any(new),
            change(classifier, state.variables, variables),
        )
        return state._replace(variables=variables, forgotten=gone), info

    reads = {"classes"} if probe is None else {"classes", "probe"}
    access = Access(
        before={"retain", "forget", "classes", "probe"},
        unlearn=reads,
        remains="a hypernetwork that was trained on models that knew everything; "
        "rows of the probe, if one is given",
    )
    return Unlearner(init, unlearn, access)


def _check(classifier, hypernetwork, sets) -> hypernet.Learnt:
    checks.check_is_classifier(classifier)
    if not isinstance(hypernetwork, hypernet.Hypernetwork):
        raise TypeError(
            "hypernetwork must be a hf.hypernet.Hypernetwork, as fit_hypernetwork or "
            f"load_hypernetwork gives; got {type(hypernetwork).__name__}."
        )
    if hypernetwork.learnt is None:
        raise ValueError("hypernetwork has learnt nothing yet: fit it first.")
    if hypernetwork.classifier != classifier.description:
        raise ValueError(
            f"hypernetwork was trained for {hypernetwork.classifier!r}, not for "
            f"{classifier.description!r}."
        )
    if sets not in hypernet.SETS:
        raise ValueError(f"sets must be one of {list(hypernet.SETS)}, got {sets!r}.")
    return hypernetwork.learnt


def _check_classes(classifier, state, request, num_classes: int) -> None:
    checks.check_request(classifier, state.variables, request)
    if request.classes.shape != (num_classes,):
        raise ValueError(
            f"The classifier has {num_classes} logits, but the request is made for "
            f"{request.classes.shape[0]} classes: they must match."
        )
    if checks.is_concrete(request.classes) and not request.classes.any():
        raise ValueError(
            "request names no class: a hypernetwork forgets whole classes, not single "
            "rows (hf.pgu does)."
        )


def _norm_ratio(hypernetwork, learnt, params) -> Array | None:
    if hypernetwork.recipe.mode == "free":
        return None
    norm = jnp.linalg.norm(_flat(params))
    nearest = jnp.clip(norm, *learnt.profiles.norms)
    return jnp.where(norm == nearest, 1, norm / nearest)


def _check_norm(hypernetwork, learnt, params) -> None:
    """Raises for parameters that are not finite, and warns of those unlike the zoo."""
    if not all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(params)):
        raise ValueError("variables['params'] must be finite, and are not.")
    ratio = _norm_ratio(hypernetwork, learnt, params)
    if ratio is None or 1 / _STRANGE < ratio < _STRANGE:
        return
    if ratio > 1:
        which, after = "largest", "may forget in part only"
    else:
        which, after = "smallest", "may not forget as the zoo's models do"
    warnings.warn(
        f"The norm of the model's parameters is {ratio:.2f} times the {which} among "
        f"the starts of the zoo: a model that was trained otherwise {after}. Give "
        "hf.dihyfo a probe and look at info.forgotten_accuracy and "
        "info.retained_accuracy; another dose may help, or a zoo with starts of such "
        "models.",
        stacklevel=3,  # Who calls init.
    )


def _last(zoo: hypernet.Zoo) -> Any:
    return jax.tree.map(lambda leaf: jnp.asarray(leaf[:, -1]), zoo.variables["params"])


def _flat(params: Any) -> Array:
    leaves = [jnp.ravel(leaf) for leaf in jax.tree.leaves(params)]
    return jnp.concatenate(leaves).astype(jnp.float32)
