"""What a method did, in one line of plain language, by stated rules."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from hyperforget_jax.report.columns import Row, is_cut_short
from hyperforget_jax.report.schema import metric_summary

__all__ = ["RULES", "Verdict", "difference", "verdict"]

_ERRORS = 2.0
_FORGET, _RETAIN, _AUC, _JS, _STEPS, _SHARE = 0.02, 0.01, 0.05, 0.002, 2.0, 0.2

_WRONG = {
    "not": "Not forgotten",
    "partly": "Partly forgotten",
    "too much": "Forgot too much",
    "left": "Something is left",
    "unlike": "Unlike retraining",
}
_ABSENT = {
    "missing": "not measured",
    "alone": "nothing to compare with (no retrained models)",
}

RULES = (
    f"Two numbers differ if their means are farther apart than {_ERRORS:g} standard "
    "errors of the difference, sqrt(sd₁²/n₁ + sd₂²/n₂) over training seeds, and than a "
    "margin that matters in practice. Farther apart than the margin alone: “may”. With "
    "one seed the spread is unknown, and the margin alone decides.",
    f"Forgotten by accuracy: forget accuracy, on test and on train, within "
    f"{100 * _FORGET:g} points of retraining’s (of 0 for whole classes where nothing "
    "was retrained).",
    f"Outputs: JS to retrained against the ceiling’s, margin {_JS:g} nats or "
    f"{100 * _SHARE:g} % of the ceiling’s, whichever is more. Nearer is as good.",
    f"Relearning: steps against retraining’s, margin {_STEPS:g} steps or "
    f"{100 * _SHARE:g} % of them, whichever is more.",
    f"Membership: MIA AUC against retraining’s, margin {_AUC:g}, in both directions.",
    f"Cost: retain accuracy on test against retraining’s (the original’s where nothing "
    f"was retrained), margin {100 * _RETAIN:g} point. Higher is as good.",
    "Time: of one request against retraining, without compilation; about as fast "
    "within a factor of 1.5.",
    "The first that fits: not or partly forgotten (forget accuracy too high); forgot "
    "too much (too low); something is left (relearns faster, or a higher AUC); unlike "
    "retraining (outputs farther away, slower relearning, or a lower AUC); "
    "no trace found, which takes all of them measured and none in doubt. It says that "
    "these measures found none, not that there is none.",
)
"""How verdicts are made, for people."""


class Verdict(NamedTuple):
    """A method's verdict.

    Attributes:
        headline: a few words.
        findings: what it rests on, measure by measure.
    """

    headline: str
    findings: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.headline}: {'; '.join(self.findings)}."


class _Finding(NamedTuple):
    """What was found, and the words for it."""

    status: str  # "good", "unclear", "cost", one of _ABSENT, or a key of _WRONG.
    text: str


def verdict(row: Row, references: Mapping[str, Row]) -> Verdict:
    """Judge a method by its row beside its reference rows.

    Args:
        row: the method's.
        references: the rows called ``original``, ``retrain`` and ``ceiling`` of the
            same request, those that exist.
    """
    ours = row["metrics"]
    theirs = {name: other["metrics"] for name, other in references.items()}
    retrain = theirs.get("retrain", {})
    forgetting = _forgetting(ours, retrain, theirs.get("original", {}))
    traces = [
        _outputs(ours, theirs.get("ceiling", {})),
        _relearning(row, references.get("retrain")),
        _membership(ours, retrain),
    ]
    cost = _cost(ours, theirs)
    headline = _headline(forgetting, traces, cost)
    if not headline.startswith("No trace"):  # Then what is right is not the news.
        traces = [finding for finding in traces if finding.status != "good"]
    findings = [forgetting, *traces, cost]
    said = [finding.text for finding in findings if finding.status not in _ABSENT]
    said += _speed(row, references.get("retrain"))
    for status, why in _ABSENT.items():
        absent = [finding.text for finding in findings if finding.status == status]
        if absent:
            said.append(f"{why}: " + ", ".join(absent))
    if row["n"] == 1:
        said.append("one seed: its spread is unknown")
    return Verdict(headline, tuple(said))


def difference(
    ours: Mapping, theirs: Mapping, margin: float, counts: tuple[int, int]
) -> str:
    """Return ``same``, ``more``, ``less``, or ``unclear`` for what may be noise.

    Args:
        ours: ``{"mean", "std", ...}`` of a metric.
        theirs: likewise.
        margin: a difference that does not matter.
        counts: how many values either is over.
    """
    apart = ours["mean"] - theirs["mean"]
    if abs(apart) <= margin:
        return "same"
    if min(counts) > 1:
        variances = [
            metric["std"] ** 2 / count
            for metric, count in zip((ours, theirs), counts, strict=True)
        ]
        if abs(apart) <= _ERRORS * math.sqrt(sum(variances)):
            return "unclear"
    return "more" if apart > 0 else "less"


def _headline(forgetting: _Finding, traces: list[_Finding], cost: _Finding) -> str:
    of_traces = [finding.status for finding in traces]
    statuses = {forgetting.status, *of_traces}
    if wrong := [words for status, words in _WRONG.items() if status in statuses]:
        headline = wrong[0]
    elif forgetting.status in _ABSENT:
        headline = "Inconclusive"
    elif forgetting.status == "unclear":
        headline = "Perhaps forgotten"
    elif set(of_traces) <= _ABSENT.keys():
        headline = "Forgotten by accuracy alone"
    elif statuses == {"good"}:
        headline = "No trace found"
    else:
        headline = "No trace found, but some tests are missing or inconclusive"
    return headline + (", at a cost" if cost.status == "cost" else "")


def _difference(ours: Mapping, theirs: Mapping, margin: float) -> str:
    counts = len(ours["values"]), len(theirs["values"])
    return difference(ours, theirs, margin, counts)


def _forgetting(ours: Mapping, retrain: Mapping, original: Mapping) -> _Finding:
    is_class = "forget_accuracy_test" in ours
    found = None
    for name, rows in (
        ("forget_accuracy_test", "unseen examples of the forgotten kind"),
        ("forget_accuracy_train", "the forgotten rows"),
    ):
        if name not in ours or (name not in retrain and not is_class):
            continue
        own = ours[name]
        # Who never saw a class never predicts it.
        target = retrain.get(name) or metric_summary([0.0] * len(own["values"]))
        who = "retrained models" if name in retrain else "who never saw them"
        said = f"right on {own['mean']:.1%} of {rows} ({who}: {target['mean']:.1%})"
        apart = _difference(own, target, _FORGET)
        if apart == "same":
            found = found or _Finding("good", "forgotten by accuracy")
        elif apart == "unclear":
            found = _Finding("unclear", f"{said}, which may be noise")
        elif apart == "less":
            return _Finding("too much", f"only {said}")
        else:
            before = original.get(name)
            kept = not before or _difference(own, before, _FORGET) != "less"
            return _Finding("not" if kept else "partly", f"still {said}")
    is_measured = "forget_accuracy_train" in ours
    return found or _absent(is_measured, retrain, "whether forgotten rows look unseen")


def _absent(is_measured: bool, retrain: Mapping | None, text: str) -> _Finding:
    return _Finding("alone" if is_measured and not retrain else "missing", text)


def _outputs(ours: Mapping, ceiling: Mapping) -> _Finding:
    if "js_to_oracle" not in ours:
        return _Finding("missing", "distance of its outputs from retraining")
    if "js_to_oracle" not in ceiling:
        return _Finding("missing", "how far retrained models are from each other")
    own, best = ours["js_to_oracle"], ceiling["js_to_oracle"]
    margin = max(_JS, _SHARE * best["mean"])
    than = "from retraining than another retrained model is"
    match _difference(own, best, margin):
        case "more":
            return _Finding("unlike", f"its outputs are farther {than}")
        case "unclear":
            return _Finding("unclear", f"its outputs may be farther {than}")
    return _Finding("good", f"its outputs are no farther {than}")


def _relearning(row: Row, retrain: Row | None) -> _Finding:
    name = "relearn_steps"
    if not retrain or name not in row["metrics"] or name not in retrain["metrics"]:
        return _absent(name in row["metrics"], retrain, "relearning")
    own, target = row["metrics"][name], retrain["metrics"][name]
    apart = _difference(own, target, max(_STEPS, _SHARE * target["mean"]))
    # Where a count was cut short, the truth is larger.
    low, high = is_cut_short(row), is_cut_short(retrain)
    if (low and apart != "more") or (high and apart != "less"):
        return _Finding("unclear", "relearning was cut short before it could tell")
    match apart:
        case "less" if own["mean"] < 0.5:
            return _Finding("left", "knows the forgotten again at once")
        case "less":
            times = f"{target['mean'] / own['mean']:.1f} times as fast"
            return _Finding("left", f"relearns {times} as retrained models")
        case "more":
            return _Finding("unlike", "relearns more slowly than retrained models")
        case "unclear":
            text = "may relearn at another speed than retrained models"
            return _Finding("unclear", text)
    return _Finding("good", "relearns as retrained models do")


def _membership(ours: Mapping, retrain: Mapping) -> _Finding:
    if "mia_auc" not in ours or "mia_auc" not in retrain:
        return _absent("mia_auc" in ours, retrain, "membership inference")
    own, target = ours["mia_auc"], retrain["mia_auc"]
    both = f"{own['mean']:.2f} against {target['mean']:.2f}"
    match _difference(own, target, _AUC):
        case "more":
            return _Finding("left", f"membership inference still works (AUC {both})")
        case "less":
            return _Finding("unlike", f"membership AUC below retraining’s: {both}")
        case "unclear":
            return _Finding("unclear", f"membership inference may differ (AUC {both})")
    return _Finding("good", "membership inference sees no difference")


def _cost(ours: Mapping, theirs: Mapping[str, Mapping]) -> _Finding:
    name = "retain_accuracy_test"
    target = theirs.get("retrain", {}).get(name) or theirs.get("original", {}).get(name)
    if name not in ours or target is None:
        return _Finding("missing", "what it costs in retained accuracy")
    points = round(100 * (ours[name]["mean"] - target["mean"]), 1) + 0.0  # No "-0.0".
    match _difference(ours[name], target, _RETAIN):
        case "less":
            return _Finding("cost", f"loses {-points:.1f} points of retained accuracy")
        case "unclear" if points < 0:
            text = f"may lose retained accuracy ({points:+.1f} points)"
            return _Finding("unclear", text)
    return _Finding("good", f"keeps retained accuracy ({points:+.1f} points)")


def _speed(row: Row, retrain: Row | None) -> list[str]:
    ours: Any = row["seconds"] and row["seconds"]["unlearn"]
    theirs: Any = retrain and retrain["seconds"] and retrain["seconds"]["unlearn"]
    if not ours or not theirs:
        return []
    times = theirs / ours
    if times < 1 / 1.5:
        return ["slower than retraining"]
    if times < 1.5:
        return ["about as fast as retraining"]
    return [f"{float(f'{times:.2g}'):,g} times faster than retraining"]
