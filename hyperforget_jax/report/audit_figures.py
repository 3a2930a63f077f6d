"""The figures of audits: ROC curves on logarithmic axes, and single examples."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from hyperforget_jax.report.figures import (
    FIRST,
    INK,
    LINE,
    MARKERS,
    MUTED,
    SECOND,
    canvas,
    printable,
    svg,
)

__all__ = ["Curve", "confidences", "roc"]

_DASHES = ((), (5, 2), (1.5, 1.5), (6, 2, 1.5, 2))


class Curve(NamedTuple):
    """A method's ROC.

    Attributes:
        label: its name.
        fpr: rates of false positives, rising from the least that can be resolved,
            ``[P]``.
        tpr: rates of true positives, ``[P]``.
    """

    label: str
    fpr: Sequence[float]
    tpr: Sequence[float]


def roc(curves: Sequence[Curve], *, id: str, description: str, title: str) -> str:
    """Draw ROC curves on two logarithmic axes, with the diagonal of guessing.

    The axes begin at the least rate that any curve resolves.
    """
    import matplotlib.ticker

    least = min(curve.fpr[0] for curve in curves)
    # Below the axes and not beside them: a page may be narrow.
    below = 0.6 + 0.2 * ((len(curves) + 1) // 2)
    with canvas(id, 4.4, 3.2 + below, (0.7, below, 0.15, 0.3)) as (figure, axes):
        axes.plot([least, 1], [least, 1], color=MUTED, linewidth=0.8, dashes=(4, 3))
        for number, curve in enumerate(curves):
            # A step each: no rate between two points is claimed.
            axes.step(
                np.append(curve.fpr, 1),
                np.append(np.clip(curve.tpr, least, 1), 1),
                where="post",
                label=printable(curve.label),
                color=(SECOND, FIRST)[number % 2],
                linewidth=1.1,
                dashes=_DASHES[number // 2 % len(_DASHES)],
                marker=MARKERS[number % len(MARKERS)],
                markersize=5,
                markerfacecolor="none",
                markevery=(2 * number % 9, 9),
            )
        axes.set(
            xscale="log",
            yscale="log",
            xlim=(least, 1),
            ylim=(least, 1.1),
            xlabel="rate of false positives",
            ylabel="rate of true positives",
            title=printable(title),
        )
        axes.grid(color=LINE, linewidth=0.5)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(lambda value, _: f"{value:g}")
            axis.set_minor_formatter(matplotlib.ticker.NullFormatter())
        axes.legend(
            loc="upper left",
            bbox_to_anchor=(-0.1, -0.14),
            ncols=2,
            handlelength=3.5,
            frameon=False,
        )
        return svg(figure, description)


def confidences(
    histogram: Mapping[str, Any], *, id: str, description: str, title: str
) -> str:
    """Draw one example's confidences: original, retrained and unlearned models."""
    edges = histogram["edges"]
    with canvas(id, 3.1, 1.6, (0.25, 0.26, 0.28, 0.28)) as (figure, axes):
        for kind, style in (
            ("original", {"edgecolor": MUTED, "linewidth": 1.2, "fill": False}),
            ("unlearned", {"facecolor": FIRST, "alpha": 0.55, "fill": True}),
            ("retrained", {"edgecolor": SECOND, "linewidth": 1.5, "fill": False}),
        ):
            counts = np.asarray(histogram[kind], np.float64)
            axes.stairs(counts / max(counts.sum(), 1), edges, **style)
        middle = edges[len(edges) // 2]
        axes.set(yticks=[], title=printable(title), ylim=(0, None))
        axes.set_xticks([edges[1], middle, edges[-2]])
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:.1f}")
        axes.tick_params(axis="x", colors=INK)
        return svg(figure, description)
