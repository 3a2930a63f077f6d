"""Writes the README's tables: from access records and committed results, never by hand.

python experiments/readme.py            # rewrites the README
python experiments/readme.py --check    # fails if it is out of date
"""

import dataclasses
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import optax
import tyro

import hyperforget_jax as hf

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "experiments" / "results"


@dataclasses.dataclass(frozen=True)
class Readme:
    """Write the README's tables."""

    check: bool = False
    """Change nothing, and fail if the README is out of date."""
    path: Path = ROOT / "README.md"
    """The file."""


def methods() -> str:
    """What each method reads and when, and what remains, from its access record."""
    classifier = hf.from_linen(hf.models.MLP(()))
    unlearners = {
        "identity": hf.identity(classifier),
        "logit_mask": hf.logit_mask(classifier),
        "retrain": hf.retrain(classifier, optax.identity(), 1),
        "finetune": hf.finetune(classifier),
        "ascent": hf.ascent(classifier),
        "neggrad_plus": hf.neggrad_plus(classifier),
        "ssd": hf.ssd(classifier),
        "fiun": hf.fiun(classifier),
        "fiun(folded)": hf.fiun(classifier, "folded"),
    }

    def read(names) -> str:
        return ", ".join(sorted(names)) or "–"

    return _table(
        ["method", "reads before", "reads at `init`", "reads at `unlearn`", "remains"],
        [
            [
                f"`hf.{name}`",
                read(unlearner.access.before),
                read(unlearner.access.init),
                read(unlearner.access.unlearn),
                unlearner.access.remains,
            ]
            for name, unlearner in unlearners.items()
        ],
    )


def classes(preset: str) -> str:
    """Every class forgotten in turn: the mean over classes, and the worst class."""
    document = hf.evaluation.read(RESULTS / f"classes-{preset}.json")
    of_method: dict[str, list] = {}
    for row in document["rows"]:
        of_method.setdefault(row["method"], []).append(row["metrics"])

    def cell(metrics: list, name: str, worst: Callable | None, digits: int) -> str:
        if any(name not in of_class for of_class in metrics):
            return "–"
        values = np.array([of_class[name]["values"] for of_class in metrics])
        # The spread is that of the training seeds; classes are averaged first.
        spread = values.mean(axis=0).std(ddof=1)
        text = f"{values.mean():.{digits}f} ± {spread:.{digits}f}"
        if worst is not None:
            text += f" ({worst(values.mean(axis=1)):.{digits}f})"
        censored = any(of_class["relearn_censored"]["max"] > 0 for of_class in metrics)
        return f"≥ {text}" if censored and name == "relearn_steps" else text

    columns = (
        ("forget_accuracy_test", max, 3),
        ("retain_accuracy_test", min, 3),
        ("mia_auc", None, 3),
        ("js_to_oracle", max, 3),
        ("tow", min, 3),
        ("relearn_steps", min, 1),
    )
    return _table(
        [
            "method",
            "forget accuracy, test (worst class); target 0",
            "retain accuracy, test (worst); target retrain's",
            "MIA AUC; target retrain's",
            "JS to oracle, nats (worst); target the ceiling's",
            "ToW (worst); target the ceiling's",
            "relearning steps (fewest); target retrain's",
        ],
        [
            [f"`{method}`", *(cell(metrics, *column) for column in columns)]
            for method, metrics in of_method.items()
        ],
    )


def benchmark() -> str:
    """The ratios of the benchmark."""
    document = hf.evaluation.read(
        RESULTS / "population-benchmark.json", references=False
    )
    rows = {(row["model"], row["method"]): row["metrics"] for row in document["rows"]}
    lines = []
    for model, method, what in (
        ("mlp-16", "population", "256 digit classifiers (64-16-10), checkpoints/s"),
        ("mlp-64", "population", "256 digit classifiers (64-64-10), checkpoints/s"),
        ("cnn-x1", "patches", "a three-layer CNN in a scan, steps/s"),
        ("cnn-x8", "patches", "eight such CNNs under `vmap`, steps/s"),
    ):
        ours = rows[model, method]
        rate = next(name for name in ours if name.endswith("per_second"))
        ratio = ours["ratio_to_rival"]
        is_conv = model.startswith("cnn")
        rival = "`nn.Conv`" if is_conv else "a Python loop over jitted steps"
        lines.append(
            [
                what,
                f"{np.median(ours[rate]['values']):,.0f}",
                rival,
                f"{np.median(ratio['values']):.1f} "
                f"({ratio['min']:.1f} to {ratio['max']:.1f})",
            ]
        )
    return _table(["what", "rate", "rival", "ratio: median (range)"], lines)


BLOCKS = {
    "methods": methods,
    "classes-digits": lambda: classes("digits"),
    "benchmark": benchmark,
}


def main(config: Readme) -> None:
    """Replaces what stands between the markers of every block."""
    text = written = config.path.read_text()
    for name, make in BLOCKS.items():
        begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
        before, rest = written.split(begin)
        after = rest.split(end)[1]
        written = before + begin + make() + end + after
    if config.check and written != text:
        sys.exit(f"{config.path} is out of date: run python experiments/readme.py")
    if not config.check:
        config.path.write_text(written)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    main(tyro.cli(Readme))
