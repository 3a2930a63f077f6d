"""The loss of one pair: denoising, and agreement with the teachers' predictions."""

import jax
import jax.numpy as jnp
import optax

from hyperforget_jax import diffusion
from hyperforget_jax.base import Array, Classifier
from hyperforget_jax.hypernet import prompts
from hyperforget_jax.hypernet.config import TrainConfig
from hyperforget_jax.hypernet.dataset import Pair, PairDataset, sample_pair
from hyperforget_jax.hypernet.hypernetwork import HypernetParams, Hypernetwork

__all__ = ["join_log_probs", "pair_loss"]


def pair_loss(
    key: Array,
    hypernetwork: Hypernetwork,
    classifier: Classifier,
    config: TrainConfig,
    params: HypernetParams,
    dataset: PairDataset,
    x: Array,
    y: Array,
) -> Array:
    """Compute the denoising and the functional loss of one random pair.

    The functional loss compares sampled and true models on training rows ``x``,
    ``[B, ...]``, with labels ``y``, ``[B]``.
    """
    key_pair, key_permute, key_t, key_noise = jax.random.split(key, 4)
    pair = sample_pair(key_pair, dataset)
    pair = _permuted(key_permute, hypernetwork, pair)
    x0 = hypernetwork.to_variable(params, pair.target, pair.source)
    # More of the training at high noise, where samples are decided.
    t = jnp.sqrt(jax.random.uniform(key_t))
    noise = optax.tree.random_like(key_noise, x0, jax.random.normal)
    alpha, sigma = hypernetwork.schedule(t)
    noised = diffusion.mix(x0=(alpha, x0), noise=(sigma, noise))
    prompt = prompts.features(hypernetwork.config.prompt, pair.loss, pair.classes)
    predicted = hypernetwork.denoise(params, noised, pair.source, t, prompt)
    kind = hypernetwork.config.prediction
    wanted = diffusion.target(kind, x0, noise, alpha, sigma)
    errors = jax.tree.map(
        lambda own, other: jnp.mean(jnp.square(own - other)), predicted, wanted
    )
    # A mean over layers, since most numbers are the first layer's.
    loss = jnp.mean(jnp.stack(jax.tree.leaves(errors)))
    if not config.functional:
        return loss
    estimate = hypernetwork.clean(predicted, noised, alpha, sigma)
    sampled = hypernetwork.to_target(params, estimate, pair.source)

    def log_probs(params):
        logits = classifier.apply({**pair.others, "params": params}, x)
        return jax.nn.log_softmax(logits.astype(jnp.float32))

    first, second = jax.vmap(log_probs)(pair.teachers)
    true, own = join_log_probs(first, second, pair.share), log_probs(sampled)
    divergence = jnp.mean(jnp.sum(jnp.exp(true) * (true - own), -1))
    # Small probabilities weigh nothing in a divergence, and forgetting is about them.
    apart = jnp.mean(jnp.square(true - own))
    return loss + config.functional * (
        divergence + 0.02 * apart + config.per_class * _class_error(true, own, y)
    )


def join_log_probs(first: Array, second: Array, share: Array) -> Array:
    """Join the log-probabilities of two models, ``[B, C]``.

    ``share`` is the second one's in every class: 0, 1 or one half, ``[C]``. Changes do
    not quite add up in parameters; predictions of two models are better joined. Where
    one is sure and the other ignorant their mean is small, and would lift the classes
    that one of them counts for alone: so what both count for is normalised first.
    """
    share = jnp.broadcast_to(share, first.shape)
    logs = (1 - share) * first + share * second
    both = (share > 0) & (share < 1)
    total = jax.nn.logsumexp(logs, axis=-1, where=both, keepdims=True)
    return jax.nn.log_softmax(jnp.where(both, logs - total, logs))


def _class_error(true: Array, own: Array, y: Array) -> Array:
    """Compare the mean losses on each class, on the scales of prompts."""
    of_class = jax.nn.one_hot(y, true.shape[-1])
    count = jnp.maximum(jnp.sum(of_class, axis=0), 1)

    def scaled(logs):
        return prompts.both_scales(-jnp.sum(of_class * logs, axis=0) / count)

    return jnp.mean(jnp.square(scaled(true) - scaled(own)))


def _permuted(key: Array, hypernetwork: Hypernetwork, pair: Pair) -> Pair:
    """Reorder the hidden units of both models alike.

    With one hidden layer the denoiser does not see the order; with more it sees it in
    the entries of tokens. In the generate mode the order is the zoo's, whose models may
    have been matched.
    """
    tokenizer = hypernetwork.tokenizer
    if tokenizer.permute is None or len(tokenizer.hidden) < 2 or pair.source is None:
        return pair
    keys = jax.random.split(key, len(tokenizer.hidden))
    orders = tuple(
        jax.random.permutation(own, count)
        for own, count in zip(keys, tokenizer.hidden, strict=True)
    )
    return pair._replace(
        source=tokenizer.permute(pair.source, orders),
        target=tokenizer.permute(pair.target, orders),
    )
