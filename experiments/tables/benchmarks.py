"""Timings, as ratios against baselines."""

import numpy as np

from tables.writing import ratios, rows_of, table

RANGE = "ratio: median (range)"


def populations() -> str:
    """Show how fast populations train, and convolutions in a scan."""
    metrics = {
        (row["model"], row["method"]): row["metrics"]
        for row in rows_of("population-benchmark")
    }
    loop = "a Python loop over jitted steps"
    shown = (
        (
            "mlp-16",
            "population",
            "256 digit classifiers (64-16-10), checkpoints/s",
            loop,
        ),
        (
            "mlp-64",
            "population",
            "256 digit classifiers (64-64-10), checkpoints/s",
            loop,
        ),
        ("cnn-x1", "conv", "a three-layer CNN in a scan, steps/s", "`nn.Conv`"),
        ("cnn-x8", "conv", "eight such CNNs under `vmap`, steps/s", "`nn.Conv`"),
    )
    lines = []
    for model, method, what, rival in shown:
        of = metrics[model, method]
        rate = next(name for name in of if name.endswith("per_second"))
        lines.append(
            [
                what,
                f"{np.median(of[rate]['values']):,.0f}",
                rival,
                ratios(of["ratio_to_rival"]["values"]),
            ]
        )
    return table(["what", "rate", "baseline", RANGE], lines)


def networks() -> str:
    """Show a thousand models that forget at once, beside what it would cost else."""
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
        lines.append(
            [
                f"`{factors['rule']}`",
                f"{np.median(metrics['seconds_per_request']['values']):.2f}",
                rivals[factors["rival"]],
                ratios(metrics["ratio_to_rival"]["values"]),
                f"{peak:.1f}",
            ]
        )
    return table(["rule", "seconds", "baseline", RANGE, "peak memory, GiB"], lines)


def pgu() -> str:
    """Show one request beside retraining, and the algorithm beside plain PyTorch."""
    lines = [
        [
            f"`{row['factors']['preset']}`, {row['model']}",
            f"{np.median(row['metrics']['seconds_per_request']['values']):.2f}",
            row["factors"]["rival"],
            ratios(row["metrics"]["ratio_to_rival"]["values"]),
        ]
        for row in rows_of("pgu-benchmark")
        if "ratio_to_rival" in row["metrics"]
    ]
    return table(["what", "seconds", "baseline", RANGE], lines)


def hypernetworks() -> str:
    """Show one request to a hypernetwork, and what else it would take."""
    lines = []
    for row in rows_of("dihyfo-benchmark"):
        metrics = row["metrics"]
        rivals = (metrics.get(f"ratio_{one}") for one in ("finetune", "retrain"))
        lines.append(
            [
                f"{row['dataset']}, {row['model']}",
                row["method"],
                f"{1000 * np.median(metrics['seconds']['values']):.2f}",
                *(ratios(one["values"]) if one else "–" for one in rivals),
            ]
        )
    return table(
        ["model", "what", "milliseconds", "fine-tuning takes, times", "retraining"],
        lines,
    )


def audits() -> str:
    """Show shadow models beside PyTorch's, and the score beside its rules."""
    whats = {
        "digits": "64 shadow models, digits, 64-64-10, 300 steps",
        "mnist": "64 shadow models, MNIST, 784-10-10, 500 steps",
        "normal": "forgetting score of an example, 512 models a side",
    }
    rivals = {"normal": "its rules, written out", "digits": "a PyTorch loop"}
    lines = []
    for row in rows_of("audit-benchmark"):
        metrics, factors = row["metrics"], row["factors"]
        if "ratio_to_rival" in metrics:
            lines.append(
                [
                    whats[row["dataset"]],
                    f"{np.median(metrics['seconds']['values']):.2g}",
                    rivals.get(row["dataset"], rivals["digits"]),
                    ratios(metrics["ratio_to_rival"]["values"]),
                    f"{factors['aim']:.0f}",
                ]
            )
    return table(["what", "seconds", "baseline", RANGE, "aim"], lines)


def convolutions() -> str:
    """Show convolutions in several ways, and a network's step, beside PyTorch."""
    whats = {"resnet-8": "ResNet-8, a training step"}
    ways = {
        "fit": "`hf.fit`",
        "fit-x4": "`hf.fit` of four under `vmap`, each",
        "conv": "`hf.models.conv`",
        "lax": "`lax.conv_general_dilated`",
        "nn.Conv": "a jitted step with `nn.Conv`",
    }
    lines = []
    for row in rows_of("convolution-benchmark"):
        way, _, place = row["method"].partition("/")
        if way not in ways:
            continue
        made = row["model"].removeprefix("conv-").split("-")
        what = whats.get(row["model"]) or f"{made[0]} to {made[1]}, {made[2]} pixels"
        taken = [
            of["values"]
            for name, of in row["metrics"].items()
            if name.startswith("milliseconds")
        ]
        lines.append(
            [
                what,
                ways[way] + (", in a scan" if place == "scan" else ""),
                f"{np.median(np.sum(taken, axis=0)):.0f}",
                ratios(row["metrics"]["ratio_to_pytorch"]["values"]),
            ]
        )
    heads = ["what", "by", "milliseconds", "PyTorch's, times: median (range)"]
    return table(heads, lines)
