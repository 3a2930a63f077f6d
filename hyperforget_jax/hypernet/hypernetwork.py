"""A hypernetwork: static, with its parameters apart."""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from hyperforget_jax import checks, diffusion
from hyperforget_jax.base import Array, Classifier
from hyperforget_jax.hypernet import prompts
from hyperforget_jax.hypernet.config import HypernetConfig
from hyperforget_jax.hypernet.denoiser import Denoiser
from hyperforget_jax.hypernet.unit_tokens import Tokenizer, tokenizer

__all__ = ["HypernetParams", "Hypernetwork", "build"]

_BOUND = 16.0


class HypernetParams(NamedTuple):
    """The parameters of a trained hypernetwork, a pytree of arrays.

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


@dataclasses.dataclass(frozen=True)
class Hypernetwork:
    """A hypernetwork for one classifier, without its parameters.

    Static and hashable; those that are made alike are equal. What is diffused, the
    *variable*, is shaped like a model's params: the change of a model in the edit
    mode, the model itself in the generate mode, in units of its spread.

    Attributes:
        config: its architecture.
        classifier: the classifier's description.
        tokenizer: how a model's parameters are read.
        input_shape: of one example, without its row axis.
        num_classes: C.
    """

    config: HypernetConfig
    classifier: str
    tokenizer: Tokenizer
    input_shape: tuple[int, ...]
    num_classes: int

    @property
    def edits(self) -> bool:
        """Tell whether it changes models, rather than generating them."""
        return self.config.mode == "edit"

    @property
    def schedule(self) -> diffusion.Schedule:
        """Return the noise schedule."""
        return diffusion.schedule(self.config.schedule)

    @property
    def denoiser(self) -> Denoiser:
        """Build the denoiser, a Flax module."""
        config, dtype = self.config, self.config.dtype
        if dtype == "auto":
            dtype = "float32" if jax.default_backend() == "cpu" else "bfloat16"
        return Denoiser(
            self.tokenizer.groups,
            config.width,
            config.depth,
            config.heads,
            config.mixer,
            jnp.dtype(dtype),
        )

    @functools.partial(jax.jit, static_argnums=(0, 2))
    def init(self, key: Array, num_masks: int | None = None) -> HypernetParams:
        """Draw fresh weights; scales and profiles mean nothing yet.

        There is room for ``num_masks`` profiles, by default one a class.
        """
        tokens = tuple(
            jnp.zeros((group.count, group.width)) for group in self.tokenizer.groups
        )
        nothing = jnp.zeros(self.num_classes, bool)
        prompt = prompts.features(
            self.config.prompt, jnp.ones(self.num_classes), nothing
        )
        source = tokens if self.edits else None
        drawn = self.denoiser.init(key, tokens, source, jnp.zeros(()), prompt)
        spec = self.tokenizer.spec
        ones = spec.structure.unflatten([jnp.ones(())] * len(spec.names))
        shape = (num_masks or self.num_classes, self.num_classes)
        profiles = prompts.Profiles(
            jnp.zeros(shape, bool),
            jnp.zeros(shape),
            jnp.zeros(self.num_classes),
            jnp.zeros(2),
        )
        return HypernetParams(drawn["params"], ones, ones, profiles)

    def denoise(
        self, params: HypernetParams, noised: Any, source: Any, t: Array, prompt: Array
    ) -> Any:
        """Predict ``config.prediction`` of a noised variable.

        Args:
            params: its own parameters.
            noised: the noised variable, shaped like a model's params.
            source: the params to change; ignored in the generate mode.
            t: diffusion time, from 0 (clean) to 1, ``[]``.
            prompt: as :func:`features` gives it.
        """
        own = None
        if self.edits:
            own = self.tokenizer.tokenize(optax.tree.div(source, params.scales))
        noised = self.tokenizer.tokenize(noised)
        variables = {"params": params.weights}
        predicted: Any = self.denoiser.apply(variables, noised, own, t, prompt)
        return self.tokenizer.detokenize(predicted)

    def clean(self, predicted: Any, noised: Any, alpha: Array, sigma: Array) -> Any:
        """Turn a prediction into an estimate of the clean variable, within bounds.

        At high noise a small error of predicted noise is a large one of what is under
        it. The variable is of the order of one: the bound touches nothing else.
        """
        kind = self.config.prediction
        x0 = diffusion.to_x0(kind, predicted, noised, alpha, sigma)
        return optax.tree.clip(x0, -_BOUND, _BOUND)

    def estimate(
        self, params: HypernetParams, noised: Any, source: Any, t: Array, prompt: Array
    ) -> Any:
        """Estimate the clean variable; arguments as for :meth:`denoise`."""
        predicted = self.denoise(params, noised, source, t, prompt)
        return self.clean(predicted, noised, *self.schedule(t))

    def to_target(self, params: HypernetParams, x0: Any, source: Any) -> Any:
        """Turn a clean variable into a model's params."""
        scaled = optax.tree.mul(x0, params.spread)
        return optax.tree.add(source, scaled) if self.edits else scaled

    def to_variable(self, params: HypernetParams, target: Any, source: Any) -> Any:
        """Undo :meth:`to_target`."""
        if self.edits:
            target = optax.tree.sub(target, source)
        return optax.tree.div(target, params.spread)


def build(
    classifier: Classifier,
    x: Array | jax.ShapeDtypeStruct,
    config: HypernetConfig | None = None,
) -> Hypernetwork:
    """Build the hypernetwork for a classifier.

    Args:
        classifier: the model whose parameters it is to make.
        x: inputs, ``[N, ...]``; only their shape and dtype are used.
        config: its architecture; by default ``HypernetConfig()``.

    Raises:
        TypeError: ``x`` or ``config`` is something else.
        ValueError: ``config.tokens`` is "units" and the classifier is no plain sequence
            of layers; or the generate mode for a classifier with other variables than
            params.

    Examples:
        >>> import hyperforget_jax as hf
        >>> from hyperforget_jax import hypernet
        >>> classifier = hf.from_linen(hf.models.MLP((16,)))
        >>> x = hf.data.load("digits").train.x
        >>> network = hypernet.build(classifier, x, hypernet.HypernetConfig(width=32))
        >>> network.tokenizer.kind, network.edits
        ('units', True)
    """
    if not hasattr(x, "shape"):
        raise TypeError(
            "x must be an array or its shape and dtype, such as splits.train.x; got "
            f"{type(x).__name__}."
        )
    config = HypernetConfig() if config is None else config
    checks.check_is(HypernetConfig, "a hypernet.HypernetConfig", config=config)
    one: Any = jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype)
    num_classes = checks.check_classifier(classifier, None, one)
    key = jax.eval_shape(lambda: jax.random.key(0))
    variables = jax.eval_shape(classifier.init, key, one)
    others = sorted(set(variables) - {"params"})
    if config.mode == "generate" and others:
        raise ValueError(
            "The generate mode samples params alone, and the classifier also has "
            f"{others}: use the edit mode, which leaves the model's own."
        )
    tokens = tokenizer(classifier, variables, one, config.tokens, config.chunk_size)
    config = dataclasses.replace(config, tokens=tokens.kind)
    return Hypernetwork(
        config, classifier.description, tokens, tuple(x.shape[1:]), num_classes
    )
