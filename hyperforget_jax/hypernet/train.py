"""Training a hypernetwork on a zoo: one scan of denoising steps a segment."""

import dataclasses
import functools
from collections.abc import Sequence, Sized
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.progress import Progress

from hyperforget_jax import atomic_write, checkpointing, checks, sharding
from hyperforget_jax.base import Array, Classifier, Examples
from hyperforget_jax.hypernet.config import TrainConfig
from hyperforget_jax.hypernet.dataset import PairDataset, pair_dataset, zoo_profiles
from hyperforget_jax.hypernet.hypernetwork import HypernetParams, Hypernetwork
from hyperforget_jax.hypernet.pair_loss import pair_loss
from hyperforget_jax.hypernet.scales import power_of_two_scales
from hyperforget_jax.hypernet.zoo import Zoo
from hyperforget_jax.keys import as_threefry
from hyperforget_jax.training import resuming

__all__ = ["TrainState", "fit_hypernetwork"]

_KIND = "hypernetwork-training"


class TrainState(NamedTuple):
    """The state of a training.

    Attributes:
        weights: of the denoiser.
        average: their moving average, which is what is used in the end.
        opt_state: the optimiser's state.
        trace: loss of every step taken, zero beyond, ``[steps]``.
    """

    weights: Any
    average: Any
    opt_state: Any
    trace: Array


def fit_hypernetwork(
    key: Array,
    hypernetwork: Hypernetwork,
    classifier: Classifier,
    zoo: Zoo | Sequence[Zoo],
    train: Examples,
    config: TrainConfig,
    *,
    directory: str | Path | None = None,
    segment_steps: int = 250,
    mesh: jax.sharding.Mesh | None = None,
    progress: bool = True,
) -> tuple[HypernetParams, np.ndarray]:
    """Train a hypernetwork by denoising, and by what the sampled models predict.

    The functional loss is the divergence of a sampled model's predictions from those
    of the checkpoint that it is to be, on training rows; its gradient goes through the
    classifier into the hypernetwork. Without it a mean of many models that all predict
    alike is as good as one of them, and predicts like none.

    Args:
        key: a typed key, consumed.
        hypernetwork: from :func:`build`.
        classifier: the model it is for.
        zoo: what it learns from; or zoos by turns, one a segment, each of which is
            read when it is needed (:func:`stored_zoo` gives such), and before for its
            losses and, with a ``directory``, its digest. Scales are the first one's.
        train: training rows for the functional loss, ``[N]``.
        config: how it is trained.
        directory: where to keep the state after each segment; a call that was killed
            goes on from there, to the same result.
        segment_steps: steps between two returns to the host.
        mesh: with an ``examples`` axis, along which the pairs of a step are split.
        progress: whether to show a progress bar.

    Returns:
        The hypernetwork's parameters, and the loss of every step, ``[steps]``.

    Raises:
        TypeError, ValueError: malformed arguments, another classifier, or a
            ``directory`` that holds a training started with other ones.
        ArithmeticError: the loss was not finite.
        BlockingIOError: another run is at work in ``directory``.
    """
    key = as_threefry(key)
    checks.check_is(
        Hypernetwork, "what hypernet.build gives", hypernetwork=hypernetwork
    )
    checks.check_is(TrainConfig, "hypernet.TrainConfig", config=config)
    if directory is not None:
        directory = atomic_write.local_path("directory", directory)
    checks.check_sizes(segment_steps=segment_steps)
    checks.check_is_classifier(classifier)
    if mesh is not None:
        sharding.check_mesh(mesh, "examples")
    if hypernetwork.classifier != classifier.description:
        raise ValueError(
            f"hypernetwork is for the classifier {hypernetwork.classifier!r}, not "
            f"{classifier.description!r}."
        )
    checks.check_examples(train, num_classes=hypernetwork.num_classes, name="train")
    zoos, first = _checked_zoos(hypernetwork, zoo)
    key_init, key_train = jax.random.split(key)
    dataset = pair_dataset(first)
    del first  # One in memory at once.
    if len(zoos) == 1:  # Goes to the device once, and not with every segment.
        dataset = jax.tree.map(jnp.asarray, dataset)
    setup = hypernetwork, classifier, config
    state = _init(hypernetwork, config, key_init)
    params = HypernetParams(None, *_scales(dataset), zoo_profiles(zoos))
    recipe = {}
    if directory is not None:
        shapes = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype),
            (key_train, state, (params, dataset, train)),
        )
        step = functools.partial(_advance, setup, 1, None)
        recipe = {
            "key": resuming.key_of(key),
            "classifier": hypernetwork.classifier,
            "numerics": resuming.numerics(),
            "init": resuming.program_digest(
                lambda key: _init(hypernetwork, config, key), key_init
            ),
            "program": resuming.program_digest(step, *shapes, 0),
            "architecture": dataclasses.asdict(hypernetwork.config),
            "config": dataclasses.asdict(config),
            "zoos": [checkpointing.digest(one) for one in zoos],
            "train": checkpointing.digest(train),
            "segment_steps": segment_steps,
            "device": jax.devices()[0].device_kind,
            "devices": 1 if mesh is None else mesh.size,
        }
    done, state = _resume(directory, state, recipe)
    batch = None
    if mesh is not None:
        state, train = sharding.replicate((state, train), mesh)
        batch = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("examples"))

    with (
        atomic_write.lock("directory", directory, "../.{name}.run.lock"),
        Progress(disable=not progress, transient=True) as bar,
    ):
        task = bar.add_task("hypernetwork", total=config.steps, completed=done)
        while done < config.steps:
            segment = done // segment_steps
            count = min(segment_steps, config.steps - done)
            if len(zoos) > 1:
                dataset = pair_dataset(zoos[segment % len(zoos)])
            data = params, dataset, train
            state = _advance(setup, count, batch, key_train, state, data, done)
            done += count
            recent = float(jnp.mean(state.trace[done - count : done]))
            if not np.isfinite(recent):
                raise ArithmeticError(
                    f"The loss is not finite before step {done}: a smaller "
                    "config.learning_rate may help."
                )
            if directory is not None:
                resuming.save(directory, state, kind=_KIND, recipe=recipe, step=done)
            bar.update(task, completed=done, description=f"loss {recent:.4f}")
    # By way of the host: what was trained on a mesh is not bound to it.
    weights = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)), state.average)
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(weights)):
        raise ArithmeticError("The last updates were not finite.")
    return params._replace(weights=weights), np.asarray(state.trace)


def _checked_zoos(hypernetwork: Hypernetwork, zoo: Any) -> tuple[Sequence[Zoo], Zoo]:
    zoos = [zoo] if isinstance(zoo, Zoo) else [] if zoo is None else zoo
    checks.check_is(Sized, "a hypernet.Zoo, or several in a list", zoo=zoos)
    if not len(zoos):
        raise ValueError(f"zoo must be a zoo, or at least one of them; got {zoo!r}.")
    first = zoos[0]
    checks.check_is(Zoo, "a hypernet.Zoo, or several in a list", zoo=first)
    if hypernetwork.edits != (first.starts is not None):
        mode = hypernetwork.config.mode
        raise ValueError(
            f"The {mode} mode learns from another kind of zoo: make it by "
            f"hypernet.{mode}_zoo."
        )
    return zoos, first


def _init(hypernetwork: Hypernetwork, config: TrainConfig, key: Array) -> TrainState:
    weights = hypernetwork.init(key).weights
    return TrainState(
        weights,
        jax.tree.map(jnp.copy, weights),  # Both are given away to each segment.
        _optimizer(config).init(weights),
        jnp.zeros(config.steps),
    )


@functools.partial(jax.jit, static_argnums=range(3), donate_argnums=4)
def _advance(
    setup: tuple[Hypernetwork, Classifier, TrainConfig],
    steps: int,
    batch: Any,
    key: Array,
    state: TrainState,
    data: tuple[HypernetParams, PairDataset, Examples],
    first: Array,
) -> TrainState:
    """Take some more steps."""
    config, (params, dataset, train) = setup[2], data
    optimizer = _optimizer(config)

    def body(state, step):
        key_rows, key_pairs = jax.random.split(jax.random.fold_in(key, step))
        # In proportion to weight, and never a row that weighs nothing.
        ends = jnp.cumsum(train.weight.astype(jnp.int32))
        drawn = jax.random.randint(key_rows, (config.functional_rows,), 0, ends[-1])
        rows = jnp.searchsorted(ends, drawn, side="right")
        keys = jax.random.split(key_pairs, config.batch_size)
        if batch is not None:
            keys = jax.lax.with_sharding_constraint(keys, batch)

        def loss_fn(weights):
            own = params._replace(weights=weights)
            losses = jax.vmap(
                lambda key: pair_loss(
                    key, *setup, own, dataset, train.x[rows], train.y[rows]
                )
            )
            return jnp.mean(losses(keys))

        loss, grads = jax.value_and_grad(loss_fn)(state.weights)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.weights)
        weights = optax.apply_updates(state.weights, updates)
        decay = jnp.asarray(config.ema)
        if config.ema_warmup:
            decay = jnp.minimum(decay, (1 + step) / (10 + step))
        average = optax.incremental_update(weights, state.average, 1 - decay)
        trace = state.trace.at[step].set(loss)
        return TrainState(weights, average, opt_state, trace), None

    numbers = first + jnp.arange(steps, dtype=jnp.int32)
    return jax.lax.scan(body, state, numbers)[0]


def _optimizer(config: TrainConfig) -> optax.GradientTransformation:
    warm = min(100, max(config.steps // 10, 1))
    rate = optax.warmup_cosine_decay_schedule(
        0.0,
        config.learning_rate,
        warm,
        max(config.steps, warm + 1),
        0.02 * config.learning_rate,
    )
    return optax.chain(
        optax.clip_by_global_norm(config.clip),
        optax.adamw(rate, b2=0.99, weight_decay=config.weight_decay),
    )


def _scales(dataset: PairDataset) -> tuple[Any, Any]:
    """Compute the scales of parameters, and of what is predicted."""
    pairs = np.asarray(dataset.pairs)
    sources, runs, _ = pairs[pairs[:, 2] < 0].T
    # A few hundred pairs are enough for a scale.
    chosen = np.linspace(0, len(runs) - 1, min(len(runs), 512)).astype(int)
    ends = jax.tree.map(lambda leaf: leaf[runs[chosen], -1], dataset.params)
    scales = power_of_two_scales(ends)
    if dataset.sources is None:
        return scales, scales
    changes = jax.tree.map(
        lambda end, source: end - source[sources[chosen]], ends, dataset.sources
    )
    return scales, power_of_two_scales(changes)


def _resume(directory, fresh: TrainState, recipe: dict) -> tuple[int, TrainState]:
    if directory is None or not (Path(directory) / "manifest.json").exists():
        return 0, fresh
    stored, step = resuming.recipe_of(directory, _KIND)
    resuming.check_recipe(directory, stored, recipe)
    return step, checkpointing.load(directory, kind=_KIND, like=fresh)
