"""From a set of classes to parameters: prompt, sample, and add what was sampled."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from hyperforget_jax import diffusion
from hyperforget_jax.base import Array
from hyperforget_jax.hypernet import network, prompts
from hyperforget_jax.hypernet.network import Hypernetwork, Learnt
from hyperforget_jax.keys import as_threefry

__all__ = ["SETS", "Sampler", "forget_set", "sample_params"]

SETS = ("sum", "sequence", "direct")


class Sampler(NamedTuple):
    """How parameters are sampled.

    Attributes:
        steps: calls of the denoiser, static.
        eta: 0 for DDIM, 1 for ancestral sampling (DDPM).
        dose: what a sampled change is multiplied by.
        sets: how several classes are forgotten at once, static: ``"sum"``, the changes
            for each of them added up; ``"sequence"``, one after the other;
            ``"direct"``, by one prompt for the set.
    """

    steps: int = 1
    eta: Any = 0.0
    dose: Any = 1.0
    sets: str = "sum"


def sample_params(
    key: Array,
    hypernetwork: Hypernetwork,
    learnt: Learnt,
    anchor: Any,
    loss: Array,
    classes: Array,
    sampler: Sampler,
) -> Any:
    """Params of one model that has the losses asked for.

    Args:
        key: a typed key, consumed.
        hypernetwork: what it is.
        learnt: what it has learnt.
        anchor: the params to change; in the free mode only their shapes are used.
        loss: the loss wanted on every class, ``[C]``.
        classes: what is to be forgotten, bool, ``[C]``.
        sampler: how.
    """
    recipe = hypernetwork.recipe
    prompt = prompts.features(recipe.prompt, loss, classes)

    def denoise(noised, t):
        return network.estimate(hypernetwork, learnt, noised, anchor, t, prompt)

    like = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.float32), anchor
    )
    x0 = diffusion.sample(
        key,
        denoise,
        like,
        diffusion.schedule(recipe.schedule),
        steps=sampler.steps,
        eta=sampler.eta,
    )
    if recipe.mode == "anchored":
        x0 = jax.tree.map(lambda leaf: sampler.dose * leaf, x0)
    made = network.to_params(hypernetwork, learnt, x0, anchor)
    return jax.tree.map(lambda new, old: new.astype(old.dtype), made, anchor)


def forget_set(
    key: Array,
    hypernetwork: Hypernetwork,
    learnt: Learnt,
    anchor: Any,
    classes: Array,
    forgotten: Array,
    asked: Array | None,
    sampler: Sampler,
) -> Any:
    """Params of one model that has forgotten a set of classes.

    In the anchored mode classes that were forgotten before are not forgotten again.

    Args:
        key: a typed key, consumed.
        hypernetwork: what it is.
        learnt: what it has learnt.
        anchor: the params to change.
        classes: what is to be forgotten now, bool, ``[C]``.
        forgotten: what the anchor has forgotten before, bool, ``[C]``.
        asked: the loss wanted on every class once all of it is forgotten, ``[C]``, or
            None for attainable profiles. Where classes are forgotten one by one, each
            is asked for with its own profile on what it leaves.
        sampler: how.
    """
    key = as_threefry(key)
    if hypernetwork.recipe.mode == "anchored":
        classes = classes & ~forgotten
    if hypernetwork.recipe.mode == "free" or sampler.sets == "direct":
        gone = classes | forgotten
        loss = prompts.profile(learnt.profiles, gone) if asked is None else asked
        made = sample_params(key, hypernetwork, learnt, anchor, loss, gone, sampler)
        return jax.tree.map(
            lambda new, old: jnp.where(jnp.any(classes), new, old), made, anchor
        )

    alone = jnp.sum(classes) == 1

    def one(carry, label):
        now, total, gone = carry
        after = gone | (jnp.arange(classes.shape[0]) == label)
        own = prompts.profile(learnt.profiles, after)
        if asked is not None:
            own = jnp.where(alone | after, asked, own)
        begin = now if sampler.sets == "sequence" else anchor
        made = sample_params(
            jax.random.fold_in(key, label),
            hypernetwork,
            learnt,
            begin,
            own,
            after,
            sampler,
        )
        change = jax.tree.map(jnp.subtract, made, begin)
        return (
            made,
            jax.tree.map(jnp.add, total, change),
            after if sampler.sets == "sequence" else gone,
        )

    def body(at):
        left, carry = at
        label = jnp.argmax(left)
        return left.at[label].set(False), one(carry, label)

    # As many rounds as the largest set has classes, also where requests are vmapped: a
    # branch for each class would then be taken for all of them.
    nothing = jax.tree.map(jnp.zeros_like, anchor)
    _, (now, total, _) = lax.while_loop(
        lambda at: jnp.any(at[0]), body, (classes, (anchor, nothing, forgotten))
    )
    if sampler.sets == "sequence":
        return now
    return jax.tree.map(jnp.add, anchor, total)
