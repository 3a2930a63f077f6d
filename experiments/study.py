"""What the studies share: train, prepare, forget, retrain, evaluate, record.

Every number comes from ``seeds`` separately trained models. Whatever was trained or
forgotten is a checkpoint under the study's folder, so that a run that was stopped goes
on from there.
"""

import dataclasses
import json
import time
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from recipes import Recipe
from rich.console import Console

import hyperforget_jax as hf
import runs
from hyperforget_jax import trees

NOT_TIMED = {"init": 0.0, "unlearn": 0.0, "compile": 0.0}


class Method(NamedTuple):
    """A method with its hyper-parameters, which go into the record.

    Attributes:
        make: ``(classifier, **hyper) -> Unlearner``.
        hyper: chosen by ``tune.py``: the library's defaults, but for ``ssd``.
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
    "pgu": Method(lambda c, preset: hf.pgu(c), {"preset": "repaired"}),
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
        models: every method's models after the last request, ``[seeds, ...]``.
        found: their evaluations, one a seed.
    """

    name: str
    recipe: Recipe
    seeds: int
    out: Path
    console: Console = dataclasses.field(default_factory=Console)
    data: hf.Examples | None = None
    rows: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    models: dict[str, Any] = dataclasses.field(default_factory=dict)
    found: dict[str, list[hf.evaluation.Evaluation]] = dataclasses.field(
        default_factory=dict
    )

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
        folder, seeds = self.out / name.replace(" ", "-"), range(self.seeds)
        self.models, self.found = {}, {}

        def add(method, found, access, seconds=NOT_TIMED, factors=None, info=None):
            metrics = [
                one.metrics | {n: float(v[seed]) for n, v in (info or {}).items()}
                for seed, one in enumerate(found)
            ]
            self.found[method] = found
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

        self.console.log(f"{name}: retraining {self.seeds} models")
        retrained = self.retrain(folder, request, key)
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
            for seed in seeds
        ]

        def evaluate(method, variables):
            self.models[method] = variables
            return [
                hf.evaluate(
                    classifier,
                    trees.take(variables, seed),
                    evaluated,
                    test,
                    retrained=beside[seed],
                )
                for seed in seeds
            ]

        found = evaluate("original", self.originals)
        add("original", found, hf.identity(classifier).access)
        # Each retrained model relearns towards the original of its own place.
        ceiling = [
            hf.evaluation.ceiling(classifier, beside[seed], evaluated, test)[seed]
            for seed in seeds
        ]
        own = [
            dataclasses.replace(one, metrics=_without_distances(one.metrics))
            for one in ceiling
        ]
        self.models["retrain"] = retrained.variables
        access = self.recipe.retrain(classifier).access
        add("retrain", own, access, retrained.seconds)
        add("ceiling", ceiling, access, retrained.seconds)
        # Twice the steps must not make other models, or the gaps mean nothing.
        if longer:
            twice = Method(self.recipe.retrain, {"longer": 2})
            methods = {"ablation/longer": twice, **methods}
        for label, method in methods.items():
            self.console.log(f"{name}: {label}")
            unlearner = method(classifier)
            made = self._answer(folder, label, unlearner, request, key, states)
            found = evaluate(label, made.variables)
            add(label, found, unlearner.access, made.seconds, method.hyper, made.info)

    def retrain(self, folder, request, key) -> Answer:
        """Retrain a model of every seed."""
        unlearner = self.recipe.retrain(self.classifier)
        return self._answer(folder, "retrain", unlearner, request, key)

    def _answer(self, folder, method, unlearner, request, key, states=None) -> Answer:
        """Answer for every seed, or load what was answered before."""
        path, kind = folder / method.replace("/", "-"), f"unlearned/{method}"
        state_path = path.with_name(path.name + "-state")
        initial = None if states is None else states.get(method)
        if path.exists():
            seconds = hf.checkpointing.read_manifest(path).config["seconds"]
            loaded = hf.checkpointing.load(path, kind=kind)
            if states is not None:
                like = jax.eval_shape(
                    jax.vmap(unlearner.init, (0, 0, None)),
                    jax.random.split(key, self.seeds),
                    self.originals,
                    request.data,
                )
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
        runs.refuse(
            f"--seeds must be at least 2, got {config.seeds}: the ceiling compares "
            "retrained models with each other."
        )
    try:
        recipe.load()
    except FileNotFoundError as error:
        runs.refuse(str(error))
    options = dataclasses.asdict(config)
    for place in ("out", "resume"):
        options.pop(place, None)
    there = {name: method.hyper for name, method in METHODS.items()} | dict(own or {})
    runs.check_known("--methods", config.methods, there)
    hyper = {name: there[name] for name in config.methods}
    record = options | {"recipe": recipe.record(), "hyper": hyper}
    return json.loads(json.dumps(record))
