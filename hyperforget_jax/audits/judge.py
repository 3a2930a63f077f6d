"""One verdict on a claim of forgetting, from the logits of models of any framework."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy.special import logsumexp

from hyperforget_jax import checks
from hyperforget_jax.audits.bounds import epsilon_ceiling, held_out_bound
from hyperforget_jax.audits.divergence import klom
from hyperforget_jax.audits.forgetting import forgetting_score
from hyperforget_jax.audits.likelihood import ulira
from hyperforget_jax.audits.mistakes import checked_claim
from hyperforget_jax.audits.pool import LARGEST, OUT, UNLEARNED, Pool
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
                f"not distinguished from retrained models by {', '.join(tested)} at "
                f"{self.a_side} models a side"
            )
        return "distinguished from retrained models by " + ", ".join(self.accused_by)


def scaled_confidence(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Compute ``log p_y - log(1 - p_y)`` from logits, in float64.

    Args:
        logits: ``[..., M, C]``.
        labels: ``[M]``.

    Returns:
        ``[..., M]``.
    """
    logits, labels = np.asarray(logits, np.float64), np.asarray(labels)
    own = np.broadcast_to(labels[:, None], (*logits.shape[:-1], 1))
    others = np.arange(logits.shape[-1]) != labels[:, None]
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
    """Judge whether unlearned models can be distinguished from retrained ones.

    Retrained models are split in two: one half is compared with, the other posed as
    unlearned for the floor. As many unlearned models are taken as a half has.

    Args:
        logits: of K models on the M forgotten examples, ``[K, M, C]``.
        labels: the examples', whole numbers, ``[M]``.
        kinds: what each model is, one of :data:`KINDS`, ``[K]``.
        seed: of the split and of the exchanges.
        level: of false accusations over all audits together.
        exchanges: random exchanges of models for each audit's ``p``, which is at least
            one over one more; 0 for values alone.

    Returns:
        The judgement; audits for which there are too few models say how many they need.

    Raises:
        TypeError, ValueError: malformed arrays, labels that are no classes, kinds that
            are unknown, not as many as models, or without retrained or unlearned ones;
            probabilities in place of logits, copies of one model, or a level that
            cannot be shown.

    Examples:
        >>> import numpy as np
        >>> from hyperforget_jax import audits
        >>> draw = np.random.default_rng(0)
        >>> labels = draw.integers(0, 10, 50)
        >>> logits = draw.normal(size=(24, 50, 10))  # of 24 models
        >>> kinds = 16 * ["retrained"] + 8 * ["unlearned"]
        >>> audits.judge(logits, labels, kinds).accused_by
        ()
        >>> logits[16:, np.arange(50), labels] += 5.0  # the last 8 know the labels
        >>> "u-lira" in audits.judge(logits, labels, kinds).accused_by
        True
    """
    logits, labels, words = checked_claim(logits, labels, kinds, KINDS)
    phi = _confidences(logits, labels)
    if exchanges:
        checks.check_sizes(exchanges=exchanges)
    if not 0 < level < 1:
        raise ValueError(f"level must be in (0, 1), got {level}.")
    checks.check_seed(seed)
    draw = np.random.default_rng(seed)
    rows = {kind: draw.permutation(np.flatnonzero(words == kind)) for kind in KINDS}
    counts = {kind: len(each) for kind, each in rows.items()}
    side = min(counts["retrained"] // 2, counts["unlearned"])
    tests = sum(tested and needs <= side for needs, tested, _ in _AUDITS.values())
    least = tests / (1 + exchanges)
    if exchanges and level < least:
        raise ValueError(
            f"level must be at least {least:.3f} for {tests} audits, got {level}: by "
            f"{exchanges} exchanges of models nothing could be found."
        )
    reference = phi[rows["retrained"][:side]]
    floor = phi[rows["retrained"][side : 2 * side]]
    unlearned = phi[rows["unlearned"][:side]]
    original = phi[rows["original"][:side]] if counts["original"] >= side else None
    found = [
        _audit(name, *each, unlearned, reference, floor, original, draw, exchanges)
        for name, each in _AUDITS.items()
    ]
    found.append(_bound(unlearned, reference, level))
    # Whoever was trained with examples is right on them, poisoned ones too.
    if original is not None and np.mean(original > 0) < 0.5:
        share = f"{np.mean(original > 0):.0%}"
        note = f"the original models are right on {share} of these labels; see "
        note += "that labels and logits list the same examples"
        found[0] = dataclasses.replace(found[0], note=note)
    return Judgement(counts, side, phi.shape[1], tuple(found), level)


def _audit(
    name, needs, tested, statistic, unlearned, reference, floor, original, draw, count
) -> Audited:
    side = len(reference)
    if side < needs:
        return _too_few(name, needs, side)
    value = statistic(unlearned, reference)
    # Of perfect forgetting every exchange of models is as likely as what was found.
    both = np.concatenate([unlearned, reference])
    as_bad, tested = 0, tested and count
    for _ in range(count if tested else 0):
        order = draw.permutation(2 * side)
        as_bad += statistic(both[order[:side]], both[order[side:]]) >= value
    return Audited(
        name,
        value,
        _interval(statistic, value, unlearned, reference),
        statistic(floor, reference),
        None if original is None else statistic(original, reference),
        (1 + as_bad) / (1 + count) if tested else None,
    )


def _too_few(name: str, needs: int, side: int) -> Audited:
    note = f"needs {needs} unlearned and {2 * needs} retrained models; there are "
    return Audited(name, None, note=f"{note}enough for {side} a side")


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
    # One side after the other: a group that is left out has as many of both.
    return Pool(phi, np.broadcast_to(world[:, None], phi.shape))


def _ratio(attack: Callable[[Pool], np.ndarray]):
    def accuracy(first, second):
        pool = _pool(first, second)
        scores = attack(pool)
        sides = (scores[pool.is_(world)] for world in (UNLEARNED, OUT))
        return rates(*sides, levels=()).accuracy

    return accuracy


# Name, models a side, whether it is tested, and what is large where forgetting failed.
# Of four models a side there are 35 exchanges, too few for a p below 0.029: whatever
# was claimed, nothing would be found. Many forgetting scores take too long.
_AUDITS = {
    "accuracy": (5, True, lambda a, b: float(abs(np.mean(a > 0) - np.mean(b > 0)))),
    "mean confidence": (
        5,
        True,
        lambda a, b: float(np.mean(np.abs(a.mean(axis=0) - b.mean(axis=0)))),
    ),
    "u-lira": (8, True, _ratio(lambda pool: ulira(pool, folds=8))),
    "ruli": (16, True, _ratio(lambda pool: ruli(pool, folds=4))),
    "klom": (16, True, lambda a, b: float(np.quantile(klom(a, b), 0.95))),
    "reverse klom": (16, True, lambda a, b: float(np.quantile(klom(b, a), 0.95))),
    "1 - forgetting score": (32, False, lambda a, b: 1 - forgetting_score(a, b).score),
}


def _bound(unlearned, reference, level) -> Audited:
    """A lower bound of epsilon from the mean confidence, one score a model."""
    name, side = "epsilon, lower bound", len(reference)
    level = 1 - level / 2  # Each direction has half, since the larger is taken.

    def most(held_out: int) -> float:
        return epsilon_ceiling(held_out, held_out, level=level)

    # Where half of them could show nothing but 0, no threshold is found either.
    halves = range(4, 100_000)  # Beyond all that anybody trains.
    needs = 2 * next((half for half in halves if most(half) > 0), halves.stop)
    if side < needs:
        return _too_few(name, needs, side)
    sides = (unlearned.mean(axis=1), reference.mean(axis=1))
    value = max(held_out_bound(*pair, level=level) for pair in (sides, sides[::-1]))
    note = f"so many models show {most(side - side // 2):.2f} at the most"
    return Audited(name, value, note=note)


def _confidences(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    # Model by model: a large file stays on disk, and is not copied in float64. An
    # infinite logit alone is a confidence, which differences must survive.
    with np.errstate(invalid="ignore"):
        phi = np.stack([scaled_confidence(each, labels) for each in logits])
    phi = np.clip(phi, -LARGEST, LARGEST)
    bad = np.isnan(phi).any(axis=1)
    if bad.any():
        raise ValueError(
            f"logits hold NaN in the models {np.flatnonzero(bad).tolist()}, or "
            "infinities that cancel: leave out those that diverged."
        )
    return phi
