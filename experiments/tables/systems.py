"""The three systems, each in its own study, beside the mask and a retrained model."""

import hyperforget_jax as hf
from tables.writing import RESULTS, of_requests, relearning, spread, table, with_worst

_STUDIES = (
    ("networks, 784-128-10", "fiun-mnist", ("fiun/repaired", "fiun/folded"), False),
    ("784-128-10", "pgu-mnist", ("pgu",), False),
    ("784-10-10", "dihyfo-mnist", ("dihyfo_2",), True),
)
"""Models, record, methods, and whether gaps are between models of one seed."""


def overview() -> str:
    """Show how each class of MNIST is forgotten: means over classes, and the worst."""
    lines = []
    for models, record, methods, paired in _STUDIES:
        found: dict[str, list[dict]] = {}
        path = RESULTS / f"{record}.json"
        for row in hf.evaluation.read(path, references=False)["rows"]:
            # Of networks, what all nodes did that were trained on the class.
            whole = row["factors"].get("node", "all") == "all"
            direct = row["factors"].get("regime", "direct") == "direct"
            if row["scenario"] == "class" and whole and direct:
                found.setdefault(row["method"], []).append(row["metrics"])
        lines += [
            [models, f"`{method}`", *_cells(found, method, paired)]
            for method in (*methods, "logit_mask", "ceiling")
        ]
    return table(
        [
            "models",
            "method",
            "forget accuracy, test (worst)",
            "retain gap, points (worst)",
            "JS to retrained models, nats",
            "relearning steps",
        ],
        lines,
    )


def _cells(found: dict[str, list[dict]], method: str, paired: bool) -> list[str]:
    metrics = found[method]
    forget = of_requests(metrics, "forget_accuracy_test")
    rest = [spread(of_requests(metrics, "js_to_oracle"), 4), relearning(metrics)]
    gap = 100 * of_requests(metrics, "retain_gap")
    if gap.size:
        # Of networks the worst node and seed were recorded.
        most = of_requests(metrics, "forget_accuracy_test_worst").max()
        least = 100 * of_requests(metrics, "retain_gap_worst").min()
        return [
            f"{spread(forget, 3)} ({most:.3f})",
            f"{spread(gap, 2)} ({least:z.1f})",
            *rest,
        ]
    retrained = of_requests(found["retrain"], "retain_accuracy_test")
    if not paired:
        retrained = retrained.mean(axis=1, keepdims=True)
    gap = 100 * (of_requests(metrics, "retain_accuracy_test") - retrained)
    return [with_worst(forget, max, 3), with_worst(gap, min, 2), *rest]
