"""The denoiser: reads noised parameters as a set of tokens.

A transformer over tokens with adaptive layer normalisation (Peebles and Xie, Scalable
diffusion models with transformers, arXiv 2212.09748). Tokens of one group share their
encoder and decoder and have no positions: permuting them permutes the output.
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from hyperforget_jax.base import Array
from hyperforget_jax.hypernet.chunk_tokens import Group

__all__ = ["Denoiser"]

_FREQUENCIES = 32
_FASTEST = 2.0**7  # Radians per unit of time; faster ones would alias at few steps.


class Denoiser(nn.Module):
    """A transformer from tokens of noised parameters to tokens of the prediction.

    The last layer is initially zero, so that a fresh network predicts zero: no change,
    in the edit mode.

    Attributes:
        groups: what the tokens are.
        width: features of a token.
        depth: blocks.
        heads: attention heads.
        mixer: ``"attention"`` or ``"mean"`` (deep sets).
        dtype: of activations; parameters are float32.
    """

    groups: Sequence[Group]
    width: int
    depth: int
    heads: int
    mixer: str
    dtype: jnp.dtype

    @nn.compact
    def __call__(
        self,
        tokens: Sequence[Array],
        source: Sequence[Array] | None,
        t: Array,
        prompt: Array,
    ) -> tuple[Array, ...]:
        """Predict from one model's tokens.

        Args:
            tokens: of the noised variable, ``[count, width]`` each group.
            source: of the model to change, likewise; None in the generate mode.
            t: diffusion time, ``[]``.
            prompt: its features, ``[F]``.

        Returns:
            The prediction, shaped like ``tokens``.
        """
        encoded = []
        for index, (group, own) in enumerate(zip(self.groups, tokens, strict=True)):
            if source is not None:
                own = jnp.concatenate([own, source[index]], axis=-1)
            name = f"encode_{index}_{_plain(group.name)}"
            encoded.append(nn.Dense(self.width, dtype=self.dtype, name=name)(own))
        h = jnp.concatenate(encoded)

        wanted = nn.gelu(nn.Dense(2 * self.width, dtype=self.dtype)(prompt))
        wanted = nn.Dense(self.width, dtype=self.dtype)(wanted)
        time = nn.Dense(self.width, dtype=self.dtype)(_time_features(t))
        condition = nn.silu(wanted + time)

        for _ in range(self.depth):
            shift, scale, gate = self._modulation(condition)
            mixed = self._mix(_norm(h, self.dtype) * (1 + scale) + shift)
            h = h + gate * mixed
            shift, scale, gate = self._modulation(condition)
            inner = _norm(h, self.dtype) * (1 + scale) + shift
            inner = nn.gelu(nn.Dense(4 * self.width, dtype=self.dtype)(inner))
            h = h + gate * nn.Dense(self.width, dtype=self.dtype)(inner)

        shift, scale, _ = self._modulation(condition)
        h = (_norm(h, self.dtype) * (1 + scale) + shift).astype(jnp.float32)
        decoded, first = [], 0
        for index, group in enumerate(self.groups):
            own = h[first : first + group.count]
            first += group.count
            name = f"decode_{index}_{_plain(group.name)}"
            zeros = nn.initializers.zeros
            decoded.append(nn.Dense(group.width, kernel_init=zeros, name=name)(own))
        return tuple(decoded)

    def _modulation(self, condition: Array) -> list[Array]:
        zeros = nn.initializers.zeros
        layer = nn.Dense(3 * self.width, dtype=self.dtype, kernel_init=zeros)
        shift, scale, gate = jnp.split(layer(condition)[None], 3, axis=-1)
        # Gates are initially open: the decoder alone holds a fresh network at zero.
        return [shift, scale, 1 + gate]

    def _mix(self, h: Array) -> Array:
        if self.mixer == "attention":
            attention: Any = nn.MultiHeadDotProductAttention
            return attention(self.heads, dtype=self.dtype)(h)
        inner = nn.gelu(nn.Dense(2 * self.width, dtype=self.dtype)(h))
        mean = jnp.mean(inner, axis=0, keepdims=True)
        return nn.Dense(self.width, dtype=self.dtype)(mean)


def _norm(h: Array, dtype: jnp.dtype) -> Array:
    return nn.LayerNorm(use_scale=False, use_bias=False, dtype=dtype)(h)


def _time_features(t: Array) -> Array:
    speeds = jnp.geomspace(1.0, _FASTEST, _FREQUENCIES)
    return jnp.concatenate([jnp.sin(speeds * t), jnp.cos(speeds * t)])


def _plain(name: str) -> str:
    """Write a group's name as a parameter's: slashes would be taken for paths."""
    return "".join(letter if letter.isalnum() else "_" for letter in name)
