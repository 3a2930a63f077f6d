"""A hypernetwork: what it is, what it has learnt, and how it is kept."""

import dataclasses
import functools
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from hyperforget_jax import checkpointing, checks, diffusion
from hyperforget_jax.base import Array, Classifier
from hyperforget_jax.hypernet import prompts
from hyperforget_jax.hypernet.denoiser import Denoiser
from hyperforget_jax.hypernet.recipe import Recipe
from hyperforget_jax.hypernet.scales import scale_down, scale_up
from hyperforget_jax.hypernet.tokens import Tokenizer, tokenizer

__all__ = [
    "Hypernetwork",
    "Learnt",
    "build",
    "estimate",
    "load_hypernetwork",
    "save_hypernetwork",
    "untrained",
]

_KIND = "hypernetwork"
_BOUND = 16.0


class Learnt(NamedTuple):
    """Everything a hypernetwork has learnt, a pytree of arrays.

    Attributes:
        weights: of the denoiser.
        scales: of a model's parameters, powers of two, a scalar a leaf.
        spread: of what is predicted, likewise: of changes, or of parameters.
        profiles: what models are like that have forgotten.
    """

    weights: Any
    scales: Any
    spread: Any
    profiles: prompts.Profiles


class Hypernetwork(NamedTuple):
    """A hypernetwork for one classifier.

    Attributes:
        recipe: the choices it was made by.
        classifier: the classifier's description.
        tokenizer: how its parameters are read.
        init: ``key -> weights``, of a fresh denoiser.
        denoise: ``(learnt, noised, anchor, t, prompt) -> prediction``. The
            noised variable and the prediction are shaped like ``params``.
        input_shape: of one example, without its row axis.
        num_classes: C.
        learnt: what it has learnt; None before.
    """

    recipe: Recipe
    classifier: str
    tokenizer: Tokenizer
    init: Callable[[Array], Any]
    denoise: Callable[..., Any]
    input_shape: tuple[int, ...]
    num_classes: int
    learnt: Learnt | None = None


def build(
    classifier: Classifier,
    x: Array | jax.ShapeDtypeStruct,
    recipe: Recipe | None = None,
) -> Hypernetwork:
    """A hypernetwork that has learnt nothing yet.

    Args:
        classifier: the model whose parameters it is to make.
        x: inputs, ``[N, ...]``; only their shape is used.
        recipe: what it is to be; by default ``Recipe()``.

    Raises:
        TypeError: ``x`` or ``recipe`` is something else.
        ValueError: ``recipe.tokens`` is "units" and the classifier is no plain chain of
            layers; or the free mode for a classifier with other variables than params.
    """
    if not hasattr(x, "shape"):
        raise TypeError(
            "x must be an array or its shape and dtype, such as splits.train.x; got "
            f"{type(x).__name__}."
        )
    # One function for one network: programs are compiled and kept by function.
    recipe = Recipe() if recipe is None else recipe
    checks.check_is(Recipe, "a hypernet.Recipe", recipe=recipe)
    return _build(classifier, tuple(x.shape[1:]), str(x.dtype), recipe)


@functools.lru_cache(maxsize=64)
def _build(
    classifier: Classifier, shape: tuple[int, ...], kind: str, recipe: Recipe
) -> Hypernetwork:
    one: Any = jax.ShapeDtypeStruct((1, *shape), kind)
    num_classes = checks.check_classifier(classifier, None, one)
    key = jax.eval_shape(lambda: jax.random.key(0))
    variables = jax.eval_shape(classifier.init, key, one)
    others = sorted(set(variables) - {"params"})
    if recipe.mode == "free" and others:
        raise ValueError(
            "The free mode samples params alone, and the classifier also has "
            f"{others}: use the anchored mode, which leaves the model's own."
        )
    tokens = tokenizer(classifier, variables, one, recipe.tokens, recipe.chunk_size)
    dtype = recipe.dtype
    if dtype == "auto":
        dtype = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    module = Denoiser(
        tokens.groups,
        recipe.width,
        recipe.depth,
        recipe.heads,
        recipe.mixer,
        jnp.dtype(dtype),
    )
    anchored = recipe.mode == "anchored"

    def inputs(params, classes):
        own = tokens.tokenize(params)
        prompt = prompts.features(recipe.prompt, jnp.ones(num_classes), classes)
        return own, own if anchored else None, jnp.zeros(()), prompt

    @jax.jit
    def init(key: Array):
        params = jax.tree.map(
            lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), variables["params"]
        )
        return module.init(key, *inputs(params, jnp.zeros(num_classes, bool)))["params"]

    def denoise(learnt: Learnt, noised, anchor, t, prompt):
        own = None
        if anchored:
            own = tokens.tokenize(scale_down(anchor, learnt.scales))
        noised = tokens.tokenize(noised)
        variables = {"params": learnt.weights}
        predicted: Any = module.apply(variables, noised, own, t, prompt)
        return tokens.detokenize(predicted)

    return Hypernetwork(
        recipe,
        classifier.description,
        tokens,
        init,
        denoise,
        shape,
        num_classes,
    )


def to_params(hypernetwork: Hypernetwork, learnt: Learnt, x0: Any, anchor: Any) -> Any:
    """The parameters that a clean diffusion variable stands for."""
    scaled = scale_up(x0, learnt.spread)
    if hypernetwork.recipe.mode == "free":
        return scaled
    return jax.tree.map(jnp.add, anchor, scaled)


def to_variable(
    hypernetwork: Hypernetwork, learnt: Learnt, params: Any, anchor: Any
) -> Any:
    """The clean diffusion variable of parameters: what :func:`to_params` undoes."""
    if hypernetwork.recipe.mode == "anchored":
        params = jax.tree.map(jnp.subtract, params, anchor)
    return scale_down(params, learnt.spread)


def save_hypernetwork(
    path: str | os.PathLike[str], hypernetwork: Hypernetwork, *, overwrite: bool = False
) -> None:
    """Keeps a trained hypernetwork as a checkpoint with its manifest.

    Args:
        path: the checkpoint's folder.
        hypernetwork: as trained.
        overwrite: whether to replace an older one.

    Raises:
        ValueError: it has learnt nothing yet.
        FileExistsError: there is something already.
    """
    checks.check_is(
        Hypernetwork, "what fit_hypernetwork gives", hypernetwork=hypernetwork
    )
    if hypernetwork.learnt is None:
        raise ValueError("hypernetwork has learnt nothing yet: fit it first.")
    checkpointing.save(
        path,
        hypernetwork.learnt,
        kind=_KIND,
        model=hypernetwork.classifier,
        config={
            # "auto" might mean something else where it is loaded.
            "recipe": dataclasses.replace(
                hypernetwork.recipe, tokens=hypernetwork.tokenizer.kind
            ),
            "input_shape": hypernetwork.input_shape,
            "masks": hypernetwork.learnt.profiles.masks.shape[0],
        },
        overwrite=overwrite,
    )


def load_hypernetwork(
    path: str | os.PathLike[str], classifier: Classifier
) -> Hypernetwork:
    """Loads what :func:`save_hypernetwork` kept.

    Args:
        path: the checkpoint's folder.
        classifier: the model it was trained for.

    Raises:
        FileNotFoundError: no checkpoint there.
        ValueError: it is something else, for another classifier, or has settings that
            a recipe no longer has.
        CorruptCheckpointError: files are missing, truncated or altered.
    """
    checks.check_is_classifier(classifier)
    manifest = checkpointing.read_manifest(path)
    if manifest.kind != _KIND:
        raise ValueError(f"{os.fspath(path)} holds {manifest.kind!r}, not {_KIND!r}.")
    if manifest.model != classifier.description:
        raise ValueError(
            f"{os.fspath(path)} belongs to the model {manifest.model!r}, and not to "
            f"the classifier {classifier.description!r}."
        )
    config = manifest.config
    with checkpointing.believing(path):
        known = {field.name for field in dataclasses.fields(Recipe)}
        if unknown := sorted(set(config["recipe"]) - known):
            raise ValueError(
                f"{os.fspath(path)} was kept by another version of this library: its "
                f"recipe has {unknown}, which hypernet.Recipe does not. Fit it anew."
            )
        recipe = Recipe(**config["recipe"])
        shape, masks = map(int, config["input_shape"]), int(config["masks"])
        one = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    hypernetwork = build(classifier, one, recipe)
    like = jax.eval_shape(lambda: untrained(hypernetwork, masks))
    learnt = checkpointing.load(path, kind=_KIND, like=like)
    return hypernetwork._replace(learnt=learnt)


def untrained(hypernetwork: Hypernetwork, num_masks: int | None = None) -> Learnt:
    """A fresh :class:`Learnt`, whose scales and profiles mean nothing yet.

    Args:
        hypernetwork: from :func:`build`.
        num_masks: how many profiles there is room for; by default one a class.
    """
    num_masks = hypernetwork.num_classes if num_masks is None else num_masks
    shape = (num_masks, hypernetwork.num_classes)
    params = jax.eval_shape(
        hypernetwork.tokenizer.detokenize,
        tuple(
            jax.ShapeDtypeStruct((group.count, group.width), jnp.float32)
            for group in hypernetwork.tokenizer.groups
        ),
    )
    ones = jax.tree.map(lambda leaf: jnp.ones((), jnp.float32), params)
    return Learnt(
        hypernetwork.init(jax.random.key(0)),
        ones,
        ones,
        prompts.Profiles(
            jnp.zeros(shape, bool),
            jnp.zeros(shape),
            jnp.zeros(shape[1:]),
            jnp.zeros(2),
        ),
    )


def estimate(
    hypernetwork: Hypernetwork,
    learnt: Learnt,
    noised: Any,
    anchor: Any,
    t: Array,
    prompt: Array,
) -> Any:
    """The clean variable, as the denoiser sees it through the noise.

    Args:
        hypernetwork: what it is.
        learnt: what it has learnt.
        noised: the noised variable, shaped like ``params``.
        anchor: the params to change; ignored in the free mode.
        t: diffusion time, from 0 (clean) to 1, ``[]``.
        prompt: as :func:`features` gives it.
    """
    recipe = hypernetwork.recipe
    predicted = hypernetwork.denoise(learnt, noised, anchor, t, prompt)
    alpha, sigma = diffusion.schedule(recipe.schedule)(t)
    return clean(recipe, predicted, noised, alpha, sigma)


def clean(
    recipe: Recipe, predicted: Any, noised: Any, alpha: Array, sigma: Array
) -> Any:
    """The clean variable that a prediction stands for, within bounds.

    At high noise a small error of predicted noise is a large one of what is under it.
    The variable is of the order of one, so that the bound touches nothing else.
    """
    x0 = diffusion.to_x0(recipe.prediction, predicted, noised, alpha, sigma)
    return jax.tree.map(lambda leaf: jnp.clip(leaf, -_BOUND, _BOUND), x0)
