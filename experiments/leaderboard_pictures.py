"""Draw a leaderboard, and how far from its settings each method may be.

    python experiments/leaderboard_pictures.py --preset digits

Two pictures: of every scenario the ranks with intervals, and forgetting against utility
against cost; and of the search the goal of every trial, a line a method.
"""

import dataclasses
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import tyro
from PIL import Image
from tables.leaderboard import AUDIT, ranked

import hyperforget_jax as hf

RESULTS = Path(__file__).parent / "results"


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Draw a leaderboard and its search."""

    preset: str = "digits"
    """As in leaderboard.py."""
    records: Path = RESULTS
    """Where leaderboard-<preset>.json and search-<preset>.json are."""
    out: Path = Path("runs")
    """Where the pictures go, under the names of their records."""


def main(config: Pictures) -> None:
    """Read the records and draw."""
    config.out.mkdir(parents=True, exist_ok=True)
    name = f"leaderboard-{config.preset}"
    document = hf.report.read_audit(config.records / f"{name}.json")
    save(leaderboard(document), config.out / f"{name}.png")
    name = f"search-{config.preset}"
    document = hf.report.read(config.records / f"{name}.json", references=False)
    save(sensitivity(document["rows"]), config.out / f"{name}.png")


def save(figure, path: Path) -> None:
    """Write a picture, in as few colours as it needs."""
    figure.savefig(path, dpi=80)
    plt.close(figure)
    plain = Image.open(path).convert("RGB").quantize(64, dither=Image.Dither.NONE)
    plain.save(path, optimize=True)


def leaderboard(document):
    """Draw ranks, and forgetting against utility against cost, a row a scenario."""
    groups = list(hf.report.by_subject(document["rows"]).values())
    figure, axes = plt.subplots(
        len(groups), 2, figsize=(13, 7 * len(groups)), layout="constrained"
    )
    for (left, right), rows in zip(np.atleast_2d(axes), groups, strict=True):
        placed = [row for _, row in ranked(rows)]
        found = [
            next(each for each in row["audits"] if each["audit"] == AUDIT)
            for row in placed
        ]
        apart = np.array([each["value"] for each in found])
        ends = np.array([each["interval"] for each in found])
        retained = [
            100 * row["metrics"]["retain_accuracy_test"]["mean"] for row in placed
        ]
        seconds = np.array(
            [
                np.nan if row["seconds"] is None else row["seconds"]["unlearn"]
                for row in placed
            ]
        )
        place = np.arange(len(placed))
        left.errorbar(
            apart,
            place,
            xerr=np.abs(ends.T - apart),
            fmt="o",
            color="tab:blue",
            label="with 95 % interval over models",
        )
        left.axvline(found[0]["floor"], color="tab:green", label="retrained models")
        left.axvline(found[0]["original"], color="tab:red", label="original models")
        names = [f"{row['method']}  {at + 1}" for at, row in enumerate(placed)]
        left.set_yticks(place, names)
        left.invert_yaxis()
        left.set(
            xscale="log",
            xlabel="distance of mean confidence from retrained models, nats",
            title=hf.report.scenario_title(rows[0]),
        )
        left.legend(loc="upper right", fontsize="small")
        # What was not timed is grey.
        timed = np.isfinite(seconds)
        right.scatter(apart, np.array(retained), color="lightgrey", s=50)
        for at, point in enumerate(zip(apart, retained, strict=True)):
            right.annotate(
                at + 1, point, (4, 3), textcoords="offset points", fontsize=8
            )
        right.set(
            xscale="log",
            xlabel="distance of mean confidence, nats (left is better)",
            ylabel="retained accuracy on test rows, % (up is better)",
        )
        if timed.any():
            points = right.scatter(
                apart[timed],
                np.array(retained)[timed],
                c=np.log10(1000 * seconds[timed]),
                s=50,
            )
            figure.colorbar(points, ax=right, label="log10 of milliseconds a request")
    return figure


def sensitivity(rows):
    """Draw the goal of every trial, a line a method and a column a scenario."""
    scenarios = list(dict.fromkeys(row["scenario"] for row in rows))
    methods = sorted({row["method"] for row in rows})
    figure, axes = plt.subplots(
        1,
        len(scenarios),
        figsize=(1.5 + 3 * len(scenarios), 0.28 * len(methods) + 1.2),
        sharey=True,
        layout="constrained",
        squeeze=False,
    )
    for axis, scenario in zip(axes[0], scenarios, strict=True):
        for row in rows:
            if row["scenario"] != scenario:
                continue
            is_default = set(row["factors"]) == {"place", "chosen"}
            axis.plot(
                row["metrics"]["goal"]["mean"],
                methods.index(row["method"]),
                marker="D" if is_default else "o",
                color="tab:red" if is_default else "tab:blue",
                alpha=1 if is_default or row["factors"]["chosen"] else 0.3,
                linestyle="",
            )
        axis.set(xscale="log", title=scenario, xlabel="distance, nats")
        axis.grid(axis="y", alpha=0.3)
    axes[0, 0].set_yticks(range(len(methods)), methods)
    axes[0, 0].invert_yaxis()
    figure.suptitle(
        "every trial's distance from retrained models; red: the method's defaults",
        fontsize="medium",
    )
    return figure


if __name__ == "__main__":
    main(tyro.cli(Pictures))
