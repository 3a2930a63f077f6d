"""Timings, as ratios against baselines."""

import numpy as np

from tables.writing import rows_of, table


def populations() -> str:
    """The ratios of the benchmark."""
    found = rows_of("population-benchmark")
    rows = {(row["model"], row["method"]): row["metrics"] for row in found}
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
    return table(["what", "rate", "baseline", "ratio: median (range)"], lines)


def networks() -> str:
    """A thousand models that forget at once, beside what it would cost else."""
    rivals = {
        "retraining": "retraining all (extrapolated from 20)",
        "loop": "a Python loop over jitted updates",
        "measuring": "measuring every Fisher anew (extrapolated from 100)",
    }
    lines, peak = [], 0.0
    for row in rows_of("fiun-benchmark"):
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
    return table(
        ["rule", "seconds", "baseline", "ratio: median (range)", "peak memory, GiB"],
        lines,
    )


def pgu() -> str:
    """One request beside retraining, and the algorithm beside plain PyTorch."""
    lines = []
    for row in rows_of("pgu-benchmark"):
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
    return table(["what", "seconds", "baseline", "ratio: median (range)"], lines)


def hypernetworks() -> str:
    """One request to a hypernetwork, and what else it would take."""
    lines = []
    for row in rows_of("dihyfo-benchmark"):
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
    return table(
        ["model", "what", "milliseconds", "fine-tuning takes, times", "retraining"],
        lines,
    )
