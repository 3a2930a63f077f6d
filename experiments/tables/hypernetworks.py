"""Hypernetworks."""

import pandas as pd

from tables.writing import (
    METHOD,
    Cell,
    frame,
    grouped,
    less_retrained,
    mean,
    relearning,
    spread,
    value,
)

FORGET, RETAIN = "forget_accuracy_test", "retain_accuracy_test"


def classes(preset: str) -> str:
    """Show each class in turn, beside all rivals, and the worst class."""
    found = by_class(preset)
    return grouped(
        # Ablations answer one class.
        found[~found["method"].str.startswith("ablation/")],
        "method",
        METHOD,
        ("forget accuracy, test (worst class)", spread(FORGET, 3, "max")),
        ("retain gap, points (worst)", spread("gap", 2, "min")),
        ("JS to retrained (worst)", spread("js_to_oracle", 4, "max")),
        ("relearning steps", relearning()),
        ("MIA AUC", spread("mia_auc", 3)),
    )


def samples(preset: str) -> str:
    """Show raw samples: means over classes, models and hypernetworks, and the worst."""

    def steps(of: pd.DataFrame) -> str:
        count = int(of["steps"].iloc[0])
        return f"`{of['method'].iloc[0]}`, {count} step{'s' if count > 1 else ''}"

    found = _scenario(preset, "samples").copy()
    if "protect" in found:
        protected = found["protect"].notna()
        found.loc[protected, "method"] += found["protect"].map("/protect {:g}".format)
    return grouped(
        found,
        ["method", "steps"],
        ("hypernetwork", steps),
        (
            "forget accuracy, % (worst sample)",
            _percents("{:.2f} ({:.1f})", FORGET, "forget_accuracy_worst_sample:max"),
        ),
        (
            "samples at most 1 %, 2 %",
            _percents(
                "{:.1f}, {:.1f}", "share_below_1_percent", "share_below_2_percent"
            ),
        ),
        (
            "retain accuracy, % (worst sample)",
            _percents("{:.2f} ({:.1f})", RETAIN, "retain_accuracy_worst_sample:min"),
        ),
        (
            "its spread between samples, points",
            _percents("{:.2f}", "retain_accuracy_spread"),
        ),
        (
            "best by the probe: forget, retain",
            _percents("{:.2f}, {:.2f}", f"best_{FORGET}", f"best_{RETAIN}"),
        ),
        ("distance to the zoo / within it", mean("nearest_distance_ratio", 2)),
    )


def prompts(preset: str) -> str:
    """Show how far what was asked for is what came."""

    def alignment(name: str) -> Cell:
        def cell(of: pd.DataFrame) -> str:
            worst = of.groupby(["request", "network"])[name].mean().min()
            return f"{of[name].mean():.3f} ({worst:.3f})"

        return cell

    return grouped(
        _scenario(preset, "prompts"),
        "method",
        ("hypernetwork", METHOD[1]),
        ("R², sweep (worst class and network)", alignment("r2_sweep")),
        ("R², held-out runs (worst class and network)", alignment("r2_trajectory")),
    )


def pairs(preset: str) -> str:
    """Show pairs of classes, in the zoo and in no zoo."""
    found = _scenario(preset, "pairs")
    return grouped(
        found.sort_values("where", kind="stable"),
        ["method", "where"],
        ("pairs", value("where")),
        METHOD,
        ("forget accuracy, % (worst pair)", spread(FORGET, 2, "max", 100)),
        ("retain accuracy, % (worst pair)", spread(RETAIN, 2, "min", 100)),
    )


def strangers(preset: str) -> str:
    """Show models that were trained otherwise than those of the zoo, by scale."""
    found = _scenario(preset, "strangers")
    # Digits come before letters: what is chosen is last.
    doses = sorted(found["dose"].unique())

    cell = _percents(
        "{:.1f} ({:.0f}), {:.1f}", FORGET, "forget_accuracy_worst_class:max", RETAIN
    )

    def at(dose: str) -> Cell:
        return lambda of: cell(of[of["dose"] == dose])

    return grouped(
        found,
        ["method", "models"],
        ("hypernetwork", METHOD[1]),
        ("models trained by", value("models")),
        ("norm ratio", mean("norm_ratio", 2)),
        ("retained before, %", _percents("{:.1f}", "retain_accuracy_before")),
        *((f"scale {dose}" if dose[0].isdigit() else dose, at(dose)) for dose in doses),
        ("refused by margins, %", _percents("{:.0f}", "refused")),
    )


def ablations(preset: str) -> str:
    """Show one choice undone at a time: means over classes and models."""
    return grouped(
        _scenario(preset, "ablations"),
        ["method", "steps"],
        (
            "what is undone",
            lambda of: f"`{of['method'].iloc[0].removeprefix('ablation/')}`",
        ),
        ("steps", value("steps", "{:.0f}")),
        ("forget accuracy, % (worst class)", spread(FORGET, 2, "max", 100)),
        ("retain accuracy, % (worst class)", spread(RETAIN, 2, "min", 100)),
        ("R², sweep (worst class)", spread("r2_sweep", 3, "min")),
        ("spread of parameters", mean("parameter_spread", 3)),
    )


def trials(preset: str) -> str:
    """Show what was tried to make a hypernetwork as sure as retrained models are."""
    said = {
        "original": "original models",
        "retrain": "retrained models, of other seeds",
        "teacher": "runs as the zoo's",
        "dihyfo": "hypernetwork",
        "forget_rate": "learning rate {:g}",
        "retrained": "asked for what its teachers have",
        "steps": "{:.0f} steps",
        "scale": "scale {:g}",
    }

    def what(of: pd.DataFrame) -> str:
        one = of.iloc[0]
        changed = [name for name in said if name in of and pd.notna(one[name])]
        parts = [
            said[one["method"]],
            *(said[name].format(one[name]) for name in changed),
        ]
        return ", ".join(parts)

    def temperature(of: pd.DataFrame) -> str:
        found = of["temperature"].iloc[0]
        return "–" if pd.isna(found) else f"{found:g}"

    return grouped(
        frame(f"tune-dihyfo-{preset}"),
        ["method", "temperature", "forget_rate", "retrained", "steps", "scale"],
        ("models", what),
        ("temperature", temperature),
        ("distance from retrained, nats", spread("goal", 2)),
        ("confidence of forgotten labels, nats", spread("confidence_forgotten", 1)),
        ("retained, probe, %", spread("retain_accuracy_probe", 2, scale=100)),
    )


def by_class(preset: str) -> pd.DataFrame:
    """Select the requests for classes, with gaps between models of one seed."""
    found = _scenario(preset, "class")
    found["gap"] = less_retrained(found, RETAIN, paired=True)
    return found


def _scenario(preset: str, name: str) -> pd.DataFrame:
    return frame(f"dihyfo-{preset}").query("scenario == @name").copy()


def _percents(form: str, *names: str) -> Cell:
    """Show means in percent; of ``name:max`` the largest, of ``name:min`` the least."""
    parts = [(name.partition(":")[0], name.partition(":")[2]) for name in names]
    return lambda of: form.format(
        *(100 * of[name].agg(how or "mean") for name, how in parts)
    )
