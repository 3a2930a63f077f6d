"""From a set of classes to parameters: prompt, sample, and add what was sampled."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from hyperforget_jax import diffusion
from hyperforget_jax.base import Array
from hyperforget_jax.hypernet import prompts
from hyperforget_jax.hypernet.hypernetwork import HypernetParams, Hypernetwork
from hyperforget_jax.keys import as_threefry

__all__ = ["SETS", "Sampler", "forget_set", "sample_params"]

SETS = ("sum", "sequence", "direct")


class Sampler(NamedTuple):
    """How parameters are sampled.

    Attributes:
        steps: calls of the denoiser, static.
        scale: factor on a sampled change.
        sets: how several classes are forgotten at once, static: ``"sum"``, the changes
            for each of them added up; ``"sequence"``, one after the other;
            ``"direct"``, by one prompt for the set.
    """

    steps: int = 1
    scale: Any = 1.0
    sets: str = "sum"


def sample_params(
    key: Array,
    hypernetwork: Hypernetwork,
    params: HypernetParams,
    source: Any,
    loss: Array,
    classes: Array,
    sampler: Sampler,
) -> Any:
    """Sample the params of one model that has the losses asked for.

    Args:
        key: a typed key, consumed.
        hypernetwork: static.
        params: its parameters.
        source: the model's params to change; in the generate mode only their shapes
            are used.
        loss: the loss wanted on every class, ``[C]``.
        classes: the classes to forget, bool, ``[C]``.
        sampler: how to sample.
    """
    prompt = prompts.features(hypernetwork.config.prompt, loss, classes)
    x0 = diffusion.sample(
        key,
        lambda noised, t: hypernetwork.estimate(params, noised, source, t, prompt),
        jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.float32), source
        ),
        hypernetwork.schedule,
        steps=sampler.steps,
    )
    if hypernetwork.edits:
        x0 = optax.tree.scale(sampler.scale, x0)
    return optax.tree.cast_like(hypernetwork.to_target(params, x0, source), source)


def forget_set(
    key: Array,
    hypernetwork: Hypernetwork,
    params: HypernetParams,
    source: Any,
    classes: Array,
    forgotten: Array,
    wanted: Array | None,
    sampler: Sampler,
) -> Any:
    """Sample the params of one model that has forgotten a set of classes.

    In the edit mode classes that were forgotten before are not forgotten again.

    Args:
        key: a typed key, consumed.
        hypernetwork: static.
        params: its parameters.
        source: the model's params to change.
        classes: the classes to forget now, bool, ``[C]``.
        forgotten: the classes that the source has forgotten, bool, ``[C]``.
        wanted: the loss wanted on every class once all of it is forgotten, ``[C]``, or
            None for attainable profiles. Where classes are forgotten one by one, each
            is asked for with its own profile on what it leaves.
        sampler: how to sample.
    """
    key = as_threefry(key)
    if hypernetwork.edits:
        classes = classes & ~forgotten
    if not hypernetwork.edits or sampler.sets == "direct":
        gone = classes | forgotten
        loss = prompts.profile(params.profiles, gone) if wanted is None else wanted
        target = sample_params(key, hypernetwork, params, source, loss, gone, sampler)
        return optax.tree.where(jnp.any(classes), target, source)

    alone = jnp.sum(classes) == 1
    in_turn = sampler.sets == "sequence"

    def forget_next(carry):
        left, now, total, gone = carry
        label = jnp.argmax(left)
        after = gone | (jnp.arange(classes.shape[0]) == label)
        loss = prompts.profile(params.profiles, after)
        if wanted is not None:
            loss = jnp.where(alone | after, wanted, loss)
        begin = now if in_turn else source
        own_key = jax.random.fold_in(key, label)
        target = sample_params(
            own_key, hypernetwork, params, begin, loss, after, sampler
        )
        total = optax.tree.add(total, optax.tree.sub(target, begin))
        return left.at[label].set(False), target, total, after if in_turn else gone

    # As many rounds as the largest set has classes, also where requests are vmapped: a
    # branch for each class would then be taken for all of them.
    initial = classes, source, optax.tree.zeros_like(source), forgotten
    _, now, total, _ = lax.while_loop(
        lambda carry: jnp.any(carry[0]), forget_next, initial
    )
    return now if in_turn else optax.tree.add(source, total)
