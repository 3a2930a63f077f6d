"""One verdict on a claim of forgetting, from the logits of models of any framework."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy.special import logsumexp

from hyperforget_jax.audits.bounds import epsilon_ceiling, held_out_bound
from hyperforget_jax.audits.divergence import klom
from hyperforget_jax.audits.forgetting import forgetting_score
from hyperforget_jax.audits.likelihood import ulira
from hyperforget_jax.audits.pool import OUT, UNLEARNED, Pool
from hyperforget_jax.audits.rates import rates
from hyperforget_jax.audits.ruli import ruli

__all__ = ["KINDS", "Audited", "Judgement", "judge", "scaled_confidence"]

KINDS = ("original", "retrained", "unlearned")
"""What a model may be: trained with the forgotten examples, without, or unlearned."""


@dataclasses.dataclass(frozen=True)
class Audited:
    """What one audit found.

    Attributes:
        audit: its name.
        value: of the unlearned models against retrained ones; None if there are too few
            models.
        interval: 1.96 standard errors around it over models, by the jackknife of ten
            groups. (Drawing models with replacement would put one and the same model
            among those that are fitted and those that are held out.)
        floor: of retrained models posed as unlearned, at the same number a side; what a
            perfect method has.
        original: of the original models posed as unlearned, what doing nothing has;
            None without enough of them.
        p: the share of random exchanges of unlearned and retrained models that look at
            least as bad. Under perfect forgetting it is below a level as often as the
            level says.
        note: what the audit cannot say.
    """

    audit: str
    value: float | None
    interval: tuple[float, float] | None = None
    floor: float | None = None
    original: float | None = None
    p: float | None = None
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Judgement:
    """All audits of one claim.

    Attributes:
        models: how many models of each kind there were.
        a_side: how many of them every comparison takes a side.
        examples: forgotten examples.
        audits: what each found.
        level: of false accusations, over all audits together.
    """

    models: Mapping[str, int]
    a_side: int
    examples: int
    audits: tuple[Audited, ...]
    level: float

    @property
    def accused_by(self) -> tuple[str, ...]:
        """The audits that tell unlearned from retrained models, by Holm's rule."""
        tested = sorted((f.p, f.audit) for f in self.audits if f.p is not None)
        accused = []
        for place, (p, audit) in enumerate(tested):
            if p > self.level / (len(tested) - place):
                break
            accused.append(audit)
        return tuple(accused)

    @property
    def verdict(self) -> str:
        """One line in plain language."""
        tested = [found.audit for found in self.audits if found.p is not None]
        if not tested:
            return "nothing can be said: there are too few models for every audit"
        if not self.accused_by:
            return (
                f"not told from retrained models by {', '.join(tested)} at "
                f"{self.a_side} models a side"
            )
        return "told from retrained models by " + ", ".join(self.accused_by)


def scaled_confidence(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Compute ``log p_y - log(1 - p_y)`` from logits, in float64.

    Args:
        logits: ``[..., M, C]``.
        labels: ``[M]``.

    Returns:
        ``[..., M]``.
    """
    logits = np.asarray(logits, np.float64)
    own = np.broadcast_to(labels[:, None], (*logits.shape[:-1], 1))
    others = np.arange(logits.shape[-1]) != np.asarray(labels)[:, None]
    rest = logsumexp(np.where(others, logits, -np.inf), axis=-1)
    return np.take_along_axis(logits, own, -1)[..., 0] - rest


def judge(
    logits: np.ndarray,
    labels: np.ndarray,
    kinds: Sequence[str],
    *,
    seed: int = 0,
    level: float = 0.05,
    exchanges: int = 199,
) -> Judgement:
    """Judge whether unlearned models can be told from retrained ones.

    Retrained models are split in two: one half is compared with, the other posed as
    unlearned for the floor. As many unlearned models are taken as a half has.

    Args:
        logits: of K models on the M forgotten examples, ``[K, M, C]``.
        labels: the examples', whole numbers, ``[M]``.
        kinds: what each model is, one of :data:`KINDS`, ``[K]``.
        seed: of the split and of the exchanges.
        level: of false accusations over all audits together.
        exchanges: random exchanges of models for each audit's ``p``, which is at least
            one over one more.

    Returns:
        The judgement; audits for which there are too few models say how many they need.

    Raises:
        TypeError, ValueError: malformed arrays, labels that are no classes, kinds that
            are unknown, not as many as models, or without retrained or unlearned ones.
    """
    logits, labels, words = _checked(logits, labels, kinds)
    phi = scaled_confidence(logits, labels)
    draw = np.random.default_rng(seed)
    rows = {kind: draw.permutation(np.flatnonzero(words == kind)) for kind in KINDS}
    counts = {kind: len(each) for kind, each in rows.items()}
    side = min(counts["retrained"] // 2, counts["unlearned"])
    reference = phi[rows["retrained"][:side]]
    floor = phi[rows["retrained"][side : 2 * side]]
    unlearned = phi[rows["unlearned"][:side]]
    original = phi[rows["original"][:side]] if counts["original"] >= side else None
    found = [
        _audit(name, *each, unlearned, reference, floor, original, draw, exchanges)
        for name, each in _AUDITS.items()
    ]
    found.append(_bound(unlearned, reference, level))
    return Judgement(counts, side, labels.size, tuple(found), level)


def _audit(
    name, needs, repeats, statistic, unlearned, reference, floor, original, draw, most
) -> Audited:
    side = len(reference)
    if side < needs:
        return Audited(
            name,
            None,
            note=f"needs {needs} unlearned and {2 * needs} retrained models; there are "
            f"enough for {side} a side",
        )
    value = statistic(unlearned, reference)
    # Of perfect forgetting every exchange of models is as likely as what was found.
    both = np.concatenate([unlearned, reference])
    as_bad = 0
    count = min(repeats, most)
    for _ in range(count):
        order = draw.permutation(2 * side)
        as_bad += statistic(both[order[:side]], both[order[side:]]) >= value
    return Audited(
        name,
        value,
        _interval(statistic, value, unlearned, reference),
        statistic(floor, reference),
        None if original is None else statistic(original, reference),
        (1 + as_bad) / (1 + count),
    )


def _interval(statistic, value, first, second) -> tuple[float, float]:
    groups = min(10, len(first))
    group = np.arange(len(first)) % groups
    kept = [group != left_out for left_out in range(groups)]
    values = np.array([statistic(first[rows], second[rows]) for rows in kept])
    squares = np.sum((values - values.mean()) ** 2) * (groups - 1) / groups
    half = 1.96 * float(np.sqrt(squares))
    return value - half, value + half


def _pool(first: np.ndarray, second: np.ndarray) -> Pool:
    world = np.repeat([UNLEARNED, OUT], [len(first), len(second)])
    phi = np.concatenate([first, second])
    # In turn, so that every group of models that is left out has both.
    order = np.argsort(np.r_[np.arange(len(first)), np.arange(len(second)) + 0.5])
    return Pool(phi[order], np.broadcast_to(world[order][:, None], phi.shape))


def _ratio(attack: Callable[[Pool], np.ndarray]):
    def accuracy(first, second):
        pool = _pool(first, second)
        scores = attack(pool)
        return rates(scores[pool.is_(UNLEARNED)], scores[pool.is_(OUT)]).accuracy

    return accuracy


# Name, models a side, exchanges at the most (a p of 0.005 wants 199), and what is
# large where forgetting failed.
_AUDITS = {
    "accuracy": (2, 199, lambda a, b: float(abs(np.mean(a > 0) - np.mean(b > 0)))),
    "mean confidence": (
        3,
        199,
        lambda a, b: float(np.mean(np.abs(a.mean(axis=0) - b.mean(axis=0)))),
    ),
    "u-lira": (8, 199, _ratio(lambda pool: ulira(pool, folds=8))),
    "ruli": (16, 99, _ratio(lambda pool: ruli(pool, folds=4))),
    "klom": (16, 99, lambda a, b: float(np.quantile(klom(a, b), 0.95))),
    "klom, reverse": (16, 99, lambda a, b: float(np.quantile(klom(b, a), 0.95))),
    "1 - forgetting score": (32, 19, lambda a, b: 1 - forgetting_score(a, b).score),
}


def _bound(unlearned, reference, level) -> Audited:
    """A lower bound of epsilon from the mean confidence, one score a model."""
    name = "epsilon, lower bound"
    if len(reference) < 8:
        return Audited(name, None, note="needs 8 unlearned and 16 retrained models")
    # Which side is larger is chosen too: each direction has half of the level.
    sides = (unlearned.mean(axis=1), reference.mean(axis=1))
    value = max(
        held_out_bound(*pair, level=1 - level / 2) for pair in (sides, sides[::-1])
    )
    half = len(reference) - len(reference) // 2
    most = epsilon_ceiling(half, half, level=1 - level / 2)
    return Audited(name, value, note=f"so many models show {most:.2f} at the most")


def _checked(logits, labels, kinds):
    logits, labels = np.asarray(logits), np.asarray(labels)
    kinds = np.asarray(kinds, dtype=object)
    if logits.dtype.kind != "f" or labels.dtype.kind not in "iu":
        raise TypeError(
            "logits must be floating-point and labels whole numbers, got "
            f"{logits.dtype} and {labels.dtype}."
        )
    if logits.ndim != 3 or logits.shape[2] < 2 or not logits.size:
        raise ValueError(
            "logits must be [models, examples, classes] with at least two classes, got "
            f"shape {logits.shape}."
        )
    if labels.shape != logits.shape[1:2]:
        raise ValueError(
            f"labels must be [{logits.shape[1]}], one an example, got {labels.shape}."
        )
    if labels.min() < 0 or labels.max() >= logits.shape[2]:
        raise ValueError(
            f"labels must be in [0, {logits.shape[2]}), got {labels.min()} to "
            f"{labels.max()}: they do not match the logits."
        )
    if kinds.shape != logits.shape[:1]:
        raise ValueError(
            f"kinds must say of each of the {logits.shape[0]} models what it is, got "
            f"{kinds.size}."
        )
    unknown = sorted({str(kind) for kind in kinds} - set(KINDS))
    if unknown:
        raise ValueError(f"kinds must be among {KINDS}, got {', '.join(unknown)}.")
    for kind in ("retrained", "unlearned"):
        if kind not in kinds:
            raise ValueError(f"There is no {kind} model to judge by.")
    bad = np.isnan(logits).any(axis=(1, 2))
    if bad.any():
        raise ValueError(
            f"logits hold NaN in the models {np.flatnonzero(bad).tolist()}: leave out "
            "those that diverged."
        )
    return logits, labels, kinds
