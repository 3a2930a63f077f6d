"""Timings, as ratios against baselines."""

import pandas as pd

from tables.writing import frame, grouped, median, ratios, value

RANGE = "ratio: median (range)"
RATIO = RANGE, ratios("ratio_to_rival")


def populations() -> str:
    """Show how fast populations train, and convolutions in a scan."""
    loop = "a Python loop over jitted steps"
    shown = {
        ("mlp-16", "population"): (
            "256 digit classifiers (64-16-10), checkpoints/s",
            loop,
        ),
        ("mlp-64", "population"): (
            "256 digit classifiers (64-64-10), checkpoints/s",
            loop,
        ),
        ("cnn-x1", "conv"): ("a three-layer CNN in a scan, steps/s", "`nn.Conv`"),
        ("cnn-x8", "conv"): ("eight such CNNs under `vmap`, steps/s", "`nn.Conv`"),
    }

    def about(of: pd.DataFrame) -> tuple[str, str]:
        return shown[of["model"].iloc[0], of["method"].iloc[0]]

    return grouped(
        frame("population-benchmark"),
        ["model", "method"],
        ("what", lambda of: about(of)[0]),
        # Either unit.
        ("rate", lambda of: f"{of.filter(like='per_second').median().max():,.0f}"),
        ("baseline", lambda of: about(of)[1]),
        RATIO,
        order=shown,
    )


def networks() -> str:
    """Show a thousand models that forget at once, beside what it would cost else."""
    rivals = {
        "retraining": "retraining all (extrapolated from 20)",
        "loop": "a Python loop over jitted updates",
        "moving": "a copy of all models and Fishers",
        "measuring": "measuring every Fisher anew (extrapolated from 100)",
    }
    found = frame("fiun-benchmark")
    peak = found.groupby("rule")["peak_gib"].max().dropna()

    def rule(of: pd.DataFrame) -> str:
        name, *more = of["rule"].iloc[0].split(", ")
        return ", ".join([f"`{name}`", *more])

    return grouped(
        found.query("rival != 'none'"),
        ["rule", "rival"],
        ("rule", rule),
        ("seconds", median("seconds_per_request", "{:.2f}")),
        ("baseline", lambda of: rivals[of["rival"].iloc[0]]),
        RATIO,
        (
            "peak memory, GiB",
            lambda of: (
                f"{peak[of['rule'].iloc[0]]:.1f}" if of["rule"].iloc[0] in peak else "–"
            ),
        ),
    )


def pgu() -> str:
    """Show one request beside retraining, and the algorithm beside plain PyTorch."""
    return grouped(
        frame("pgu-benchmark").dropna(subset="ratio_to_rival"),
        ["model", "preset", "rival"],
        ("what", lambda of: f"`{of['preset'].iloc[0]}`, {of['model'].iloc[0]}"),
        ("seconds", median("seconds_per_request", "{:.2f}")),
        ("baseline", value("rival")),
        RATIO,
    )


def hypernetworks() -> str:
    """Show one request to a hypernetwork, and what else it would take."""
    return grouped(
        frame("dihyfo-benchmark"),
        ["dataset", "model", "method"],
        ("model", lambda of: f"{of['dataset'].iloc[0]}, {of['model'].iloc[0]}"),
        ("what", value("method")),
        ("milliseconds", median("seconds", "{:.2f}", scale=1000)),
        ("fine-tuning takes, times", ratios("ratio_finetune")),
        ("retraining", ratios("ratio_retrain")),
    )


def audits() -> str:
    """Show shadow models beside PyTorch's, and the score beside its rules."""
    whats = {
        "digits": "64 shadow models, digits, 64-64-10, 300 steps",
        "mnist": "64 shadow models, MNIST, 784-10-10, 500 steps",
        "normal": "forgetting score of an example, 512 models a side",
    }
    rivals = {"normal": "its rules, written out"}
    return grouped(
        frame("audit-benchmark").dropna(subset="ratio_to_rival"),
        ["dataset", "method"],
        ("what", lambda of: whats[of["dataset"].iloc[0]]),
        ("seconds", median("seconds", "{:.2g}")),
        ("baseline", lambda of: rivals.get(of["dataset"].iloc[0], "a PyTorch loop")),
        RATIO,
        ("aim", value("aim", "{:.0f}")),
    )


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

    def what(of: pd.DataFrame) -> str:
        model = of["model"].iloc[0]
        made = model.removeprefix("conv-").split("-")
        return whats.get(model) or f"{made[0]} to {made[1]}, {made[2]} pixels"

    def by(of: pd.DataFrame) -> str:
        way, _, place = of["method"].iloc[0].partition("/")
        return ways[way] + (", in a scan" if place == "scan" else "")

    def taken(of: pd.DataFrame) -> str:
        return f"{of.filter(like='milliseconds').sum(axis=1).median():.0f}"

    found = frame("convolution-benchmark")
    return grouped(
        found[found["method"].str.partition("/")[0].isin(ways)],
        ["model", "method"],
        ("what", what),
        ("by", by),
        ("milliseconds", taken),
        ("PyTorch's, times: median (range)", ratios("ratio_to_pytorch")),
    )
