"""Writes the README's tables: from access records and committed results, never by hand.

python experiments/readme.py            # rewrites the README
python experiments/readme.py --check    # fails if it is out of date
"""

import dataclasses
import functools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import optax
import tyro
from scipy import stats

import hyperforget_jax as hf
from hyperforget_jax import hypernet

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
        "pgu": hf.pgu(classifier),
        "dihyfo": _dihyfo(classifier),
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


def _dihyfo(classifier: hf.Classifier) -> hf.Unlearner:
    """Any hypernetwork: what the method reads does not depend on it."""
    x = jnp.zeros((1, 4))
    network = hypernet.build(classifier, x, hypernet.Recipe(width=4, heads=1))
    return hf.dihyfo(classifier, network._replace(learnt=hypernet.untrained(network)))


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


def _networks(preset: str) -> dict[tuple, dict]:
    """Metrics of whole networks, by scenario, setting, regime and method."""
    rows = [
        row
        for study in ("fiun", "fiun-depth")
        for row in hf.evaluation.read(RESULTS / f"{study}-{preset}.json")["rows"]
    ]
    return {
        (
            row["scenario"],
            row["factors"]["setting"],
            row["factors"]["regime"],
            row["method"],
        ): row["metrics"]
        for row in rows
        if row["factors"]["node"] == "all"
    }


def _values(found: dict[tuple, dict], name: str, **wanted) -> np.ndarray:
    """A metric of all networks that match, ``[networks, seeds]``."""
    places = ("scenario", "setting", "regime", "method")
    values = [
        metrics[name]["values"]
        for key, metrics in found.items()
        if name in metrics
        and all(key[places.index(place)] == value for place, value in wanted.items())
    ]
    return np.array(values)


def _spread(values: np.ndarray, digits: int) -> str:
    if not values.size:
        return "–"
    by_seed = values.mean(axis=0)
    return f"{values.mean():.{digits}f} ± {by_seed.std(ddof=1):.{digits}f}"


def networks(preset: str) -> str:
    """One class forgotten by whole networks: mean over settings, classes and nodes."""
    found = _networks(preset)
    lines = []
    for method in dict.fromkeys(key[3] for key in found if key[0] == "class"):
        cells = [f"`{method}`"]
        for regime in ("direct", "inherit"):
            wanted = {"scenario": "class", "regime": regime, "method": method}
            forget = _values(found, "forget_accuracy_test", **wanted)
            worst = _values(found, "forget_accuracy_test_worst", **wanted)
            gap = 100 * _values(found, "retain_gap", **wanted)
            least = 100 * _values(found, "retain_gap_worst", **wanted)
            cells += [
                f"{_spread(forget, 3)} ({worst.max():.3f})" if worst.size else "–",
                f"{_spread(gap, 2)} ({least.min():.1f})",
                _spread(_values(found, "js_to_oracle", **wanted), 4),
                _spread(_values(found, "relearn_steps", **wanted), 1),
            ]
        lines.append(cells)
    heads = ["method"]
    for regime in ("direct", "inherit"):
        heads += [
            f"{regime}: forget accuracy (worst)",
            "retain gap, points (worst)",
            "JS to gold",
            "relearning steps",
        ]
    return _table(heads, lines)


def against_mask(preset: str) -> str:
    """``folded`` beside the mask, in paired seeds, network by network."""
    found = _networks(preset)
    lines = []
    for setting in dict.fromkeys(key[1] for key in found if key[0] == "class"):
        for regime in ("direct", "inherit"):

            def of(name, method, setting=setting, regime=regime):
                return found["class", setting, regime, method][name]

            js = {
                m: np.array(of("js_to_own_oracle", m)["values"])
                for m in ("fiun/folded", "logit_mask")
            }
            steps = {
                m: np.array(of("relearn_steps", m)["values"])
                for m in ("fiun/folded", "logit_mask", "retrain")
            }
            off = {
                m: np.abs(steps[m] - steps["retrain"])
                for m in ("fiun/folded", "logit_mask")
            }
            seeds = js["logit_mask"].size
            lines.append(
                [
                    f"{setting.replace('_', '-')}, {regime}",
                    f"{js['fiun/folded'].mean():.4f}",
                    f"{js['logit_mask'].mean():.4f}",
                    f"{np.sum(js['fiun/folded'] < js['logit_mask'])} of {seeds}",
                    f"{steps['fiun/folded'].mean():.1f}",
                    f"{steps['logit_mask'].mean():.1f}",
                    f"{steps['retrain'].mean():.1f}",
                    f"{np.sum(off['fiun/folded'] < off['logit_mask'])} of {seeds}",
                ]
            )
    return _table(
        [
            "network",
            "JS, folded",
            "JS, mask",
            "seeds nearer",
            "relearning steps, folded",
            "mask",
            "gold",
            "seeds nearer to gold",
        ],
        lines,
    )


def other_requests(preset: str) -> str:
    """Several classes, classes of two roots, and single rows; the deep networks."""
    found = _networks(preset)
    lines = []
    shown = (
        ("classes", "three classes"),
        ("two_roots", "2 + 2 classes of two roots"),
        ("rows", "a random 2 % of rows"),
        ("depth", "one class, 30 and 50 nodes"),
    )
    for scenario, what in shown:
        name = "forget_accuracy_" + ("train" if scenario == "rows" else "test")
        for method in ("original", "retrain", "fiun/repaired", "fiun/folded", "ssd"):
            wanted = {"scenario": scenario, "method": method}
            forget = _values(found, name, **wanted)
            if not forget.size:
                continue
            gap = 100 * _values(found, "retain_gap", **wanted)
            lines.append(
                [
                    what,
                    f"`{method}`",
                    _spread(forget, 3),
                    _spread(gap, 2),
                    _spread(_values(found, "js_to_oracle", **wanted), 4),
                    _spread(_values(found, "mia_auc", **wanted), 3),
                ]
            )
    return _table(
        [
            "request",
            "method",
            "forget accuracy (of rows: on the rows)",
            "retain gap, points",
            "JS to gold",
            "MIA AUC",
        ],
        lines,
    )


def _pgu(preset: str, scenario: str) -> dict[str, list[dict]]:
    """Metrics of every request of a scenario, by method."""
    found: dict[str, list[dict]] = {}
    study = "pgu" if scenario == "class" else "pgu-rows"
    for row in hf.evaluation.read(RESULTS / f"{study}-{preset}.json")["rows"]:
        if row["scenario"] == scenario:
            found.setdefault(row["method"], []).append(
                {**row["metrics"], "request": row["request"]}
            )
    return found


def _of(metrics: Sequence[dict], name: str) -> np.ndarray:
    """A metric of several requests, ``[requests, seeds]``; empty if one has it not."""
    if any(name not in one for one in metrics):
        return np.empty((0, 0))
    return np.array([one[name]["values"] for one in metrics])


def _worst(values: np.ndarray, worst: Callable, digits: int) -> str:
    """Mean and spread over seeds, and the worst request by its mean over seeds."""
    if not values.size:
        return "–"
    of_request = values.mean(axis=1)
    return f"{_spread(values, digits)} ({worst(of_request):.{digits}f})"


def pgu_classes(preset: str) -> str:
    """Each class forgotten in turn: means over classes and the worst class."""
    found = _pgu(preset, "class")
    oracle = _of(found["retrain"], "retain_accuracy_test")
    lines = []
    for method, metrics in found.items():
        if method.startswith("ablation/"):
            continue
        # Of a class and method: against the mean of the oracles of that class.
        gap = 100 * (
            _of(metrics, "retain_accuracy_test") - oracle.mean(axis=1, keepdims=True)
        )
        lines.append(
            [
                f"`{method}`",
                _worst(_of(metrics, "forget_accuracy_train"), max, 3),
                _worst(_of(metrics, "forget_accuracy_test"), max, 3),
                _worst(gap, min, 2),
                _worst(_of(metrics, "js_to_oracle"), max, 4),
                _spread(_of(metrics, "relearn_steps"), 1),
            ]
        )
    return _table(
        [
            "method",
            "forget accuracy, train (worst class)",
            "forget accuracy, test (worst)",
            "retain accuracy, test, less the oracles', points (worst)",
            "JS to oracle, nats (worst)",
            "relearning steps; target retrain's",
        ],
        lines,
    )


def pgu_rows(preset: str) -> str:
    """Rows forgotten, request by request, as distances from the oracles."""
    lines = []
    for scenario in ("rows", "part"):
        found = _pgu(preset, scenario)
        requests = list(dict.fromkeys(one["request"] for one in found["pgu"]))
        for request in requests:
            of_request = {
                method: one
                for method, metrics in found.items()
                for one in metrics
                if one["request"] == request and not method.startswith("ablation/")
            }
            for method, one in of_request.items():
                if method == "retrain":
                    continue
                lines.append(
                    [
                        request,
                        f"`{method}`",
                        *(
                            _gap(one, of_request["retrain"], name)
                            for name in (
                                "forget_accuracy_train",
                                "retain_accuracy_train",
                                "retain_accuracy_test",
                            )
                        ),
                        _gap(one, of_request["retrain"], "mia_auc", 1, 3),
                        _spread(_of([one], "kl_to_oracle"), 3),
                    ]
                )
    return _table(
        [
            "request",
            "method",
            "forget accuracy, train, less the oracles', points",
            "retain, train",
            "retain, test",
            "MIA AUC less the oracles'",
            "KL to oracle on forgotten rows, nats; the ceiling is seed to seed",
        ],
        lines,
    )


def _gap(
    metrics: dict, oracle: dict, name: str, scale: float = 100, digits: int = 1
) -> str:
    gap = scale * (_of([metrics], name) - oracle[name]["mean"])
    return _spread(gap, digits)


def pgu_poison(preset: str) -> str:
    """Wrong labels forgotten: what of the damage is mended."""
    found = {method: metrics[0] for method, metrics in _pgu(preset, "poison").items()}
    poisoned = np.array(found["original"]["accuracy_test"]["values"])
    cost = found["retrain"]["accuracy_test"]["mean"] - poisoned
    lines = []
    for method, metrics in found.items():
        if method == "ceiling":
            continue
        accuracy = np.array(metrics["accuracy_test"]["values"])
        mended = 100 * (accuracy - poisoned) / cost
        # Student's t for five seeds; the seeds are few, and so is what they say.
        half = stats.t.ppf(0.975, mended.size - 1) * stats.sem(mended)
        cells = [f"{accuracy.mean():.3f} ± {accuracy.std(ddof=1):.3f}"]
        if method in ("original", "retrain"):
            cells.append("–")
        else:
            cells.append(f"{mended.mean():.0f} ± {half:.0f}")
        lines.append(
            [
                f"`{method}`",
                *cells,
                _spread(_of([metrics], "forget_accuracy_train"), 3),
                _spread(_of([metrics], "retain_accuracy_train"), 3),
            ]
        )
    return _table(
        [
            "method",
            "accuracy, test",
            "damage mended, % (95 % confidence)",
            "wrong labels still answered",
            "retain accuracy, train",
        ],
        lines,
    )


def pgu_ablations(preset: str) -> str:
    """One choice undone at a time, on one class and on the first request for rows."""
    by_class, rows = _pgu(preset, "class"), _pgu(preset, "rows")
    (label,) = {one["request"] for one in by_class["ablation/sgd"]}
    first = rows["pgu"][0]["request"]

    def cells(one: dict, names: Sequence[tuple[str, int]]) -> list[str]:
        return [_spread(_of([one], name), digits) for name, digits in names]

    lines = []
    for method in ["pgu", *(m for m in by_class if m.startswith("ablation/"))]:
        if method == "ablation/longer":
            continue
        (of_class,) = (one for one in by_class[method] if one["request"] == label)
        of_rows = next(one for one in rows[method] if one["request"] == first)
        lines.append(
            [
                f"`{method}`",
                *cells(
                    of_class,
                    (
                        ("forget_accuracy_train", 3),
                        ("retain_accuracy_test", 4),
                        ("js_to_oracle", 4),
                        ("relearn_steps", 1),
                        ("relative_drift_max", 3),
                    ),
                ),
                *cells(
                    of_rows,
                    (
                        ("forget_accuracy_train", 3),
                        ("retain_accuracy_test", 4),
                        ("kl_to_oracle", 3),
                    ),
                ),
            ]
        )
    return _table(
        [
            "method",
            f"{label}: forget accuracy, train",
            "retain, test",
            "JS to oracle",
            "relearning steps",
            "largest relative drift",
            f"{first}: forget accuracy, train",
            "retain, test",
            "KL to oracle",
        ],
        lines,
    )


def _hypernetworks(preset: str, scenario: str) -> list[dict]:
    document = hf.evaluation.read(RESULTS / f"dihyfo-{preset}.json", references=False)
    return [row for row in document["rows"] if row["scenario"] == scenario]


def _by(rows: Sequence[dict], *names: str) -> dict[tuple, list[dict]]:
    """Metrics of rows, by method and the factors named."""
    found: dict[tuple, list[dict]] = {}
    for row in rows:
        place = (row["method"], *(row["factors"].get(name) for name in names))
        found.setdefault(place, []).append(row["metrics"])
    return found


def hypernetwork_classes(preset: str) -> str:
    """Each class in turn, beside all rivals: means over classes and the worst class."""
    found = _by(_hypernetworks(preset, "class"))
    oracle = _of(found["retrain",], "retain_accuracy_test")
    lines = []
    for (method,), metrics in found.items():
        gap = 100 * (_of(metrics, "retain_accuracy_test") - oracle)
        lines.append(
            [
                f"`{method}`",
                _worst(_of(metrics, "forget_accuracy_test"), max, 3),
                _worst(gap, min, 2),
                _worst(_of(metrics, "js_to_oracle"), max, 4),
                _spread(_of(metrics, "relearn_steps"), 1),
                _spread(_of(metrics, "mia_auc"), 3),
            ]
        )
    return _table(
        [
            "method",
            "forget accuracy, test (worst class)",
            "retain gap, points (worst)",
            "JS to oracles (worst)",
            "relearning steps",
            "MIA AUC",
        ],
        lines,
    )


def hypernetwork_samples(preset: str) -> str:
    """Raw samples: means over classes, models and hypernetworks, and the worst."""
    lines = []
    for (method, steps), metrics in _by(
        _hypernetworks(preset, "samples"), "steps"
    ).items():

        def mean(name: str, of: Callable = np.mean, metrics=metrics) -> float:
            return float(of([one[name]["values"] for one in metrics]))

        lines.append(
            [
                f"`{method}`, {steps} step{'s' if steps > 1 else ''}",
                f"{100 * mean('forget_accuracy_test'):.2f} "
                f"({100 * mean('forget_accuracy_worst_sample', np.max):.1f})",
                f"{100 * mean('share_below_1_percent'):.1f}, "
                f"{100 * mean('share_below_2_percent'):.1f}",
                f"{100 * mean('retain_accuracy_test'):.2f} "
                f"({100 * mean('retain_accuracy_worst_sample', np.min):.1f})",
                f"{100 * mean('retain_accuracy_spread'):.2f}",
                f"{100 * mean('best_forget_accuracy_test'):.2f}, "
                f"{100 * mean('best_retain_accuracy_test'):.2f}",
                f"{mean('nearest_distance_ratio'):.2f}",
            ]
        )
    return _table(
        [
            "hypernetwork",
            "forget accuracy, % (worst sample)",
            "samples at most 1 %, 2 %",
            "retain accuracy, % (worst sample)",
            "its spread between samples, points",
            "best by the probe: forget, retain",
            "distance to the zoo / within it",
        ],
        lines,
    )


def hypernetwork_prompts(preset: str) -> str:
    """How far what was asked for is what came."""
    lines = []
    for (method,), metrics in _by(_hypernetworks(preset, "prompts")).items():
        cells = []
        for name in ("r2_sweep", "r2_trajectory"):
            values = np.array([one[name]["values"] for one in metrics])
            cells.append(f"{values.mean():.3f} ({values.mean(axis=1).min():.3f})")
        lines.append([f"`{method}`", *cells])
    return _table(
        ["hypernetwork", "R², sweep (worst class)", "R², held-out runs (worst class)"],
        lines,
    )


def hypernetwork_pairs(preset: str) -> str:
    """Pairs of classes, in the zoo and in no zoo."""
    lines = []
    for (method, where), metrics in _by(
        _hypernetworks(preset, "pairs"), "where"
    ).items():
        lines.append(
            [
                where,
                f"`{method}`",
                _worst(100 * _of(metrics, "forget_accuracy_test"), max, 2),
                _worst(100 * _of(metrics, "retain_accuracy_test"), min, 2),
            ]
        )
    lines.sort(key=lambda line: line[0])
    return _table(
        [
            "pairs",
            "method",
            "forget accuracy, % (worst pair)",
            "retain accuracy, % (worst pair)",
        ],
        lines,
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


def networks_benchmark() -> str:
    """A thousand models that forget at once, beside what it would cost else."""
    document = hf.evaluation.read(RESULTS / "fiun-benchmark.json", references=False)
    rivals = {
        "retraining": "retraining all (extrapolated from 20)",
        "loop": "a Python loop over jitted updates",
        "measuring": "measuring every Fisher anew (extrapolated from 100)",
    }
    lines, peak = [], 0.0
    for row in document["rows"]:
        factors, metrics = row["factors"], row["metrics"]
        if factors["rival"] == "none":
            peak = metrics["peak_gib"]["max"]
            continue
        ratio = metrics["ratio_to_rival"]
        lines.append(
            [
                f"`{factors['rule']}`",
                f"{np.median(metrics['seconds_per_request']['values']):.2f}",
                rivals[factors["rival"]],
                f"{np.median(ratio['values']):,.1f} "
                f"({ratio['min']:,.1f} to {ratio['max']:,.1f})",
                f"{peak:.1f}",
            ]
        )
    return _table(
        ["rule", "seconds", "rival", "ratio: median (range)", "peak memory, GiB"], lines
    )


def pgu_benchmark() -> str:
    """One request beside retraining, and the algorithm beside plain PyTorch."""
    document = hf.evaluation.read(RESULTS / "pgu-benchmark.json", references=False)
    lines = []
    for row in document["rows"]:
        factors, metrics = row["factors"], row["metrics"]
        if "ratio_to_rival" not in metrics:
            continue
        ratio = metrics["ratio_to_rival"]
        lines.append(
            [
                f"`{factors['preset']}`, {row['model']}",
                f"{np.median(metrics['seconds_per_request']['values']):.2f}",
                factors["rival"],
                f"{np.median(ratio['values']):.1f} "
                f"({ratio['min']:.1f} to {ratio['max']:.1f})",
            ]
        )
    return _table(["what", "seconds", "rival", "ratio: median (range)"], lines)


def hypernetworks_benchmark() -> str:
    """One request to a hypernetwork, and what else it would take."""
    path = RESULTS / "dihyfo-benchmark.json"
    lines = []
    for row in hf.evaluation.read(path, references=False)["rows"]:
        metrics = row["metrics"]
        cells = [f"{1000 * np.median(metrics['seconds']['values']):.2f}"]
        for rival in ("finetune", "retrain"):
            ratio = metrics.get(f"ratio_{rival}")
            cells.append(
                f"{np.median(ratio['values']):.1f} "
                f"({ratio['min']:.1f} to {ratio['max']:.1f})"
                if ratio
                else "–"
            )
        lines.append([f"{row['dataset']}, {row['model']}", row["method"], *cells])
    return _table(
        ["model", "what", "milliseconds", "fine-tuning takes, times", "retraining"],
        lines,
    )


BLOCKS = {
    "methods": methods,
    "classes-digits": lambda: classes("digits"),
    "benchmark": benchmark,
    "networks-mnist": lambda: networks("mnist"),
    "mask-mnist": lambda: against_mask("mnist"),
    "requests-mnist": lambda: other_requests("mnist"),
    "networks-benchmark": networks_benchmark,
    "pgu-benchmark": pgu_benchmark,
    "dihyfo-benchmark": hypernetworks_benchmark,
    "pgu-classes": lambda: pgu_classes("mnist"),
    "pgu-rows": lambda: pgu_rows("mnist"),
    "pgu-poison": lambda: pgu_poison("mnist"),
    "pgu-ablations": lambda: pgu_ablations("mnist"),
    **{
        f"dihyfo-{scenario}-{preset}": functools.partial(make, preset)
        for preset in ("digits", "mnist")
        for scenario, make in (
            ("classes", hypernetwork_classes),
            ("samples", hypernetwork_samples),
            ("prompts", hypernetwork_prompts),
            ("pairs", hypernetwork_pairs),
        )
    },
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
