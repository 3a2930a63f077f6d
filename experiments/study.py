"""What the studies share: train, prepare, forget, retrain, evaluate, record.

Every number comes from ``seeds`` separately trained models. Whatever was trained or
forgotten is a checkpoint under the study's folder, so that a run that was stopped goes
on from there.
"""

import dataclasses
import json
import os
import time
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from recipes import Recipe
from rich.console import Console
from rich.table import Table

import hyperforget_jax as hf
from hyperforget_jax import trees

NOT_TIMED = {"init": 0.0, "unlearn": 0.0, "compile": 0.0}


class Method(NamedTuple):
    """A method with its hyper-parameters, which go into the record.

    Attributes:
        make: ``(classifier, **hyper) -> Unlearner``.
        hyper: the library's defaults, chosen by ``tune.py``.
    """

    make: Callable[..., hf.Unlearner]
    hyper: Mapping[str, Any]

    def __call__(self, classifier: hf.Classifier) -> hf.Unlearner:
        return self.make(classifier, **self.hyper)


def _with_adam(make: Callable[..., hf.Unlearner], **hyper: float) -> Method:
    def made(classifier, rate, **rest):
        return make(classifier, optimizer=optax.adam(rate), **rest)

    return Method(made, hyper)


METHODS = {
    "logit_mask": Method(hf.logit_mask, {}),
    "finetune": _with_adam(hf.finetune, rate=1e-2, steps=100),
    "ascent": _with_adam(hf.ascent, rate=1e-3, steps=20),
    "neggrad_plus": _with_adam(hf.neggrad_plus, rate=1e-3, beta=0.95, steps=50),
    "ssd": Method(hf.ssd, {"alpha": 1.0, "strength": 0.3}),
    "fiun": Method(hf.fiun, {}),
    "pgu": Method(hf.pgu, {"preset": "repaired"}),
}
BASELINES = ("logit_mask", "finetune", "ascent", "neggrad_plus", "ssd")


class Answer(NamedTuple):
    """What a method made of every seed's model.

    Attributes:
        variables: stacked, ``[seeds, ...]``.
        seconds: means over seeds, by phase.
        info: what the method says of it, by name, ``[seeds]``.
    """

    variables: Any
    seconds: dict[str, float]
    info: dict[str, np.ndarray]


@dataclasses.dataclass
class Study:
    """Originals of one recipe, and what became of every request.

    Attributes:
        name: the study, for checkpoints.
        recipe: how classifiers are trained.
        seeds: training seeds; retrained models have as many, of their own.
        out: the study's folder.
        data: training examples, if they are not the recipe's.
        rows: result rows so far.
        per_class: test accuracy by method of the last request, ``[seeds, C]``.
        losses: by method of the last request: losses on the forgotten training rows
            that it is evaluated on, and on test rows, of the same classes if whole ones
            went, all seeds together.
    """

    name: str
    recipe: Recipe
    seeds: int
    out: Path
    console: Console = dataclasses.field(default_factory=Console)
    data: hf.Examples | None = None
    rows: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    per_class: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    losses: dict[str, dict[str, np.ndarray]] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        self._made: dict[Any, Any] = {}
        self.splits = self.recipe.load()
        if self.data is not None:
            self.splits = self.splits._replace(train=self.data)
        self.classifier = self.recipe.classifier
        self.originals = self.recipe.train(
            jax.random.key(0), self.splits.train, self.seeds, self.out / "originals"
        ).variables

    def forget_classes(
        self,
        classes: tuple[int, ...],
        methods: Mapping[str, Method],
        *,
        longer: bool = True,
    ) -> None:
        """Answer one class request with every method, beside the reference rows."""
        key = jax.random.key(1)
        for label in classes:
            key = jax.random.fold_in(key, label)
        train, evaluated = self.splits.train, None
        if self.recipe.judged is not None:
            some = train.take(jnp.arange(self.recipe.judged))
            evaluated = hf.forget_classes(some, classes)
        self.answer(
            "class",
            "class " + "+".join(map(str, classes)),
            hf.forget_classes(train, classes),
            methods,
            key,
            evaluated=evaluated,
            longer=longer,
        )

    def answer(
        self,
        scenario: str,
        name: str,
        request: hf.ForgetRequest,
        methods: Mapping[str, Method],
        key: jax.Array,
        *,
        states: dict[str, Any] | None = None,
        evaluated: hf.ForgetRequest | None = None,
        longer: bool = True,
    ) -> None:
        """Answer one request with every method, beside the reference rows.

        Args:
            scenario: what kind of request it is.
            name: the request's.
            request: what to forget.
            methods: by name.
            key: a typed key.
            states: every method's states after the requests before, which this one
                leaves behind in their place; None to begin with the originals.
            evaluated: the same request of the rows that models are evaluated on; None
                if these are all.
            longer: whether models retrained for twice as long are compared too.
        """
        evaluated = request if evaluated is None else evaluated
        classifier, test = self.classifier, self.splits.test
        folder = self.out / name.replace(" ", "-")
        self.per_class, self.losses = {}, {}

        def add(method, found, access, seconds=NOT_TIMED, factors=None, info=None):
            metrics = [
                one.metrics | {n: float(v[seed]) for n, v in (info or {}).items()}
                for seed, one in enumerate(found)
            ]
            self.rows.append(
                hf.report.results_row(
                    method,
                    metrics,
                    dataset=self.recipe.dataset,
                    model=self.recipe.model,
                    scenario=scenario,
                    request=name,
                    access=access,
                    seconds=seconds,
                    factors=factors,
                    num_forgotten=int(np.count_nonzero(request.forget.weight)),
                    num_train=int(np.count_nonzero(self.splits.train.weight)),
                )
            )

        def show(method, found, variables):
            self.per_class[method] = np.stack(
                [one.per_class["test"].accuracy for one in found]
            )
            self.losses[method] = self._losses(variables, evaluated)

        self.console.log(f"{name}: retraining {self.seeds} models")
        retrain = self.recipe.retrain(classifier)
        retrained = self._answer(folder, "retrain", retrain, request, key)
        measured = hf.evaluation.prepare_retrained(
            classifier, retrained.variables, evaluated, test, key=jax.random.key(3)
        )
        # Relearning aims at each original's own accuracy.
        beside = [
            hf.evaluation.prepare_retrained(
                classifier,
                measured,
                evaluated,
                test,
                original=trees.take(self.originals, seed),
            )
            for seed in range(self.seeds)
        ]

        def evaluate(variables):
            return [
                hf.evaluate(
                    classifier,
                    trees.take(variables, seed),
                    evaluated,
                    test,
                    retrained=beside[seed],
                )
                for seed in range(self.seeds)
            ]

        found = evaluate(self.originals)
        add("original", found, hf.identity(classifier).access)
        show("original", found, self.originals)
        # Each retrained model relearns towards the original of its own place.
        ceiling = [
            hf.evaluation.ceiling(classifier, beside[seed], evaluated, test)[seed]
            for seed in range(self.seeds)
        ]
        own = [
            dataclasses.replace(one, metrics=_without_distances(one.metrics))
            for one in ceiling
        ]
        add("retrain", own, retrain.access, retrained.seconds)
        show("retrain", own, retrained.variables)
        add("ceiling", ceiling, retrain.access, retrained.seconds)
        # Twice the steps must not make other models, or the gaps mean nothing.
        if longer:
            twice = Method(self.recipe.retrain, {"longer": 2})
            methods = {"ablation/longer": twice, **methods}
        for label, method in methods.items():
            self.console.log(f"{name}: {label}")
            unlearner = method(classifier)
            made = self._answer(folder, label, unlearner, request, key, states)
            found = evaluate(made.variables)
            add(label, found, unlearner.access, made.seconds, method.hyper, made.info)
            if not label.startswith("ablation/"):
                show(label, found, made.variables)

    def _answer(self, folder, method, unlearner, request, key, states=None) -> Answer:
        """Answer for every seed, or load what was answered before."""
        path, kind = folder / method.replace("/", "-"), f"unlearned/{method}"
        state_path = path.with_name(path.name + "-state")
        initial = None if states is None else states.get(method)
        if path.exists():
            seconds = hf.checkpointing.read_manifest(path).config["seconds"]
            loaded = hf.checkpointing.load(path, kind=kind)
            if states is not None:
                like = initial or self._prepared(method, unlearner, request)[0]
                states[method] = hf.checkpointing.load(state_path, like=like)
            return Answer(loaded["variables"], seconds, loaded["told"])
        prepared, init_seconds, init_compile = self._prepared(
            method, unlearner, request
        )
        key = jax.random.fold_in(key, zlib.crc32(method.encode()))
        arguments = (
            jax.random.split(key, self.seeds),
            prepared if initial is None else initial,
            request,
        )
        # Requests of one shape share a compilation.
        compiled, compile_seconds = self._once(
            (method, request.rows.shape),
            lambda: _compiled(unlearner.unlearn, arguments),
        )
        (after, info), unlearn_seconds = timed(compiled, *arguments)
        self._warn_of_failures(method, info)
        if unlearn_seconds < 1:  # The first run of a program warms it up.
            unlearn_seconds = timed(compiled, *arguments)[1]
        seconds = {
            "init": init_seconds / self.seeds,
            "unlearn": unlearn_seconds / self.seeds,
            "compile": init_compile + compile_seconds,
        }
        if states is not None:
            states[method] = after
            # It may be left of a run that died right here.
            hf.checkpointing.save(
                state_path, after, kind=f"state/{method}", overwrite=True
            )
        shown = _shown(info)
        hf.checkpointing.save(
            path,
            {"variables": after.variables, "told": shown},
            kind=kind,
            model=self.classifier.description,
            dataset=self.recipe.dataset,
            split="train",
            config={"seconds": seconds, "study": self.name, "method": method},
        )
        return Answer(after.variables, seconds, shown)

    def _warn_of_failures(self, method, info):
        """Stop if a retrained model diverged; if a method did, say so."""
        failed_at = np.asarray(getattr(info, "failed_at", -1))
        if (failed_at >= 0).any():
            said = f"{method}: the loss is not finite at steps {failed_at.tolist()}"
            if "retrain" in method or "longer" in method:
                raise SystemExit(f"{said}: there are no models to compare with.")
            self.console.log(f"[bold]{said}[/bold]: its last finite models are used")

    def _prepared(self, method, unlearner, request):
        """Prepare every seed's state, once for all requests, and take the time."""

        def prepare():
            key = jax.random.fold_in(jax.random.key(2), zlib.crc32(method.encode()))
            keys = jax.random.split(key, self.seeds)
            arguments = keys, self.originals, request.data
            compiled, compile_seconds = timed(_compiled, unlearner.init, arguments)
            return *timed(compiled, *arguments), compile_seconds

        return self._once(method, prepare)[0]

    def _once(self, name, make):
        """Return what ``make`` gives and its seconds, from the first call on."""
        if name not in self._made:
            self._made[name] = timed(make)
        return self._made[name]

    def _losses(self, variables, request) -> dict[str, np.ndarray]:
        def of(examples):
            there = np.flatnonzero(np.asarray(examples.weight))
            x, y = examples.x[there], examples.y[there]
            logits = hf.models.population_logits(self.classifier, variables, x)
            losses = jax.vmap(hf.losses.cross_entropy, (0, None))(logits, y)
            return np.asarray(losses).ravel()

        # No test row is one of those that a request for rows names.
        unseen = self.splits.test
        if np.any(request.classes):
            unseen = request.split(unseen)[0]
        return {"forget": of(request.forget), "test": of(unseen)}


def timed(function: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    """Call a function; return what it gives, and the seconds until that is there."""
    begin = time.perf_counter()
    result = jax.block_until_ready(function(*arguments))
    return result, time.perf_counter() - begin


def _compiled(function, arguments):
    """Compile a function of a key, something of every seed, and what all share."""
    return jax.jit(jax.vmap(function, (0, 0, None))).lower(*arguments).compile()


def _shown(info: Any) -> dict[str, np.ndarray]:
    """Pick what a table can show of a method's info, by name, one number a seed."""
    shown = {}
    for name in ("dampened", "norm_ratio", "refused", "rounds"):
        if hasattr(info, name):
            shown[name] = np.asarray(getattr(info, name), np.float32)
    for name in ("relative_drift", "clipped"):
        if hasattr(info, name):  # By layer: the layer that it is worst in.
            shown[f"{name}_max"] = np.max([*getattr(info, name).values()], axis=0)
    # What is not finite is no figure; that a method failed is said elsewhere.
    return {name: each for name, each in shown.items() if np.isfinite(each).all()}


def _without_distances(metrics):
    """Leave out what compares a retrained model with others."""
    return {
        name: value
        for name, value in metrics.items()
        if "_to_oracle" not in name and name != "tow"
    }


def record_of(
    config: Any, recipe: Recipe, own: Mapping[str, Mapping[str, Any]] | None = None
) -> dict[str, Any]:
    """Collect what decides a study's results: options, recipe and hyper-parameters.

    Args:
        config: the study's options.
        recipe: of its classifiers.
        own: methods that the study makes itself, with what they are made with.

    Raises:
        SystemExit: unknown methods, too few seeds, or data that are not there: a study
            that cannot begin claims no folder.
    """
    if config.seeds < 2:
        raise SystemExit(
            f"--seeds must be at least 2, got {config.seeds}: the ceiling compares "
            "retrained models with each other."
        )
    try:
        recipe.load()
    except FileNotFoundError as error:
        raise SystemExit(str(error)) from error
    options = dataclasses.asdict(config)
    for place in ("out", "resume"):
        options.pop(place, None)
    there = {name: method.hyper for name, method in METHODS.items()} | dict(own or {})
    check_known("--methods", config.methods, there)
    hyper = {name: there[name] for name in config.methods}
    record = options | {"recipe": recipe.record(), "hyper": hyper}
    return json.loads(json.dumps(record))


def check_known(option: str, given: Iterable[str], allowed: Iterable[str]) -> None:
    """Stop if an option names what there is not."""
    allowed = list(allowed)
    if unknown := sorted(set(given) - set(allowed)):
        raise SystemExit(f"{option} {unknown} unknown; there are {allowed}.")


def open_folder(out: Path, record: Mapping[str, Any], resume: bool) -> None:
    """Make the study's folder, or check that it is the one to go on with.

    Raises:
        SystemExit: the folder holds another study, or ``resume`` was not given.
    """
    path = out / "config.json"
    if path.exists():
        stored = json.loads(path.read_text())
        for name, value in record.items():
            if stored.get(name) != value:
                raise SystemExit(
                    f"{out} holds a run with {name}={stored.get(name)}, not {value}: "
                    "choose another --out."
                )
        if not resume:
            raise SystemExit(
                f"{out} holds this very run: give --resume to go on with it, or choose "
                "another --out."
            )
        return
    out.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(record, indent=2))
    os.replace(draft, path)


def write(
    config: Any,
    rows: Sequence[Mapping[str, Any]],
    record: Mapping[str, Any],
    begin: float,
    *,
    references: bool = True,
) -> dict[str, Any]:
    """Write what a study found, ``results.json``, and return it.

    Args:
        config: the study's options.
        rows: of results.
        record: what decides the results.
        begin: when it began, by ``time.perf_counter``.
        references: whether every request must stand beside the reference rows.
    """
    document = hf.report.results_document(
        rows,
        preset=config.preset,
        config=record,
        seconds=time.perf_counter() - begin,
        repository=Path(__file__).parent,
    )
    hf.report.write(config.out / "results.json", document, references=references)
    return document


def summary(
    rows: Sequence[Mapping[str, Any]],
    by: Sequence[str],
    metrics: Mapping[str, Callable[[list[float]], float] | None],
) -> Table:
    """Show the means over the rows of each group, and the worst of these rows.

    Args:
        rows: of results.
        by: what tells groups apart: the method, the scenario, factors.
        metrics: which, and what makes the worst of several; None for none.
    """
    groups: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        about = {**(row["factors"] or {}), **row}
        place = tuple(str(about.get(name, "")) for name in by)
        groups.setdefault(place, []).append(row["metrics"])
    table = Table(
        *by, *(f"{name} (worst)" if w else name for name, w in metrics.items())
    )
    for place, found in groups.items():
        cells = []
        for name, worst in metrics.items():
            means = [one[name]["mean"] for one in found if name in one]
            cell = f"{np.mean(means):.4f}" if means else "–"
            cells.append(f"{cell} ({worst(means):.4f})" if worst and means else cell)
        table.add_row(*place, *cells)
    return table
