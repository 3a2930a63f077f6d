"""How hypernetworks are built and trained."""

import dataclasses

from hyperforget_jax import checks, diffusion

__all__ = ["HypernetConfig", "TrainConfig"]


@dataclasses.dataclass(frozen=True)
class HypernetConfig:
    """The architecture of a hypernetwork.

    Attributes:
        mode: ``"edit"`` reads the parameters of the model that is to forget and
            predicts their change; ``"generate"`` samples whole models.
        prompt: ``"dihyfo_1"``, the loss wanted on the forgotten classes and the loss
            wanted on the others, with the forgotten classes; or ``"dihyfo_2"``, the
            loss wanted on every class.
        tokens: ``"units"``, ``"chunks"`` or ``"auto"``, as for
            :func:`hyperforget_jax.hypernet.tokenizer`.
        chunk_size: numbers a token, where tokens are chunks.
        width: features of a token inside the denoiser.
        depth: blocks of the denoiser.
        heads: attention heads; ``width`` divides by them.
        mixer: ``"attention"``, or ``"mean"``: tokens see each other through one mean.
        prediction: what the denoiser predicts, ``"x0"``, ``"v"`` or ``"eps"``.
        schedule: ``"cosine"`` or ``"linear"``.
        dtype: of activations; ``"auto"`` is bfloat16 on accelerators, else float32.
    """

    mode: str = "edit"
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
            "mode": ("edit", "generate"),
            "prompt": ("dihyfo_1", "dihyfo_2"),
            "tokens": ("auto", "units", "chunks"),
            "mixer": ("attention", "mean"),
            "prediction": diffusion.PREDICTIONS,
            "schedule": diffusion.SCHEDULES,
            "dtype": ("auto", "float32", "bfloat16"),
        }
        for name, choices in allowed.items():
            checks.check_one_of(name, getattr(self, name), choices)
        sizes = ("chunk_size", "width", "depth", "heads")
        checks.check_sizes(**{name: getattr(self, name) for name in sizes})
        if self.width % self.heads:
            raise ValueError(
                f"width must divide by heads, got width={self.width} and "
                f"heads={self.heads}."
            )


@dataclasses.dataclass(frozen=True)
class TrainConfig:
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
        functional_rows: training rows a step on which sampled and true models are
            compared.
        ema: the largest decay of the moving average of the weights.
        ema_warmup: whether the decay grows from small values, ``(1 + i) / (10 + i)``;
            without it the average keeps the initial weights.
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

    def __post_init__(self):
        sizes = ("steps", "batch_size", "functional_rows")
        checks.check_sizes(**{name: getattr(self, name) for name in sizes})
        checks.check_positive(learning_rate=self.learning_rate, clip=self.clip)
