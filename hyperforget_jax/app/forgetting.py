"""What the page shows: models that forget, beside the original and retrained ones."""

import functools
import threading
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import hyperforget_jax as hf
from hyperforget_jax.app import programs, rows
from hyperforget_jax.app.asking import Ask, Method
from hyperforget_jax.base import Array, Variables
from hyperforget_jax.data.normalisation import normalisation_of, normalise

__all__ = ["METHODS", "Forgetting"]

METHODS: dict[Method, str] = {
    "dihyfo": "DiHyFo",
    "fiun": "FIUn",
    "pgu": "PGU",
    "logit_mask": "Mask",
}
"""Names on the page, by the library's."""

_KEPT = 64  # Questions whose models are remembered.


class _Judged(NamedTuple):
    """Models of S seeds, and what was measured of them."""

    variables: Variables  # [S, ...]
    accuracy: list[float]  # On test rows of every class, [C], means over S.
    row: dict[str, Any]  # Of results, as verdicts take it.


class _Beside(NamedTuple):
    """What stands beside models that forget, and the distances from it."""

    original: _Judged
    retrained: _Judged | None
    references: hf.metrics.Logits | None


class Forgetting:
    """Pretrained models, every method prepared and compiled.

    Of large data methods are given a sample of the training rows, and models are scored
    on another, drawn apart from that, and on one of the test rows; retrained models are
    trained on all. Rows of all requests are padded to one length, so that nothing is
    compiled once this is made. One question at a time is answered, from whatever thread
    it comes; beside that, models are retrained.
    """

    def __init__(self, made: hf.pretrained.Pretrained):
        """Prepare every method, and let it answer once.

        Args:
            made: the models.
        """
        self.made, self.splits = made, hf.data.load(made.dataset)
        self._rows = rows.choose(made, self.splits)
        self._constants = normalisation_of(made.dataset)
        self._lock, self._retraining = threading.Lock(), threading.Lock()
        self._keys = jax.random.split(jax.random.key(0), self.seeds)
        self._unlearners = programs.unlearners(made)
        self._prepared = {
            name: programs.prepare(
                each,
                self._keys,
                made.originals,
                self._rows.train if name == "retrain" else self._rows.given,
            )
            for name, each in self._unlearners.items()
        }
        self._retrained: dict[tuple[int, ...], Variables] = {
            (label,): hf.trees.take(made.retrained, label)
            for label in range(self.num_classes)
        }
        self._forget = functools.lru_cache(_KEPT)(self._forget_uncached)
        self._compare = functools.lru_cache(_KEPT)(self._compare_uncached)
        for ask in (
            Ask((), "pgu", 0),
            *(Ask(each, name, 0) for name in METHODS for each in ((0,), (0, 1))),
            Ask((0, 1), "pgu", 0, retrain=True),
        ):
            self.answer(ask)

    @property
    def sampled(self) -> dict[str, int] | None:
        """Return how many rows are given and scored; None if nothing is sampled."""
        if self._rows.train.y.shape[0] <= rows.SCORED:
            return None
        return {"given": rows.GIVEN, "scored": rows.SCORED}

    @property
    def seeds(self) -> int:
        """Return how many models of a kind there are."""
        return self.made.manifest["config"]["seeds"]

    @property
    def num_classes(self) -> int:
        """Return C."""
        return self.made.hypernetwork.num_classes

    @property
    def largest_pixel(self) -> int:
        """Return the value of a pixel that is all ink."""
        return int(self._constants.largest)

    @property
    def largest_loss(self) -> float:
        """Return the largest loss that the hypernetwork learnt, nats, rounded up."""
        largest = self.made.hypernet_params.profiles.largest
        return float(np.ceil(np.max(np.asarray(largest))))

    def pixels(self, chosen: np.ndarray) -> np.ndarray:
        """Return test images as they were before they were normalised, ``[K, P]``."""
        largest, mean, std = self._constants
        x = np.asarray(self.splits.test.x)[chosen]
        pixels = np.rint((x * std + mean) * largest)
        return pixels.astype(int).reshape(len(chosen), -1)

    def answer(self, ask: Ask) -> dict[str, Any]:
        """Answer a question.

        Args:
            ask: checked.

        Returns:
            As JSON holds it. ``prediction`` (mean probabilities of the image's
            classes), ``accuracy`` (of every class) and ``verdict`` are each by
            ``original``, ``after`` and ``retrained``, the last being None where nothing
            was retrained without these classes yet. Where no class is to be forgotten,
            verdicts are None.
            ``loss`` has means over the forgotten classes, nats: what DiHyFo is asked
            for, and what test rows have afterwards.
        """
        if ask.retrain and ask.classes:
            self._retrain(ask.classes)
        with self._lock:
            begin = time.perf_counter()
            beside = self._compare(ask.classes)
            loss = ask.loss if ask.method == "dihyfo" else None
            models = {
                "original": beside.original,
                "after": self._forget(ask.classes, ask.method, loss),
                "retrained": beside.retrained,
            }
            x = self._input(ask.image)
            found: dict[str, Any] = {
                "prediction": _each(models, lambda one: self._predict(one, x)),
                "accuracy": _each(models, lambda one: one.accuracy),
                "verdict": None,
                "loss": None,
            }
            if ask.classes:
                found["verdict"] = self._verdicts(models)
                asked = self._asked(ask.classes, loss)[list(ask.classes)]
                metrics = models["after"].row["metrics"]
                found["loss"] = {
                    "asked": float(asked.mean()),
                    "achieved": metrics["forget_loss_test"]["mean"],
                }
            found["milliseconds"] = 1e3 * (time.perf_counter() - begin)
        return found

    def _forget_uncached(
        self, classes: tuple[int, ...], method: str, loss: float | None
    ) -> _Judged:
        beside = self._compare(classes)
        if not classes:
            return beside.original
        request = rows.request(self._rows.given, classes, self.num_classes)
        if method == "dihyfo":
            states, axes = self._prepared[method]
            after = programs.sample(
                self.made.classifier,
                self.made.hypernetwork,
                axes,
                self._asked(classes, loss),
                self._keys,
                states,
                request,
            )
        else:
            after = self._unlearn(method, request)
        return self._judge(method, after, classes, beside.references)

    def _compare_uncached(self, classes: tuple[int, ...]) -> _Beside:
        retrained = references = None
        if classes in self._retrained:
            models = self._retrained[classes]
            references, scores = programs.score_retrained(
                self.made.classifier, models, *self._scored(classes)
            )
            retrained = self._judged("ceiling", models, scores)
        original = self._judge("original", self.made.originals, classes, references)
        return _Beside(original, retrained, references)

    def _retrain(self, classes: tuple[int, ...]) -> None:
        """Retrain without some classes, and drop what was said while that lacked."""
        with self._retraining:
            if classes in self._retrained:
                return
            after = self._unlearn(
                "retrain", rows.request(self._rows.train, classes, self.num_classes)
            )
            jax.block_until_ready(after)  # Not while others wait for the lock below.
            with self._lock:
                if len(self._retrained) >= self.num_classes + _KEPT:
                    several = next(each for each in self._retrained if len(each) > 1)
                    del self._retrained[several]
                self._retrained[classes] = after
                self._forget.cache_clear()
                self._compare.cache_clear()

    def _unlearn(self, method: str, request: hf.ForgetRequest) -> Variables:
        states, axes = self._prepared[method]
        unlearner = self._unlearners[method]
        # One key for all: then PGU's minibatches are the same, and gathered once.
        keys = self._keys[0] if method == "pgu" else self._keys
        return programs.unlearn(unlearner, axes, keys, states, request)

    def _scored(self, classes) -> tuple[hf.ForgetRequest, hf.Examples]:
        """Return what models are scored on: training rows in halves, and test rows."""
        request = rows.request(self._rows.scored, classes, self.num_classes)
        return request, self._rows.test

    def _judge(self, name, variables, classes, references) -> _Judged:
        scores = programs.score(
            self.made.classifier, variables, *self._scored(classes), references
        )
        return self._judged(name, variables, scores)

    def _judged(self, name: str, variables, scores: hf.metrics.Scores) -> _Judged:
        scores = jax.device_get(scores)
        named = {
            "forget_accuracy_test": scores.forget_test.accuracy,
            "forget_accuracy_train": scores.forget_train.accuracy,
            "forget_loss_test": scores.forget_test.loss,
            "retain_accuracy_test": scores.retain_test.accuracy,
            "mia_auc": scores.auc,
        }
        if scores.forget_train.js is not None:
            named["js_to_oracle"] = scores.forget_train.js
        row = hf.report.results_row(
            name,
            [
                {n: float(v[seed]) for n, v in named.items()}
                for seed in range(self.seeds)
            ],
            dataset=self.made.dataset,
            model=self.made.classifier.description,
            scenario="class",
            request="class",
            access=None,
            seconds=None,
        )
        return _Judged(variables, scores.test_classes.accuracy.mean(0).tolist(), row)

    def _verdicts(self, models) -> dict[str, Any]:
        references = {"original": models["original"].row}
        if models["retrained"] is not None:
            row = models["retrained"].row
            references |= {"retrain": row, "ceiling": row}
        return _each(
            models, lambda one: hf.report.verdict(one.row, references)._asdict()
        )

    def _asked(self, classes: tuple[int, ...], loss: float | None) -> np.ndarray:
        """Return the loss to ask for on every class, ``[C]``."""
        mask = np.isin(np.arange(self.num_classes), classes)
        profiles = self.made.hypernet_params.profiles
        usual = np.asarray(hf.hypernet.profile(profiles, jnp.asarray(mask)))
        return usual if loss is None else np.where(mask, np.float32(loss), usual)

    def _input(self, image: int | tuple[int, ...]) -> Array:
        if isinstance(image, int):
            return self.splits.test.x[image][None]
        shape = (1, *self.made.hypernetwork.input_shape)
        return normalise(np.array(image, np.uint8).reshape(shape), self._constants)

    def _predict(self, models: _Judged, x: Array) -> list[float]:
        logits = hf.models.population_logits(self.made.classifier, models.variables, x)
        return np.asarray(jax.nn.softmax(logits)).mean((0, 1)).tolist()


def _each(models, make) -> dict[str, Any]:
    return {name: None if one is None else make(one) for name, one in models.items()}
