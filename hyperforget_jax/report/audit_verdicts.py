"""What the audits of a method say, in one line of plain language, by stated rules."""

import statistics
from collections.abc import Mapping
from typing import Any

from hyperforget_jax.report.columns import Row
from hyperforget_jax.report.verdicts import Verdict, difference

__all__ = ["AUDIT_RULES", "audit_verdict"]

_FORGET, _RETAIN = 0.02, 0.01
_BOUND = "epsilon, lower bound"

AUDIT_RULES = (
    "Distinguished from retrained models: by the audits whose p, the share of random "
    "exchanges of unlearned and retrained models that look at least as bad, is small "
    "by Holm’s rule over all audits of the line. Models as good as retrained ones are "
    "distinguished from them, by any audit, at most as often as the level says. Audits "
    "without a p are read beside their floor and accuse nobody here.",
    "Not distinguished: by none of them, at so many models a side. It says that these "
    "audits found nothing, not that there is nothing; more models find more.",
    "How much: where an audit’s value lies between its floor (0 %, other retrained "
    "models posed as unlearned) and the original models’ value (100 %), who are posed "
    "as unlearned too; the median over the audits that accuse and for which the "
    "original lies above the floor. Where there is none such, the trace is the "
    "unlearning’s own. It has no direction: who forgot too hard is accused too.",
    "Direction: accuracy on the forgotten rows, and success of the backdoor’s trigger, "
    "against retrained models’, farther apart than 2 standard errors of a difference, "
    "over as many models as are compared a side, and than "
    f"{100 * _FORGET:g} points. Nearer is not mentioned.",
    "The bound: a lower bound of epsilon above 0 is mentioned. It holds by itself, "
    "with the level’s confidence, and is none of the audits that tell.",
    "Cost: retain accuracy on test against retrained models’ (the original’s where "
    "they have none), farther below than 2 such standard errors and "
    f"{100 * _RETAIN:g} point. Farther than the point alone: “may”. Higher is as good.",
)
"""How verdicts of audits are made, for people."""


def audit_verdict(row: Row) -> Verdict:
    """Judge a method by its audits and by what its models can still do.

    Args:
        row: from :func:`audit_row`.
    """
    tested = [found["audit"] for found in row["audits"] if found["p"] is not None]
    accused = [found for found in row["audits"] if found["audit"] in row["accused_by"]]
    side = f"{row['a_side']} model{'s' * (row['a_side'] != 1)} a side"
    if not tested:
        headline, said = "Inconclusive", [f"too few models for every audit ({side})"]
    elif not accused:
        headline = "Not distinguished from retrained models"
        count = f"{len(tested)} audit{'s' * (len(tested) != 1)}"
        said = [f"by none of {count} at {side}"]
    else:
        headline = "Distinguished from retrained models"
        names = [found["audit"] for found in accused]
        is_all = len(names) == len(tested) > 2
        by = f"all {len(names)} audits" if is_all else _listed(names)
        said = [f"by {by}", _how_much(accused)]
    said += _direction(row) + _bound(row)
    dear, cost = _cost(row)
    untested = [found["audit"] for found in row["audits"] if found["value"] is None]
    if tested and untested:
        cost = f"{cost}; too few models for {_listed(untested)}"
    return Verdict(headline + ", at a cost" * dear, (*said, cost))


def _listed(names: list[str]) -> str:
    *most, last = (name.removeprefix("1 - ") for name in names)
    return f"{', '.join(most)} and {last}" if most else last


def _how_much(accused: list[Mapping[str, Any]]) -> str:
    known = [
        found
        for found in accused
        if found["original"] is not None and found["floor"] is not None
    ]
    if not known:
        return "too few original models to say how much that is"
    shares = [
        (found["value"] - found["floor"]) / (found["original"] - found["floor"])
        for found in known
        if found["original"] > found["floor"]
    ]
    if not shares:
        return "where the original is not seen: a trace of the unlearning itself"
    share = statistics.median(shares)
    shown = "what the original shows"
    if share > 10:
        return f"more than 10 times {shown}"
    if share >= 1.225:
        return f"about {share:.1f} times {shown}"
    # Five more or less are noise.
    percent = 5 * round(20 * share)
    return f"{f'about {percent}' if percent > 0 else 'less than 5'}% of {shown}"


def _direction(row: Row) -> list[str]:
    said = []
    for name, more, less, of in (
        (
            "forget_accuracy_train",
            "still right on",
            "forgot too hard: right on",
            "of the forgotten rows",
        ),
        (
            "attack_success",
            "the trigger still works on",
            "the trigger works on only",
            "of the images that carry it",
        ),
    ):
        own = row["metrics"].get(name)
        target = row["reference_metrics"].get("retrained", {}).get(name)
        if own is None or target is None:
            continue
        words = {"more": more, "less": less}
        apart = difference(own, target, _FORGET, _counts(row))
        if apart in words:
            said.append(
                f"{words[apart]} {own['mean']:.1%} {of} (retrained models: "
                f"{target['mean']:.1%})"
            )
    return said


def _bound(row: Row) -> list[str]:
    for found in row["audits"]:
        if found["audit"] == _BOUND and (found["value"] or 0) > 0:
            return [f"epsilon is at least {found['value']:.2f}"]
    return []


def _cost(row: Row) -> tuple[bool, str]:
    name = "retain_accuracy_test"
    own = row["metrics"].get(name)
    for kind in ("retrained", "original"):
        target = row["reference_metrics"].get(kind, {}).get(name)
        if own is not None and target is not None:
            points = round(100 * (own["mean"] - target["mean"]), 1) + 0.0
            apart = difference(own, target, _RETAIN, _counts(row))
            if apart == "less":
                return True, f"loses {-points:.1f} points of retained accuracy"
            if apart == "unclear" and points < 0:
                return False, f"may lose retained accuracy ({points:+.1f} points)"
            return False, f"keeps retained accuracy ({points:+.1f} points)"
    return False, "what it costs in retained accuracy was not measured"


def _counts(row: Row) -> tuple[int, int]:
    # Of retrained models no more need have been measured.
    return row["a_side"], row["a_side"]
