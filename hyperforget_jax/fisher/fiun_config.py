"""How FIUn changes a model: one frozen configuration, and three presets of it."""

import dataclasses

import numpy as np

from hyperforget_jax import checks
from hyperforget_jax.base import Access, Array, ForgetRequest
from hyperforget_jax.fisher.diagonal import ESTIMATORS
from hyperforget_jax.user_warnings import warn_user

__all__ = [
    "PRESETS",
    "FIUnConfig",
    "as_config",
    "check_effect",
]


@dataclasses.dataclass(frozen=True)
class FIUnConfig:
    """Configuration of FIUn; its defaults repair what is published.

    Exact Fishers on each model's scale; requested columns and deep layers dampened.

    A parameter is selected where ``F_f > alpha * F_D`` and multiplied by
    ``min(1, strength * F_D / F_f)``; ``F_f`` is the maximum over the roots.

    Attributes:
        alpha: selection threshold; under ``columns_only`` that of the columns, and
            without meaning for a request of rows.
        strength: ``lambda``; likewise.
        deep_alpha: under ``columns_only``, the threshold of the layers before the head,
            and for a request of rows of the head too.
        deep_strength: likewise their ``lambda``.
        redistribution: how much of a forgotten class's column is added to those of the
            classes that its examples resemble.
        scope: parameters that are dampened: ``"head"``, ``"all"`` or ``"none"``.
        by_share: whether ``F_f`` is multiplied by the share of the root's data that is
            to be forgotten, so that it is a part of ``F_D`` and ``alpha`` in (0, 1).
        match_trace: whether ``F_f`` is brought to each model's scale, by its trace.
        centre_head: whether the head is first centred over the classes that are left.
        columns_only: whether, for a class request, of the head only the columns of the
            requested classes are dampened, and everything else on terms of its own.
        reinitialise: whether, for a class request, the requested columns of the head
            are drawn afresh, and masked as those of unknown classes are.
        estimator: of the Fishers, see :func:`hyperforget_jax.fisher.diagonal`.
        batch_size: rows at once; under ``"batch_gradient"`` part of the definition.

    Raises:
        ValueError: an unknown choice, a number that is not positive, or a combination
            that does nothing.
    """

    alpha: float | Array = 0.03
    strength: float | Array = 0.003
    deep_alpha: float | Array = 0.9
    deep_strength: float | Array = 0.25
    redistribution: float | Array = 0.0
    scope: str = "all"
    by_share: bool = True
    match_trace: bool = True
    centre_head: bool = True
    columns_only: bool = True
    reinitialise: bool = False
    estimator: str = "per_example"
    batch_size: int = 256

    def __post_init__(self):
        checks.check_positive(
            alpha=self.alpha,
            strength=self.strength,
            deep_alpha=self.deep_alpha,
            deep_strength=self.deep_strength,
        )
        checks.check_sizes(batch_size=self.batch_size)
        amount = self.redistribution
        if checks.is_concrete(amount) and not amount >= 0:
            raise ValueError(
                f"redistribution must not be negative, got redistribution={amount}."
            )
        checks.check_one_of("scope", self.scope, ("head", "all", "none"))
        checks.check_one_of("estimator", self.estimator, ESTIMATORS)
        if not (self.dampens or self.redistributes or self.reinitialise):
            raise ValueError(
                "This configuration does nothing: scope='none' dampens nothing, and "
                "neither redistribution nor reinitialise is set."
            )
        if self.by_share and self.estimator == "batch_gradient":
            raise ValueError(
                "by_share=True needs estimator='per_example': the Fisher of "
                "minibatches is not a mean over examples, of which some could be a "
                "share."
            )

    @classmethod
    def published(cls) -> "FIUnConfig":
        """Return the rule of arXiv 2408.08493: the ratio of minibatch Fishers."""
        return cls(
            alpha=1.0,
            strength=1.0,
            scope="head",
            by_share=False,
            match_trace=False,
            centre_head=False,
            columns_only=False,
            estimator="batch_gradient",
            batch_size=32,
        )

    @classmethod
    def head_reassign(cls) -> "FIUnConfig":
        """Return that for class requests by the head alone.

        The forgotten column is shared out among resembling classes, and masked.
        """
        return cls(
            redistribution=0.3,
            scope="none",
            by_share=False,
            match_trace=False,
            columns_only=False,
            reinitialise=True,
        )

    @property
    def dampens(self) -> bool:
        """Whether any parameter is dampened, so that Fishers are needed."""
        return self.scope != "none"

    @property
    def redistributes(self) -> bool:
        """Whether a forgotten column may be added to others."""
        amount = self.redistribution
        return not checks.is_concrete(amount) or bool(np.any(np.asarray(amount) != 0))

    @property
    def access(self) -> Access:
        """What ``init`` and ``unlearn`` read."""
        selects = self.columns_only or self.reinitialise or self.centre_head
        return Access(
            init={"retain", "forget"} if self.dampens else set(),
            unlearn={"forget", "classes"}
            if selects or self.redistributes
            else {"forget"},
            remains="the Fisher, less the forgotten share; normalisation statistics"
            if self.dampens
            else "all layers but the head; normalisation statistics",
        )


PRESETS = {
    "published": FIUnConfig.published(),
    "repaired": FIUnConfig(),
    "head_reassign": FIUnConfig.head_reassign(),
}


def as_config(config: FIUnConfig | str) -> FIUnConfig:
    """Return a configuration, or the preset of that name.

    Args:
        config: a configuration; or ``"repaired"``, ``"published"`` or
            ``"head_reassign"``, which was called ``"folded"`` before.

    Raises:
        TypeError: neither.
        ValueError: no such preset.
    """
    if isinstance(config, str):
        name = {"folded": "head_reassign"}.get(config, config)
        if name not in PRESETS:
            raise ValueError(
                f"config must be a hf.FIUnConfig or one of {tuple(PRESETS)}, got "
                f"{config!r}."
            )
        return PRESETS[name]
    checks.check_is(FIUnConfig, "a hf.FIUnConfig", config=config)
    return config


def check_effect(config: FIUnConfig, request: ForgetRequest) -> None:
    """Raise, or warn, where a configuration can do nothing with a request.

    Args:
        config: of FIUn; tracers pass.
        request: what is to be forgotten.

    Raises:
        ValueError: a request for rows under a configuration that changes classes alone.
    """
    numbers = (config.alpha, config.deep_alpha)
    if not checks.is_concrete(numbers, request):
        return
    # By NumPy: under a trace JAX would make tracers of what is concrete.
    names_classes = np.asarray(request.classes).any()
    if not config.dampens and not names_classes:
        raise ValueError(
            "The config changes the columns of requested classes and dampens nothing, "
            "but the request is for single rows: use hf.FIUnConfig()."
        )
    # Without rows it cannot be seen how much of the data is asked for.
    if not config.dampens or request.data is None or request.rows is None:
        return
    weight, rows = np.asarray(request.data.weight), np.asarray(request.rows)
    rows = rows[(rows >= 0) & (rows < weight.size)]
    share = weight[rows].sum() / max(weight.sum(), 1)
    # Which threshold decides; and above what it cannot be passed, at the weights where
    # both Fishers were taken.
    name = "deep_alpha" if config.columns_only and not names_classes else "alpha"
    alpha = np.asarray(getattr(config, name))
    most = 1.0 if config.by_share else 1 / share if share > 0 else np.inf
    if config.estimator == "per_example" and (alpha >= most).all():
        warn_user(
            f"{name}={getattr(config, name)} selects nothing: the forget data are "
            f"{share:.3g} of the data at hand, and what is compared is at most "
            f"{most:.3g} there.",
            RuntimeWarning,
        )
