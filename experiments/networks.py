"""Networks that the studies of inheritance train: four settings, two regimes, requests.

Every request has its own originals where the network depends on it, and its own
retrained network: from the same keys, without the forgotten rows.
"""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

import hyperforget_jax as hf
from hyperforget_jax import inheritance
from hyperforget_jax.models.networks import Conv

SETTINGS = ("federated", "data_parallel", "incremental", "transfer")
REGIMES = ("direct", "inherit")


class _Small(nn.Module):
    """Two convolutions of stride one and two on images of 8 x 8, and a linear head."""

    @nn.compact
    def __call__(self, x):
        size = x.shape[1] // 8
        # Means of patches by their shape: a pooling window is slow inside a scan.
        x = x.reshape(x.shape[0], 8, size, 8, size, x.shape[-1]).mean((2, 4))
        x = nn.relu(Conv(16, (3, 3), use_bias=False)(x))
        x = nn.relu(Conv(32, (3, 3), strides=2, use_bias=False)(x))
        return nn.Dense(10)(x.reshape(x.shape[0], -1))


@dataclasses.dataclass(frozen=True)
class Preset:
    """Data, classifier and recipe of a study."""

    dataset: str
    rows: int  # Training examples that are shared out, drawn at random.
    test_rows: int
    model: str
    make: Callable[[], hf.Classifier]
    backbone: tuple[str, ...]  # What transfer learning freezes.
    learning_rate: float  # Of AdamW with a cosine schedule, anew at every node.
    weight_decay: float
    steps: int  # At every node.
    batch_size: int = 64
    classes: tuple[int, ...] = tuple(range(10))  # That are forgotten, one by one.

    @property
    def optimizer(self) -> optax.GradientTransformation:
        schedule = optax.cosine_decay_schedule(self.learning_rate, self.steps)
        return optax.adamw(schedule, weight_decay=self.weight_decay)

    def record(self) -> dict[str, Any]:
        """What the results say of it."""
        fields = dataclasses.asdict(self)
        fields.pop("make")
        return fields


def _mlp(width: int) -> Callable[[], hf.Classifier]:
    return lambda: hf.from_linen(hf.models.MLP((width,)))


PRESETS = {
    "digits": Preset(
        "digits", 1_118, 400, "mlp-64", _mlp(64), ("Dense_0",), 5e-3, 0.3, 200
    ),
    "mnist": Preset(
        "mnist", 12_000, 2_000, "mlp-128", _mlp(128), ("Dense_0",), 2e-3, 0.3, 300
    ),
    "cifar10_small": Preset(
        "cifar10",
        12_000,
        2_000,
        "cnn-16-32-8x8",
        lambda: hf.from_linen(_Small()),
        ("Conv_0", "Conv_1"),
        1e-2,
        0.1,
        150,
        32,
    ),
}


@dataclasses.dataclass(frozen=True)
class Case:
    """One request to a network.

    Attributes:
        scenario: ``"class"``, ``"classes"``, ``"two_roots"`` or ``"rows"``.
        name: what is asked for.
        request: made from the training examples of the study.
        plans: by regime, and ``"retrained"``.
        requests: by regime, then by root.
    """

    scenario: str
    name: str
    request: hf.ForgetRequest
    plans: Mapping[str, inheritance.Plan]
    requests: Mapping[str, Mapping[str, hf.ForgetRequest]]

    def roots_of(self, regime: str, node: str) -> list[str]:
        """Return the roots whose requests reach a node: it, or ancestors of it."""
        roots = list(self.requests[regime])
        graph = self.plans[regime].graph
        reach = graph.reach(roots)[graph.names.index(node)]
        return [root for root, reaches in zip(roots, reach, strict=True) if reaches]

    def classes_at(self, regime: str, node: str) -> np.ndarray:
        """Return the classes asked of a node or of its ancestors, bool, ``[C]``."""
        asked = [self.requests[regime][root] for root in self.roots_of(regime, node)]
        return np.any([each.classes for each in asked], axis=0)

    def rows_at(self, regime: str, node: str) -> np.ndarray:
        """Return the forgotten rows that a node saw, or a root that reaches it."""
        size = self.plans[regime].labels.size
        asked = [
            np.asarray(self.requests[regime][root].rows)
            for root in self.roots_of(regime, node)
        ]
        whole = np.asarray(self.request.rows)
        own = np.intersect1d(whole, self.plans[regime].rows_behind(node))
        rows = np.unique(np.concatenate([*asked, own]))
        return rows[rows < size]


def plan_of(setting: str, preset: Preset, data: hf.Examples, sensitive=()):
    """Make the network of a setting."""
    key = jax.random.key(11)
    if setting == "federated":
        return inheritance.federated_dag(key, data, sensitive=sensitive)
    if setting == "data_parallel":
        return inheritance.data_parallel(key, data)
    if setting == "incremental":
        return inheritance.incremental(key, data)
    return inheritance.transfer(key, data, frozen=preset.backbone)


def case_of(scenario: str, name: str, request, direct: inheritance.Plan) -> Case:
    """Make a request with its plans, and who is asked for what in each regime."""
    plans = {
        "direct": direct,
        "inherit": direct.inherited(request, _first_roots(direct, request)),
        "retrained": direct.without(request),
    }
    requests = {regime: _by_root(plans[regime], request) for regime in REGIMES}
    return Case(scenario, name, request, plans, requests)


def class_case(setting: str, preset: Preset, data, classes: tuple[int, ...]) -> Case:
    """Make a request for whole classes."""
    direct = plan_of(setting, preset, data, classes)
    request = hf.forget_classes(data, classes, num_classes=10)
    scenario = "class" if len(classes) == 1 else "classes"
    return case_of(scenario, "+".join(map(str, classes)), request, direct)


def rows_case(setting: str, preset: Preset, data: hf.Examples) -> Case:
    """Make a request for a random fiftieth of the rows of all nodes that hold any."""
    direct = plan_of(setting, preset, data)
    held = np.flatnonzero(direct.rows.any(axis=0))
    weight = np.zeros(data.y.shape[0], np.int32)
    weight[held] = 1
    count = max(1, held.size // 50)
    request = hf.forget_random(
        jax.random.key(12),
        data._replace(weight=jnp.asarray(weight)),
        count,
        num_classes=10,
    )
    request = request._replace(data=data)
    return case_of("rows", "2 %", request, direct)


def two_roots_case(setting: str, preset: Preset, data: hf.Examples) -> Case | None:
    """Request two classes of one root and two of another; None for a star."""
    first, second = (0, 1), (2, 3)
    if setting == "transfer":
        return None
    if setting == "incremental":
        second = (7, 8)
    classes = first + second
    direct = plan_of(setting, preset, data, classes)
    if setting in ("federated", "data_parallel"):
        one, other = {"federated": ("r1", "r2"), "data_parallel": ("u1", "u2")}[setting]
        for name, lacks in ((one, second), (other, first)):
            request = hf.forget_classes(data, lacks, num_classes=10)
            keepers = [n for n in direct.graph.names if n != name]
            direct = direct.inherited(request, keepers)
    request = hf.forget_classes(data, classes, num_classes=10)
    return case_of("two_roots", "+".join(map(str, classes)), request, direct)


def _first_roots(plan, request) -> list[str]:
    """Who goes on seeing the forgotten rows in the regime of mere inheritance.

    Of several initial models of one class the first alone, so that the others are free
    of it; all of them for a request of rows.
    """
    labels = np.flatnonzero(request.classes)
    if not labels.size:
        return list(plan.roots(request))
    keepers = []
    for label in labels:
        alone = hf.forget_classes(request.data, [int(label)], num_classes=10)
        keepers += plan.roots(alone)[:1]
    return list(dict.fromkeys(keepers))


def _by_root(plan, request) -> dict[str, hf.ForgetRequest]:
    """Each class is asked of those who first saw it; rows, of all who hold any.

    What the first model knew of a class is much like what its descendants learnt of it;
    of single rows that is not so, and whoever holds some must say what they are.
    """
    labels = np.flatnonzero(request.classes)
    if not labels.size:
        holders = plan.holders(request)
        return plan.requests(request, holders)
    asked: dict[str, list[int]] = {}
    for label in labels:
        alone = hf.forget_classes(request.data, [int(label)], num_classes=10)
        for root in plan.roots(alone):
            asked.setdefault(root, []).append(int(label))
    return {
        root: plan.request_at(
            hf.forget_classes(request.data, of_root, num_classes=10), root
        )
        for root, of_root in asked.items()
    }


def train(
    preset: Preset,
    classifier: hf.Classifier,
    data: hf.Examples,
    cases: list[Case],
    keys: jax.Array,
    directory: Path | None,
) -> list[dict[str, Any]]:
    """Train the networks of all cases at once.

    Plans that see the same rows are trained once.

    Returns:
        By case, stacked models ``[S, M, ...]`` by regime and of ``"retrained"``.
    """
    plans: dict[bytes, inheritance.Plan] = {}
    for case in cases:
        for plan in case.plans.values():
            plans.setdefault(plan.rows.tobytes(), plan)
    stacked = inheritance.train_networks(
        keys,
        classifier,
        data,
        list(plans.values()),
        preset.optimizer,
        preset.steps,
        batch_size=preset.batch_size,
        directory=directory,
    )
    found = {
        rows: models["default"] for rows, models in zip(plans, stacked, strict=True)
    }
    return [
        {name: found[plan.rows.tobytes()] for name, plan in case.plans.items()}
        for case in cases
    ]


def bare(graph: inheritance.Graph) -> inheritance.Graph:
    """Return the graph less what differs between requests, for one compilation."""
    nodes = (dataclasses.replace(node, classes=(0,), data="") for node in graph.nodes)
    return inheritance.Graph(tuple(nodes), graph.edges)
