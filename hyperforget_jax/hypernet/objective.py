"""What a hypernetwork is trained on: clean parameters, and models that answer alike."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from hyperforget_jax import diffusion
from hyperforget_jax.base import Array, Classifier
from hyperforget_jax.hypernet import network, prompts
from hyperforget_jax.hypernet.network import Hypernetwork, Learnt
from hyperforget_jax.hypernet.pairs import Lessons, Pair, draw

__all__ = ["Course", "join_answers", "lesson_loss"]


class Course(NamedTuple):
    """How a hypernetwork is trained.

    Attributes:
        steps: of training.
        batch_size: pairs a step.
        learning_rate: the largest; it warms up over a tenth of the steps, 100 at
            most, and falls to 2 % along a cosine.
        weight_decay: as AdamW's.
        clip: the largest norm of a gradient.
        functional: weight of the functional loss beside the denoising loss; 0 for
            denoising alone.
        per_class: weight, within the functional loss, of the losses on single classes,
            compared on the scales of prompts: what is asked is what is trained.
        functional_rows: training rows a step on which made and true models are
            compared.
        ema: the largest decay of the moving average of the weights.
        ema_warmup: whether the decay grows from small values, ``(1 + i) / (10 + i)``;
            without it the average keeps the weights that the training began with.
    """

    steps: int = 2000
    batch_size: int = 64
    learning_rate: float = 3e-3
    weight_decay: float = 0.01
    clip: float = 1.0
    functional: float = 4.0
    per_class: float = 4.0
    functional_rows: int = 64
    ema: float = 0.998
    ema_warmup: bool = True


def lesson_loss(
    key: Array,
    hypernetwork: Hypernetwork,
    classifier: Classifier,
    course: Course,
    learnt: Learnt,
    lessons: Lessons,
    x: Array,
    y: Array,
) -> Array:
    """Denoising and functional loss of one pair.

    Args:
        key: a typed key, consumed.
        hypernetwork: what it is.
        classifier: the model it is for.
        course: how it is trained.
        learnt: what it has learnt so far.
        lessons: the pairs to draw from.
        x: training rows on which made and true models are compared, ``[B, ...]``.
        y: their labels, ``[B]``.
    """
    recipe = hypernetwork.recipe
    key_pair, key_permute, key_t, key_noise = jax.random.split(key, 4)
    pair = draw(key_pair, lessons)
    pair = _permuted(key_permute, hypernetwork, pair)
    x0 = network.to_variable(hypernetwork, learnt, pair.params, pair.anchor)
    # More of the training at high noise, where samples are decided.
    t = jnp.sqrt(jax.random.uniform(key_t))
    noise = optax.tree.random_like(key_noise, x0, jax.random.normal)
    alpha, sigma = diffusion.schedule(recipe.schedule)(t)
    noised = diffusion.mix(x0=(alpha, x0), noise=(sigma, noise))
    prompt = prompts.features(recipe.prompt, pair.loss, pair.classes)
    predicted = hypernetwork.denoise(learnt, noised, pair.anchor, t, prompt)
    wanted = diffusion.target(recipe.prediction, x0, noise, alpha, sigma)
    errors = jax.tree.map(
        lambda own, other: jnp.mean(jnp.square(own - other)), predicted, wanted
    )
    # A mean over layers, since most numbers are the first layer's.
    loss = jnp.mean(jnp.stack(jax.tree.leaves(errors)))
    if not course.functional:
        return loss
    estimate = network.clean(recipe, predicted, noised, alpha, sigma)
    made = network.to_params(hypernetwork, learnt, estimate, pair.anchor)

    def answers(params):
        logits = classifier.apply({**pair.others, "params": params}, x)
        return jax.nn.log_softmax(logits.astype(jnp.float32))

    first, second = jax.vmap(answers)(pair.teachers)
    true, own = join_answers(first, second, pair.share), answers(made)
    divergence = jnp.mean(jnp.sum(jnp.exp(true) * (true - own), -1))
    # Small answers weigh nothing in a divergence, and forgetting is about them.
    apart = jnp.mean(jnp.square(true - own))
    return loss + course.functional * (
        divergence + 0.02 * apart + course.per_class * _class_error(true, own, y)
    )


def join_answers(first: Array, second: Array, share: Array) -> Array:
    """Two models' answers as one's, log-probabilities ``[B, C]``.

    Changes do not quite add up in parameters; in answers two models are better joined.
    Where one is sure and the other ignorant their mean is small, and would lift the
    classes that one of them answers for alone: so what both answer for is normalised
    first.

    Args:
        first: one model's, ``[B, C]``.
        second: another's, ``[B, C]``.
        share: the second one's in every class: 0, 1 or one half, ``[C]``.
    """
    share = jnp.broadcast_to(share, first.shape)
    logs = (1 - share) * first + share * second
    both = (share > 0) & (share < 1)
    mass = jax.nn.logsumexp(logs, axis=-1, where=both, keepdims=True)
    logs = jnp.where(both, logs - mass, logs)
    return jax.nn.log_softmax(logs)


def _class_error(true: Array, own: Array, y: Array) -> Array:
    """How far the mean losses on each class are apart, on the scales of prompts."""
    of_class = jax.nn.one_hot(y, true.shape[-1])
    count = jnp.maximum(jnp.sum(of_class, axis=0), 1)

    def asked(logs):
        return prompts.both_scales(-jnp.sum(of_class * logs, axis=0) / count)

    return jnp.mean(jnp.square(asked(true) - asked(own)))


def _permuted(key: Array, hypernetwork: Hypernetwork, pair: Pair) -> Pair:
    """The pair with its hidden units in another order, the same in both models.

    With one hidden layer the denoiser does not see the order; with more it sees it in
    the entries of tokens. In the free mode the order is the zoo's, which may have been
    brought into one.
    """
    tokenizer, anchored = hypernetwork.tokenizer, pair.anchor is not None
    if tokenizer.permute is None or len(tokenizer.hidden) < 2 or not anchored:
        return pair
    keys = jax.random.split(key, len(tokenizer.hidden))
    orders = tuple(
        jax.random.permutation(own, count)
        for own, count in zip(keys, tokenizer.hidden, strict=True)
    )
    return pair._replace(
        anchor=tokenizer.permute(pair.anchor, orders),
        params=tokenizer.permute(pair.params, orders),
    )
