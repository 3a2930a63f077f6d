"""What a hypernetwork is, before it has learnt anything."""

import dataclasses

from hyperforget_jax import diffusion

__all__ = ["Recipe"]

_MODES = ("anchored", "free")
_PROMPTS = ("dihyfo_1", "dihyfo_2")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """The choices that make a hypernetwork; sizes and names, all static.

    Attributes:
        mode: ``"anchored"`` reads the parameters of the model that is to forget and
            predicts their change; ``"free"`` samples whole models.
        prompt: ``"dihyfo_1"``, the loss wanted on what is forgotten and the loss
            wanted on the rest, with the forgotten classes; or ``"dihyfo_2"``, the loss
            wanted on every class.
        tokens: ``"units"``, ``"chunks"`` or ``"auto"``, as for
            :func:`hyperforget_jax.hypernet.tokenizer`.
        chunk_size: numbers a token, where tokens are chunks.
        width: features of a token inside the denoiser.
        depth: blocks of the denoiser.
        heads: attention heads; ``width`` divides by them.
        mixer: ``"attention"``, or ``"mean"``: tokens hear of each other by one mean.
        prediction: what the denoiser is trained to give, ``"x0"``, ``"v"`` or
            ``"eps"``.
        schedule: ``"cosine"`` or ``"linear"``.
        dtype: of activations; ``"auto"`` is bfloat16 on accelerators, else float32.
    """

    mode: str = "anchored"
    prompt: str = "dihyfo_2"
    tokens: str = "auto"
    chunk_size: int = 1000
    width: int = 96
    depth: int = 2
    heads: int = 4
    mixer: str = "attention"
    prediction: str = "x0"
    schedule: str = "cosine"
    dtype: str = "auto"

    def __post_init__(self):
        allowed = {
            "mode": _MODES,
            "prompt": _PROMPTS,
            "tokens": ("auto", "units", "chunks"),
            "mixer": ("attention", "mean"),
            "prediction": diffusion.PREDICTIONS,
            "schedule": diffusion.SCHEDULES,
            "dtype": ("auto", "float32", "bfloat16"),
        }
        for name, choices in allowed.items():
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"{name} must be one of {list(choices)}, got "
                    f"{getattr(self, name)!r}."
                )
        for name in ("chunk_size", "width", "depth", "heads"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a positive integer, got {value!r}.")
        if self.width % self.heads:
            raise ValueError(
                f"width must divide by heads, got width={self.width} and "
                f"heads={self.heads}."
            )
