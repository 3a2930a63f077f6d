"""Time how fast a thousand models forget one class together, and what else it costs.

    python experiments/benchmarks/fiun.py --out runs/fiun-benchmark

A tree of two levels: a root, twenty children that are trained from it on rows of their
own, and grandchildren. Root and children are trained for real. A grandchild is its
parent with every parameter moved by a seeded thousandth of itself, and has its parent's
Fisher: what the numbers are is nothing to the clock.

One request, that the root forgets a class, is answered by ``inheritance.fiun``: the
root's statistics, one stacked update of all models and Fishers, and the audit. Once the
old state stays; once it is donated, and changed in place. The rivals:

- ``retraining``: all models trained again. Measured on the children, as one vmapped
  population, and extrapolated: levels that wait for each other would be slower.
- ``loop``: the same statistics, then a jitted update of a model and its Fisher, model
  after model. They are unstacked beforehand, and not stacked again. What it gave last
  is kept until it gives the next: so it finds warm memory in small pieces, where what
  is not donated is written to new pages.
- ``moving``: all models and Fishers copied, which every answer takes that leaves the
  old ones.
- ``measuring``: no Fishers were cached. All models' are measured from their own data
  when the request comes, and then the same is done. Measured on some models, and
  extrapolated.

Rivals take turns in one run, so that a machine whose speed drifts slows all. The figure
to quote is the ratio, rival by ours, its median over repeats. Compilation is left out
and recorded apart; what takes seconds or less is called twice in a row, and the second
call counts. Memory is that of a process that builds the tree and answers once.
"""

import dataclasses
import functools
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import records
import timing
import tyro
from rich.console import Console

import hyperforget_jax as hf
from hyperforget_jax import fisher, inheritance, trees
from hyperforget_jax.inheritance.included import take_out, without_share
from hyperforget_jax.models.head import find_head

ROOT, CHILDREN, ARCHITECTURE = "root", 20, "default"
# By the names of the committed record.
CONFIGS = {
    "repaired": fisher.FIUnConfig(),
    "folded": fisher.FIUnConfig.head_reassign(),
    "published": fisher.FIUnConfig.published(),
}


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """One class request to a tree of models, against four rivals."""

    preset: Literal["mnist", "digits"] = "mnist"
    """Data and network; digits is a smoke run."""
    models: int = 1_000
    """Models in the tree."""
    repeats: int = 5
    """Turns that the rivals take."""
    measured: int = 100
    """Models whose Fishers are measured again; for more it is extrapolated."""
    forget: int = 3
    """The class to forget."""
    seed: int = 0
    """Of training, and of the request."""
    out: Path = Path("runs/fiun-benchmark")
    """Where the results go."""


MOVED = "their parents, moved by seeded thousandths; Fishers copied"


class Recipe(NamedTuple):
    """How every model of a preset is trained."""

    hidden: tuple[int, ...]
    learning_rate: float
    steps: int
    batch_size: int


RECIPES = {
    "mnist": Recipe((128,), 2e-3, 300, 128),
    "digits": Recipe((64,), 5e-3, 100, 64),
}


class Trained(NamedTuple):
    """The root and its children: stacked models, and the root's request."""

    classifier: hf.Classifier
    optimizer: optax.GradientTransformation
    data: hf.Examples
    plan: inheritance.Plan
    models: dict[str, Any]
    request: hf.ForgetRequest


class Contest(NamedTuple):
    """What takes turns under one configuration.

    Attributes:
        ours: answers the request by ``inheritance.fiun``, and writes the audit.
        donated: does the same with a copy that it may change, and tells the seconds.
        rivals: by name, each followed by what its time is to be multiplied with.
        compile_seconds: of each.
        graph_gib: size of models and Fishers.
    """

    ours: Callable[[], Any]
    donated: Callable[[], float]
    rivals: dict[str, tuple[Callable[[], Any], float]]
    compile_seconds: dict[str, float]
    graph_gib: float


def main(config: Benchmark) -> None:
    """Measure, print and write."""
    if config.models <= CHILDREN:
        raise SystemExit(f"--models must be more than {CHILDREN}, got {config.models}.")
    console, begin = Console(), time.perf_counter()
    # First of all: a process is said to have held what its parent held when it began.
    memory = {}
    for name in CONFIGS:
        console.log(f"{name}: memory of {config.models} models")
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            memory[name] = pool.apply(peak_memory, (config, name))
    rows = measure(config, console, memory)
    recipe = RECIPES[config.preset]._asdict()
    records.write(config, rows, begin, preset=config.preset, recipe=recipe)


def measure(
    config: Benchmark, console: Console, memory: Mapping[str, dict[str, float]]
) -> list[dict[str, Any]]:
    """Measure and print; ``memory`` holds what :func:`peak_memory` gives, by rule."""
    console.log("training")
    trained = train(config)
    console.log("compiling")
    retraining = functools.partial(retrain, config, trained)
    _, retrain_compile = timing.first_call(retraining)
    contests = {name: contest(config, trained, name) for name in CONFIGS}

    seconds = {name: {} for name in CONFIGS}
    for repeat in range(config.repeats):
        console.log(f"repeat {repeat + 1} of {config.repeats}")
        retrained = timing.seconds_of(retraining) * config.models / CHILDREN
        for name, entrants in contests.items():
            of_one = {
                "ours": timing.settled_seconds(entrants.ours),
                "donated": entrants.donated(),
                "retraining": retrained,
            }
            for rival, (function, times) in entrants.rivals.items():
                of_one[rival] = timing.settled_seconds(function) * times
            if "measuring" in of_one:
                of_one["measuring"] += of_one["ours"]
            for what, value in of_one.items():
                seconds[name].setdefault(what, []).append(value)

    rows = []
    for name, entrants in contests.items():
        compiled = entrants.compile_seconds | {"retraining": retrain_compile}
        held = memory.get(name, {})
        rows += _rows(config, name, entrants, seconds[name], compiled, held)
        donated = {
            "ours": seconds[name]["donated"],
            **{rival: seconds[name][rival] for rival in ("loop", "moving")},
        }
        rows += _rows(config, f"{name}, donated", entrants, donated, compiled, {})
    for row in rows:
        found = {k: np.median(v["values"]) for k, v in row["metrics"].items()}
        about = row["factors"]["rule"], row["factors"]["rival"]
        console.print(*about, {k: f"{value:.3g}" for k, value in found.items()})
    return rows


def train(config: Benchmark) -> Trained:
    """Train the root and its children."""
    recipe = RECIPES[config.preset]
    data = hf.data.load(config.preset).train
    order = np.random.default_rng(config.seed).permutation(data.y.shape[0])
    names = (ROOT, *(f"child{index}" for index in range(CHILDREN)))
    rows = {}
    for name, shard in zip(names, np.array_split(order, len(names)), strict=True):
        rows[name] = np.isin(np.arange(order.size), shard)
    edges = [inheritance.Edge(ROOT, name, "transfer") for name in names[1:]]
    plan = inheritance.Plan.create(data, rows, edges)
    classifier = hf.from_linen(hf.models.MLP(recipe.hidden))
    optimizer = optax.adam(recipe.learning_rate)
    _, models = inheritance.train(
        jax.random.key(config.seed),
        classifier,
        data,
        plan,
        optimizer,
        recipe.steps,
        batch_size=recipe.batch_size,
        progress=False,
    )
    asked = hf.forget_classes(data, (config.forget,))
    request = plan.request_at(asked, ROOT)
    return Trained(classifier, optimizer, data, plan, models, request)


class Tree(NamedTuple):
    """The tree, and what answers for it: jitted ``unlearn``, and the state."""

    graph: inheritance.Graph
    unlearn: Callable[..., Any]
    state: inheritance.GraphState


def grow(trained: Trained, config: fisher.FIUnConfig, models: int) -> Tree:
    """Grow the tree to as many models, with the Fishers that the config needs."""
    plan, key = trained.plan, jax.random.key(0)
    few = inheritance.fiun(plan.graph, trained.classifier, config)
    state = jax.jit(few.init)(key, trained.models, plan.data(trained.data))
    sources = _sources(models)
    nodes, edges = [*plan.graph.nodes], [*plan.graph.edges]
    for index in range(len(nodes), models):
        parent = nodes[sources[index]]
        name = f"grandchild{index}"
        nodes.append(dataclasses.replace(parent, name=name, time=parent.time + 1))
        edges.append(inheritance.Edge(parent.name, name, "transfer"))
    graph = inheritance.Graph(tuple(nodes), tuple(edges))
    own, included = jax.tree.map(
        lambda leaf: leaf[sources], (state.fisher, state.included)
    )
    gone, classes = (leaf[sources] for leaf in state.forgotten[1:])
    grown = inheritance.GraphState(
        {ARCHITECTURE: _moved(state.variables[ARCHITECTURE], jnp.asarray(sources))},
        own,
        included,
        state.forgotten._replace(gone=gone, classes=classes),
    )
    unlearner = inheritance.fiun(graph, trained.classifier, config)
    return Tree(graph, jax.jit(unlearner.unlearn), jax.block_until_ready(grown))


def contest(config: Benchmark, trained: Trained, name: str) -> Contest:
    """Compile what is to take turns, and check that it gives the same models."""
    how, key = CONFIGS[name], jax.random.key(config.seed)
    tree, requests = grow(trained, how, config.models), {ROOT: trained.request}

    def answer(unlearn, state):
        state, info = unlearn(key, state, requests)
        inheritance.record((), tree.graph, requests, how)
        return state, info

    def ours():
        return answer(tree.unlearn, tree.state)

    def donated():
        seconds = 0.0
        for _ in range(2):
            state = jax.block_until_ready(jax.tree.map(jnp.copy, tree.state))
            seconds = timing.seconds_of(answer, in_place, state)
        return seconds

    @jax.jit
    def moving(state):
        return jax.tree.map(jnp.copy, (state.variables, state.fisher))

    in_place = jax.jit(lambda *given: tree.unlearn(*given), donate_argnums=1)
    loop = _loop(trained, tree, how, key)
    (state, _), ours_first = timing.first_call(ours)
    seconds = {"ours": ours_first}
    alone, seconds["loop"] = timing.first_call(loop)
    for row in (0, config.models // 2, config.models - 1):
        jax.tree.map(
            functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-5),
            trees.take(_stacked(state), row),
            alone[row],
        )
    donated()  # Compiles.
    rivals: dict[str, tuple[Callable[[], Any], float]] = {
        "loop": (loop, 1.0),
        "moving": (functools.partial(moving, tree.state), 1.0),
    }
    _, seconds["moving"] = timing.first_call(rivals["moving"][0])
    if how.dampens:
        number = min(config.measured, config.models)
        measure = _measuring(trained, tree, how, number)
        _, seconds["measuring"] = timing.first_call(measure)
        rivals["measuring"] = measure, config.models / number
    held = (tree.state.variables, tree.state.fisher)
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(held)) / 2**30
    return Contest(ours, donated, rivals, seconds, size)


def retrain(config: Benchmark, trained: Trained) -> Any:
    """Train the children again, without what is to be forgotten."""
    recipe = RECIPES[config.preset]
    root = trained.plan.graph.take(trained.models, ROOT)
    starts = jax.tree.map(
        lambda leaf: jnp.broadcast_to(leaf, (CHILDREN, *leaf.shape)), root
    )
    asked = np.asarray(trained.data.y) == config.forget
    return hf.fit_population(
        jax.random.key(config.seed),
        trained.classifier,
        trained.data,
        trained.optimizer,
        recipe.steps,
        members=CHILDREN,
        weights=jnp.asarray(trained.plan.rows[1:] & ~asked, jnp.int32),
        starts=starts,
        batch_size=recipe.batch_size,
        progress=False,
    ).variables


def peak_memory(config: Benchmark, name: str) -> dict[str, float]:
    """Return the most GiB this process held: after building, and after the request."""
    trained = train(config)
    tree = grow(trained, CONFIGS[name], config.models)
    built = _held()
    key = jax.random.key(config.seed)
    answer = tree.unlearn(key, tree.state, {ROOT: trained.request})
    jax.block_until_ready(answer)
    return {"peak_gib_before": built, "peak_gib": _held()}


def _stacked(state: inheritance.GraphState) -> tuple[Any, Any]:
    own = None if state.fisher is None else state.fisher[ARCHITECTURE]
    return state.variables[ARCHITECTURE], own


def _loop(trained, tree: Tree, config, key) -> Callable[[], list[Any]]:
    """The rival that changes one model after the other, and its Fisher."""
    classifier, x, state = trained.classifier, trained.data.x, tree.state
    count = state.forgotten.gone.shape[0]
    alone = [trees.take(_stacked(state), row) for row in range(count)]
    # What the graph draws from, so that the answers can be compared.
    keys = jax.random.split(jax.random.fold_in(key, 0), count)
    draws = list(zip(jnp.arange(count), keys, strict=True))
    head = find_head(classifier, alone[0][0], x)
    blank = jnp.zeros((1, *x.shape[1:]), x.dtype)

    @jax.jit
    def statistics(variables, own, included, request):
        found = fisher.forget_statistics(classifier, variables, request, config, head)
        scaled = fisher.on_scale(found, own, config)
        if own is None:
            return scaled, None, None
        given: Any = found.fisher
        relative = fisher.by_trace(given, own, config)
        asked = {ROOT: request}
        gone, _ = take_out(tree.graph, included, state.forgotten.id, asked)
        return scaled, trees.stack([relative]), gone

    @jax.jit
    def change(row, key, variables, own, found, relative, gone):
        fresh = classifier.init(key, blank)["params"]
        new, _ = fisher.update(variables, own, found, fresh, config, head)
        if own is None:
            return new, None
        return new, without_share(own, gone[row], relative, config)

    kept = []

    def loop():
        found = statistics(*alone[0], state.included, trained.request)
        kept[:] = [
            change(*draw, *one, *found) for draw, one in zip(draws, alone, strict=True)
        ]
        return kept

    return loop


def _measuring(trained, tree: Tree, config, number: int) -> Callable[[], Any]:
    """The rival that measures Fishers when the request comes, on some of the models."""
    nodes = tree.graph.nodes[:number]
    names = {node.name for node in nodes}
    edges = tuple(edge for edge in tree.graph.edges if edge.child in names)
    few = inheritance.Graph(nodes, edges)
    models = jax.tree.map(lambda leaf: leaf[:number], tree.state.variables)
    data = trained.plan.data(trained.data)
    data = data._replace(rows=data.rows[_sources(number)])
    init = jax.jit(inheritance.fiun(few, trained.classifier, config).init)
    return lambda: init(jax.random.key(0), models, data).fisher


def _sources(models: int) -> np.ndarray:
    """By model, which of those that were trained it is, or is the child of."""
    number = np.arange(models)
    return np.where(number <= CHILDREN, number, 1 + number % CHILDREN)


@jax.jit
def _moved(variables, sources):
    def one(member):
        number, source = member
        key = jax.random.fold_in(jax.random.key(0), number)
        scale = jnp.where(number <= CHILDREN, 0, 1e-3)

        def move(leaf):
            if not jnp.issubdtype(leaf.dtype, jnp.floating):
                return leaf[source]
            draw = jax.random.normal(key, leaf.shape[1:], leaf.dtype)
            return leaf[source] * (1 + scale * draw)

        return jax.tree.map(move, variables)

    # One after the other, so that the draws of all are never there at once.
    return jax.lax.map(one, (jnp.arange(sources.shape[0]), sources))


def _held() -> float:
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (2**30 if sys.platform == "darwin" else 2**20)


def _rows(config: Benchmark, rule: str, entrants: Contest, seconds, compiled, memory):
    """A row for ours, and one for ours beside each rival."""
    recipe = RECIPES[config.preset]
    about = {
        "none": {},
        "retraining": {
            "extrapolated_from": CHILDREN,
            "steps": recipe.steps,
            "batch_size": recipe.batch_size,
        },
        "loop": {},
        "moving": {},
        "measuring": {"extrapolated_from": min(config.measured, config.models)},
    }
    fixed = {**memory, "graph_gib": entrants.graph_gib}
    rows = []
    for rival, more in about.items():
        factors: dict[str, Any] = {
            "rule": rule,
            "models": config.models,
            "trained": CHILDREN + 1,
            "grandchildren": MOVED,
            "rival": rival,
            **more,
        }
        values = {"seconds_per_request": seconds["ours"]}
        if rival == "none":
            values |= fixed
        elif rival in seconds:
            ratio = np.divide(seconds[rival], seconds["ours"])
            values |= {"rival_seconds": seconds[rival], "ratio_to_rival": ratio}
            factors["rival_compile_seconds"] = compiled[rival]
        else:
            continue
        rows.append(
            records.row(
                "fiun",
                values,
                dataset=config.preset,
                model="mlp-" + "-".join(map(str, recipe.hidden)),
                request=f"class {config.forget}",
                access=CONFIGS[rule.partition(",")[0]].access,
                seconds={
                    "init": 0.0,
                    "unlearn": float(np.mean(seconds["ours"])),
                    "compile": compiled["ours"],
                },
                factors=factors,
            )
        )
    return rows


if __name__ == "__main__":
    main(tyro.cli(Benchmark))
