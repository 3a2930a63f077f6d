"""What the studies share: train, prepare, forget, retrain the oracles, evaluate.

Every number comes from ``seeds`` separately trained models. Whatever was trained or
forgotten is a checkpoint under the study's folder, so that a run that was stopped goes
on from there.
"""

import dataclasses
import json
import os
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


METHODS = {
    "logit_mask": Method(hf.logit_mask, {}),
    "finetune": Method(
        lambda c, rate, steps: hf.finetune(c, optimizer=optax.adam(rate), steps=steps),
        {"rate": 1e-2, "steps": 100},
    ),
    "ascent": Method(
        lambda c, rate, steps: hf.ascent(c, optimizer=optax.adam(rate), steps=steps),
        {"rate": 1e-3, "steps": 20},
    ),
    "neggrad_plus": Method(
        lambda c, rate, beta, steps: hf.neggrad_plus(
            c, optimizer=optax.adam(rate), beta=beta, steps=steps
        ),
        {"rate": 1e-3, "beta": 0.95, "steps": 50},
    ),
    "ssd": Method(hf.ssd, {"alpha": 1.0, "strength": 0.3}),
    "fiun": Method(hf.fiun, {}),
    "pgu": Method(hf.pgu, {"preset": "repaired"}),
}
BASELINES = ("logit_mask", "finetune", "ascent", "neggrad_plus", "ssd")


@dataclasses.dataclass
class Study:
    """Originals of one recipe, and what became of every request.

    Attributes:
        name: the study, for checkpoints.
        recipe: how classifiers are trained.
        seeds: training seeds; oracles have as many, of their own.
        out: the study's folder.
        rows: result rows so far.
        data: training examples, if they are not the recipe's.
        per_class: test accuracy by method of the last request, ``[seeds, C]``.
        losses: by method of the last request: losses on the forgotten training rows
            that it is judged by, and on test rows, of the same classes if whole ones
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
            jax.random.key(0),
            self.splits.train,
            self.seeds,
            self.out / "originals",
        ).variables

    def forget_classes(
        self,
        classes: tuple[int, ...],
        methods: Mapping[str, Method],
        *,
        longer: bool = True,
    ) -> None:
        """Answers one class request with every method, beside the reference rows."""
        key = jax.random.key(1)
        for label in classes:
            key = jax.random.fold_in(key, label)
        train = self.splits.train
        request = judged = hf.forget_classes(train, classes)
        if self.recipe.judged is not None:
            some = train.take(jnp.arange(self.recipe.judged))
            judged = hf.forget_classes(some, classes)
        self.answer(
            "class",
            "class " + "+".join(map(str, classes)),
            request,
            methods,
            key,
            judged=judged,
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
        judged: hf.ForgetRequest | None = None,
        longer: bool = True,
    ) -> None:
        """Answers one request with every method, beside the reference rows.

        Args:
            scenario: what kind of request it is.
            name: the request's.
            request: what to forget.
            methods: by name.
            key: a typed key.
            states: every method's states after the requests before, which this one
                leaves behind in their place; None to begin with the originals.
            judged: the same request of the rows that answers are judged by; None if
                these are all.
            longer: whether oracles trained twice as long are compared too.
        """
        judged = request if judged is None else judged
        folder = self.out / name.replace(" ", "-")
        self.console.log(f"{name}: retraining {self.seeds} oracles")
        retrain = self.recipe.retrain(self.classifier)
        oracles, seconds, _ = self._unlearned(folder, "retrain", retrain, request, key)
        test = self.splits.test
        measured = hf.evaluation.prepare_retrained(
            self.classifier, oracles, judged, test, key=jax.random.key(3)
        )
        # Relearning aims at each original's own accuracy.
        beside = []
        for seed in range(self.seeds):
            measured = hf.evaluation.prepare_retrained(
                self.classifier,
                measured,
                judged,
                test,
                original=_member(seed, self.originals),
            )
            beside.append(measured)

        def evaluations(variables):
            return [
                hf.evaluate(
                    self.classifier,
                    _member(s, variables),
                    judged,
                    test,
                    retrained=beside[s],
                )
                for s in range(self.seeds)
            ]

        def add(method, found, access, seconds, variables=None, hyper=None, told=None):
            self.rows.append(
                hf.report.results_row(
                    method,
                    [
                        {
                            **one.metrics,
                            **{n: float(v[i]) for n, v in (told or {}).items()},
                        }
                        for i, one in enumerate(found)
                    ],
                    dataset=self.recipe.dataset,
                    model=self.recipe.model,
                    scenario=scenario,
                    request=name,
                    access=access,
                    seconds=seconds,
                    factors=hyper,
                    num_forgotten=int(np.count_nonzero(request.forget.weight)),
                    num_train=int(np.count_nonzero(self.splits.train.weight)),
                )
            )
            if variables is not None:
                self.per_class[method] = np.stack(
                    [one.per_class["test"].accuracy for one in found]
                )
                self.losses[method] = self._losses(variables, judged)

        self.per_class, self.losses = {}, {}
        nothing = {"init": 0.0, "unlearn": 0.0, "compile": 0.0}
        identity = hf.identity(self.classifier).access
        add("original", evaluations(self.originals), identity, nothing, self.originals)
        # Each oracle relearns towards the original of its own place.
        ceiling = [
            hf.evaluation.ceiling(self.classifier, beside[seed], judged, test)[seed]
            for seed in range(self.seeds)
        ]
        own = [
            dataclasses.replace(one, metrics=_without_distances(one.metrics))
            for one in ceiling
        ]
        add("retrain", own, retrain.access, seconds, oracles)
        add("ceiling", ceiling, retrain.access, seconds)
        # Twice the steps must not make other oracles, or the gaps mean nothing.
        references = {}
        if longer:
            references["ablation/longer"] = Method(self.recipe.retrain, {"longer": 2})
        for label, method in {**references, **methods}.items():
            self.console.log(f"{name}: {label}")
            unlearner = method(self.classifier)
            variables, seconds, told = self._unlearned(
                folder, label, unlearner, request, key, states
            )
            shown = None if label.startswith("ablation/") else variables
            found = evaluations(variables)
            add(label, found, unlearner.access, seconds, shown, method.hyper, told)

    def _unlearned(self, folder, method, unlearner, request, key, states=None):
        """Every seed's model after the request, the mean seconds it took, and what
        the method told of it: numbers by name, one a seed."""
        path, kind = folder / method.replace("/", "-"), f"unlearned/{method}"
        begun = None if states is None else states.get(method)
        if path.exists():
            seconds = hf.checkpointing.read_manifest(path).config["seconds"]
            loaded = hf.checkpointing.load(path, kind=kind)
            if states is not None:
                like = begun or self._prepared(method, unlearner, request)[0]
                states[method] = hf.checkpointing.load(
                    path.with_name(path.name + "-state"), like=like
                )
            return loaded["variables"], seconds, loaded["told"]
        prepared, init_seconds, init_compile = self._prepared(
            method, unlearner, request
        )
        begun = prepared if begun is None else begun
        key = jax.random.fold_in(key, zlib.crc32(method.encode()))
        arguments = jax.random.split(key, self.seeds), begun, request
        # Requests of one shape share a compilation.
        compiled, compile_seconds = self._once(
            (method, request.rows.shape),
            lambda: (
                jax.jit(jax.vmap(unlearner.unlearn, (0, 0, None)))
                .lower(*arguments)
                .compile()
            ),
        )
        (after, info), unlearn_seconds = _timed(lambda: compiled(*arguments))
        self._warn_of_failures(method, info)
        if unlearn_seconds < 1:  # The first run of a program warms it up.
            unlearn_seconds = _timed(lambda: compiled(*arguments))[1]
        seconds = {
            "init": init_seconds / self.seeds,
            "unlearn": unlearn_seconds / self.seeds,
            "compile": init_compile + compile_seconds,
        }
        if states is not None:
            states[method] = after
            hf.checkpointing.save(
                path.with_name(path.name + "-state"),
                after,
                kind=f"state/{method}",
                overwrite=True,  # It may be left of a run that died right here.
            )
        told = _told(info)
        hf.checkpointing.save(
            path,
            {"variables": after.variables, "told": told},
            kind=kind,
            model=self.classifier.description,
            dataset=self.recipe.dataset,
            split="train",
            config={"seconds": seconds, "study": self.name, "method": method},
        )
        return after.variables, seconds, told

    def _warn_of_failures(self, method, info):
        """An oracle that diverged is none; a method that did says so."""
        failed_at = np.asarray(getattr(info, "failed_at", -1))
        if (failed_at >= 0).any():
            said = f"{method}: the loss is not finite at steps {failed_at.tolist()}"
            if "retrain" in method or "longer" in method:
                raise SystemExit(f"{said}: there are no oracles to compare with.")
            self.console.log(f"[bold]{said}[/bold]: its last finite models are judged")

    def _prepared(self, method, unlearner, request):
        """Every seed's state, made once for all requests, and what that took."""

        def prepare():
            key = jax.random.fold_in(jax.random.key(2), zlib.crc32(method.encode()))
            arguments = (
                jax.random.split(key, self.seeds),
                self.originals,
                request.data,
            )
            init = jax.jit(jax.vmap(unlearner.init, (0, 0, None)))
            compiled, compile_seconds = _timed(lambda: init.lower(*arguments).compile())
            states, seconds = _timed(lambda: compiled(*arguments))
            return states, seconds, compile_seconds

        return self._once(method, prepare)[0]

    def _once(self, name, make):
        """What ``make`` gives and the seconds it took, from the first call on."""
        if name not in self._made:
            self._made[name] = _timed(make)
        return self._made[name]

    def _losses(self, variables, request) -> dict[str, np.ndarray]:
        def of(examples):
            there = np.flatnonzero(np.asarray(examples.weight))
            x, y = examples.x[there], examples.y[there]
            logits = hf.models.population_logits(self.classifier, variables, x)
            return np.asarray(
                jax.vmap(hf.losses.cross_entropy, (0, None))(logits, y)
            ).ravel()

        # No test row is one of those that a request for rows names.
        unseen = self.splits.test
        if np.any(request.classes):
            unseen = request.split(unseen)[0]
        return {"forget": of(request.forget), "test": of(unseen)}


def _told(info: Any) -> dict[str, np.ndarray]:
    """What a method's info says that a table can show, by name, one number a seed."""
    told = {}
    for name in ("dampened", "norm_ratio", "refused", "rounds"):
        if hasattr(info, name):
            told[name] = np.asarray(getattr(info, name), np.float32)
    for name in ("relative_drift", "clipped"):
        if hasattr(info, name):  # By layer: the layer that it is worst in.
            told[f"{name}_max"] = np.max([*getattr(info, name).values()], axis=0)
    # What is not finite is no figure; that a method failed is said elsewhere.
    return {name: each for name, each in told.items() if np.isfinite(each).all()}


def _member(index: int, stacked):
    return jax.tree.map(lambda leaf: leaf[index], stacked)


def _without_distances(metrics):
    """What is left of an oracle's metrics when it is not compared with others."""
    return {
        name: value
        for name, value in metrics.items()
        if "_to_oracle" not in name and name != "tow"
    }


def _timed(function):
    begun = time.perf_counter()
    result = jax.block_until_ready(function())
    return result, time.perf_counter() - begun


def record_of(
    config: Any, recipe: Recipe, own: Mapping[str, Mapping[str, Any]] | None = None
) -> dict[str, Any]:
    """What decides a study's results: options, recipe and hyper-parameters.

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
            "oracles with each other."
        )
    try:
        recipe.load()
    except FileNotFoundError as error:
        raise SystemExit(str(error)) from error
    options = dataclasses.asdict(config)
    for place in ("out", "resume"):
        options.pop(place, None)
    known = {name: method.hyper for name, method in METHODS.items()} | dict(own or {})
    unknown = sorted(set(config.methods) - set(known))
    if unknown:
        raise SystemExit(f"--methods {unknown} unknown; there are {list(known)}.")
    hyper = {name: known[name] for name in config.methods}
    record = options | {"recipe": recipe.record(), "hyper": hyper}
    return json.loads(json.dumps(record))


def open_folder(out: Path, config: Mapping[str, Any], resume: bool) -> None:
    """Makes the study's folder, or checks that it is the one to go on with.

    Raises:
        SystemExit: the folder holds another study, or ``resume`` was not given.
    """
    path = out / "config.json"
    text = json.dumps(config, indent=2)
    if path.exists():
        stored = json.loads(path.read_text())
        for name, value in config.items():
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
    draft.write_text(text)
    os.replace(draft, path)


__all__ = [
    "BASELINES",
    "METHODS",
    "Method",
    "Study",
    "open_folder",
    "record_of",
]
