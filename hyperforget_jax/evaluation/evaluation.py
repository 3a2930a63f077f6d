"""What an evaluation found, and how it reads."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from hyperforget_jax.metrics import ClassScores

__all__ = ["Evaluation", "Spread"]

_LABELS = {
    "forget_accuracy_test": "forget accuracy, test",
    "forget_accuracy_train": "forget accuracy, train",
    "retain_accuracy_test": "retain accuracy, test",
    "retain_accuracy_train": "retain accuracy, train",
    "accuracy_test": "accuracy, whole test split",
    "forget_loss_test": "forget loss, test (nats)",
    "retain_loss_test": "retain loss, test (nats)",
    "mia_auc": "membership AUC",
    "mia_accuracy": "membership attack accuracy",
    "mia_tpr_at_1_fpr": "membership TPR at 1 % FPR",
    "relearn_steps": "relearning steps",
    "js_to_oracle": "JS to retrained (nats)",
    "l2_to_oracle": "L2 to retrained",
    "tow": "tug of war (ToW)",
}


class Spread(NamedTuple):
    """One metric over the retrained models.

    Attributes:
        mean: over them.
        sd: sample standard deviation; zero for a single one.
    """

    mean: float
    sd: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Compute mean and sample standard deviation of one metric's values."""
        sd = np.std(values, ddof=1) if len(values) > 1 else 0.0
        return cls(float(np.mean(values)), float(sd))


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What :func:`hyperforget_jax.evaluation.evaluate` found. Prints as a table.

    Attributes:
        metrics: name to value. Accuracies are fractions, losses and divergences nats;
            what does not exist for the request is absent, and nothing is NaN.
        per_class: scores class by class on ``"train"`` and ``"test"``, NumPy.
        original: the same metrics of the model before unlearning, but for relearning,
            which takes it no step; empty if it was not given.
        retrained: the same metrics of the retrained models, distances from one to the
            others among them if there are two or more; empty without them.
        num_retrained: how many there were.
        classes: the classes forgotten; empty for a request of rows.
        num_forgotten: training rows forgotten.
    """

    metrics: Mapping[str, float]
    per_class: Mapping[str, ClassScores]
    original: Mapping[str, float] = dataclasses.field(default_factory=dict)
    retrained: Mapping[str, Spread] = dataclasses.field(default_factory=dict)
    num_retrained: int = 0
    classes: tuple[int, ...] = ()
    num_forgotten: int = 0

    def __str__(self) -> str:
        before = "original" if self.original else ""
        retrained = f"retrained (n={self.num_retrained})" if self.num_retrained else ""
        rows = [("", "value", before, retrained, "target")]
        for name, label in _LABELS.items():
            if name not in self.metrics:
                continue
            target = "1" if name == "tow" else "as retrained"
            if name == "forget_accuracy_test" and self.classes:
                target = "0"
            before = _number(self.original[name]) if name in self.original else ""
            rows.append((label, self._value(name), before, self._spread(name), target))
        layout = "{:<28}{:>9}{:>10}   {:<18}{}"
        lines = [self._title(), *(layout.format(*row) for row in rows)]
        if not self.original:
            lines.append("The original model is missing: original= was not given.")
        if not self.num_retrained:
            lines.append(
                "Distances to retrained models are missing: retrained= was not given."
            )
        elif self.num_retrained < 5:
            lines.append(
                f"Fewer than 5 retrained models ({self.num_retrained}): too few for a "
                "result."
            )
        return "\n".join(line.rstrip() for line in lines)

    def _title(self) -> str:
        rows = f"{self.num_forgotten} training rows"
        if not self.classes:
            return f"Forgetting {rows}"
        word = "class" if len(self.classes) == 1 else "classes"
        return f"Forgetting {word} {', '.join(map(str, self.classes))} ({rows})"

    def _value(self, name: str) -> str:
        value = self.metrics[name]
        if name != "relearn_steps":
            return _number(value)
        return "> " * bool(self.metrics["relearn_censored"]) + f"{value:.0f}"

    def _spread(self, name: str) -> str:
        if name not in self.retrained:
            return ""
        mean, sd = self.retrained[name]
        if name == "relearn_steps":
            # Where the cap cut some of them short, the mean is too small.
            at_least = "≥ " if self.retrained["relearn_censored"].mean > 0 else ""
            return f"{at_least}{mean:.1f} ± {sd:.1f}"
        # The spread is written as the mean is, so that the two can be compared.
        return f"{_number(mean)} ± {sd:{'.3f' if _is_plain(mean) else '.2g'}}"


def _number(value: float) -> str:
    return f"{value:.3f}" if _is_plain(value) else f"{value:.2g}"


def _is_plain(value: float) -> bool:
    """Return whether three decimals say enough; else it takes significant digits."""
    return value == 0 or 0.01 <= abs(value) < 1000
