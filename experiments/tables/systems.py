"""The three systems, each in its own study, beside the mask and a retrained model."""

from tables import hypernetworks, networks, pgu
from tables.writing import METHOD, grouped, relearning, spread


def overview() -> str:
    """Show how each class of MNIST is forgotten: means over classes, and the worst."""
    of_networks = networks.of_networks("mnist").query(
        "scenario == 'class' and regime == 'direct'"
    )
    forget, gap = spread("forget_accuracy_test", 3, "max"), spread("gap", 2, "min")
    lines = ""
    for models, found, methods, cells in (
        (
            "networks, 784-128-10",
            of_networks,
            ("fiun/repaired", "fiun/folded"),
            # Of networks the worst node and seed were recorded.
            (networks.FORGET, networks.GAP),
        ),
        ("784-128-10", pgu.by_class("mnist"), ("pgu",), (forget, gap)),
        ("784-10-10", hypernetworks.by_class("mnist"), ("dihyfo_2",), (forget, gap)),
    ):
        whole = grouped(
            found,
            "method",
            ("models", lambda _, models=models: models),
            METHOD,
            ("forget accuracy, test (worst)", cells[0]),
            ("retain gap, points (worst)", cells[1]),
            ("JS to retrained models, nats", spread("js_to_oracle", 4)),
            ("relearning steps", relearning()),
            order=(*methods, "logit_mask", "ceiling"),
        )
        # One head for all three.
        lines += whole if not lines else whole.split("\n", 2)[2]
    return lines
