"""The three systems, each in its own study, beside the mask and a retrained model."""

from tables import hypernetworks, networks, pgu
from tables.writing import of_requests, relearning, spread, table, with_worst

Found = dict[str, list[dict]]


def overview() -> str:
    """Show how each class of MNIST is forgotten: means over classes, and the worst."""
    by_class = hypernetworks._by(hypernetworks._hypernetworks("mnist", "class"))
    studies: tuple[tuple[str, Found, tuple[str, ...], bool], ...] = (
        (
            "networks, 784-128-10",
            _of_networks(),
            ("fiun/repaired", "fiun/folded"),
            False,
        ),
        ("784-128-10", pgu._pgu("mnist", "class"), ("pgu",), False),
        (
            "784-10-10",
            {m: found for (m,), found in by_class.items()},
            ("dihyfo_2",),
            True,
        ),
    )
    return table(
        [
            "models",
            "method",
            "forget accuracy, test (worst)",
            "retain gap, points (worst)",
            "JS to retrained models, nats",
            "relearning steps",
        ],
        [
            [models, f"`{method}`", *_cells(found, method, paired)]
            for models, found, methods, paired in studies
            for method in (*methods, "logit_mask", "ceiling")
        ],
    )


def _of_networks() -> Found:
    """What all nodes did that were trained on the class, network by network."""
    found: Found = {}
    for (scenario, _, regime, method), metrics in networks._networks("mnist").items():
        if (scenario, regime) == ("class", "direct"):
            found.setdefault(method, []).append(metrics)
    return found


def _cells(found: Found, method: str, paired: bool) -> list[str]:
    """The cells of a method; where ``paired``, gaps are between models of one seed."""
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
