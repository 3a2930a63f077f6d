"""Metrics of the study of hypernetworks: samples, prompts, scales and distances.

Networks and samplers are static, parameters are arguments: networks of one kind share
their compilations.
"""

import functools
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from dihyfo_artifacts import Trained, flat
from scipy.spatial.distance import cdist

import hyperforget_jax as hf
from hyperforget_jax import hypernet

CLASSES = np.eye(10, dtype=bool)
PROMPTS = 20
SCALES = (1.0, 1.25, 1.5, 2.0)


@functools.partial(jax.jit, static_argnums=(0, 2, 3))
def sample(network, params, sampler, count, key, source, classes):
    """Sample params that have forgotten some classes, ``[count, ...]``."""
    none_yet = jnp.zeros(network.num_classes, bool)
    return jax.vmap(
        lambda key: hypernet.forget_set(
            key, network, params, source, classes, none_yet, None, sampler
        )
    )(jax.random.split(key, count))


def unlearn(study, trained: Trained, hyper, count, key, source, classes):
    """Sample as ``hf.dihyfo`` with more settings does, ``[count, ...]``."""
    return _unlearned(
        study.classifier,
        trained.network,
        count,
        tuple(hyper.items()),
        trained.params,
        key,
        {"params": source},
        study.splits.train,
        classes,
    )


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _unlearned(
    classifier, network, count, hyper, params, key, variables, train, classes
):
    unlearner = hf.dihyfo(classifier, network, params, **dict(hyper))
    state = unlearner.init(key, variables, train)
    request = hf.forget_labels([0], num_classes=10)._replace(classes=classes)
    return jax.vmap(
        lambda key: unlearner.unlearn(key, state, request)[0].variables["params"]
    )(jax.random.split(key, count))


def timed(trained: Trained, sampler, count: int, source) -> dict[str, float]:
    """Measure the mean seconds a sample, and those of the compilation."""
    arguments = (*trained, sampler, count, jax.random.key(30), source, CLASSES[0])
    seconds = []
    for _ in range(2):
        before = time.perf_counter()
        jax.block_until_ready(sample(*arguments))
        seconds.append(time.perf_counter() - before)
    first, second = seconds
    return {"init": 0.0, "unlearn": second / count, "compile": first}


def sample_metrics(study, params, label: int) -> dict[str, Any]:
    """Score raw samples of one model and class, and the best of them by the probe."""
    on_test, on_probe = (
        hypernet.score_all(study.classifier, {"params": params}, split)
        for split in (study.splits.test, study.splits.probe)
    )
    kept = ~CLASSES[label]
    forget, retain = on_test.accuracy[:, label], on_test.accuracy[:, kept].mean(1)
    best = on_probe.loss[:, kept].mean(1).argmin()
    return {
        "forget_accuracy_test": forget.mean(),
        "retain_accuracy_test": retain.mean(),
        "forget_accuracy_worst_sample": forget.max(),
        "retain_accuracy_worst_sample": retain.min(),
        "retain_accuracy_spread": retain.std(ddof=1),
        "share_below_1_percent": (forget <= 0.01).mean(),
        "share_below_2_percent": (forget <= 0.02).mean(),
        "best_forget_accuracy_test": forget[best],
        "best_retain_accuracy_test": retain[best],
        "forget_loss_test": on_test.loss[:, label].mean(),
        "parameter_spread": np.sqrt(np.mean(np.square(flat(params).std(0)))),
    }


def novelty(params, ends, apart, units=None) -> dict[str, float]:
    """Compare the distance from samples to the zoo with the distances within it.

    Far below one: copies.

    Args:
        params: samples, ``[S, ...]``.
        ends: the models of the zoo, flat, ``[P, D]``.
        apart: as by :func:`nearest_other`.
        units: a tokenizer and a model in whose order the zoo's hidden units are: those
            of the samples are brought into it first, for a copy in another order is a
            copy. None if their order is given.
    """
    if units is not None:
        tokenizer, reference = units
        params, _ = hypernet.match(tokenizer, params, reference)
    nearest = cdist(flat(params), ends).min(1).mean()
    return {"nearest_distance": nearest, "nearest_distance_ratio": nearest / apart}


def nearest_other(ends: np.ndarray) -> float:
    """Average the distance of a model of the zoo to the nearest other, over 200."""
    rows = np.linspace(0, len(ends) - 1, min(len(ends), 200)).astype(int)
    distances = cdist(ends[rows], ends)
    distances[np.arange(len(rows)), rows] = np.inf
    return distances.min(1).mean()


class Scaled(NamedTuple):
    """Accuracies of S models that forgot each class at each of D scales.

    Attributes:
        forget: test accuracy on the class, ``[D, C, S]``.
        left: accuracy on the class on the probe, likewise.
        retain: test accuracy on the other classes, likewise.
        before: on these, before, ``[C, S]``.
        norm_ratio: how unlike the zoo's starts the models were, ``[S]``.
    """

    forget: np.ndarray
    left: np.ndarray
    retain: np.ndarray
    before: np.ndarray
    norm_ratio: np.ndarray

    def by_probe(self) -> np.ndarray:
        """Choose the least scale that leaves nothing on the probe, else the largest."""
        enough = self.left == 0
        return np.where(enough.any(0), enough.argmax(0), len(SCALES) - 1)

    def metrics(self, chosen: np.ndarray) -> list[dict[str, float]]:
        """Average over classes, for every model; ``chosen`` numbers scales, [C, S]."""
        forget, retain = (
            np.take_along_axis(values, chosen[None], 0)[0]
            for values in (self.forget, self.retain)
        )
        return [
            {
                "forget_accuracy_test": forget[:, seed].mean(),
                "forget_accuracy_worst_class": forget[:, seed].max(),
                "retain_accuracy_test": retain[:, seed].mean(),
                "retain_accuracy_before": self.before[:, seed].mean(),
                "norm_ratio": self.norm_ratio[seed],
            }
            for seed in range(len(self.norm_ratio))
        ]


def scaled(study, trained: Trained, key, variables) -> Scaled:
    """Forget every class in every model, at every scale."""
    found = []
    for scale in SCALES:
        for label, classes in enumerate(CLASSES):
            unlearned, info = _unlearn_all(
                study.classifier,
                trained.network,
                trained.params,
                key,
                variables,
                study.splits.train,
                classes,
                scale,
            )
            test, probe = (
                hypernet.score_all(study.classifier, unlearned, split).accuracy
                for split in (study.splits.test, study.splits.probe)
            )
            rest = test[:, ~classes].mean(1)
            found.append((test[:, label], probe[:, label], rest, info.norm_ratio))
    forget, left, retain, ratios = (
        np.reshape(column, (len(SCALES), 10, -1)) for column in zip(*found, strict=True)
    )
    own = hypernet.score_all(study.classifier, variables, study.splits.test).accuracy
    before = np.stack([own[:, ~classes].mean(1) for classes in CLASSES])
    return Scaled(forget, left, retain, before, ratios[0, 0])


@functools.partial(jax.jit, static_argnums=(0, 1))
def _unlearn_all(
    classifier, network, params, key, variables, train, classes, scale=1.0, probe=None
):
    unlearner = hf.dihyfo(classifier, network, params, scale=scale, probe=probe)
    request = hf.forget_labels([0], num_classes=10)._replace(classes=classes)

    def unlearn(key, own):
        state, info = unlearner.unlearn(key, unlearner.init(key, own, train), request)
        return state.variables, info

    members = jax.tree.leaves(variables)[0].shape[0]
    return jax.vmap(unlearn)(jax.random.split(key, members), variables)


def by_the_method(study, trained: Trained, key, variables) -> list[dict[str, float]]:
    """Forget every class in every model as ``hf.dihyfo`` does with a probe: averages.

    Accuracies are of classes that were answered for: a refused request leaves the model
    as it was, and says so. A model that refused all of them is counted as it stayed.
    """
    found = []
    for label, classes in enumerate(CLASSES):
        unlearned, info = _unlearn_all(
            study.classifier,
            trained.network,
            trained.params,
            key,
            variables,
            study.splits.train,
            classes,
            probe=study.splits.probe,
        )
        test = hypernet.score_all(study.classifier, unlearned, study.splits.test)
        rest = test.accuracy[:, ~classes].mean(1)
        found.append((test.accuracy[:, label], rest, info.refused, info.scale))
    forget, retain, refused, scale = (
        np.stack([np.asarray(each) for each in column])
        for column in zip(*found, strict=True)
    )
    first = hypernet.score_all(study.classifier, variables, study.splits.test).accuracy
    before = np.mean([first[:, ~classes].mean(1) for classes in CLASSES], axis=0)
    answered = ~refused | refused.all(axis=0)
    return [
        {
            "forget_accuracy_test": forget[own, seed].mean(),
            "forget_accuracy_worst_class": forget[own, seed].max(),
            "retain_accuracy_test": retain[own, seed].mean(),
            "retain_accuracy_before": before[seed],
            "refused": refused[:, seed].mean(),
            "scale": scale[own, seed].mean(),
        }
        for seed, own in enumerate(answered.T)
    ]


def sweep(study, trained: Trained, sampler, key, source, lowest, label: int):
    """Ask for losses on a class from ``lowest`` to the largest of the zoo.

    The other classes are asked for by profile. Returns what was asked for and what was
    achieved, ``[PROMPTS]``.
    """
    profiles, classes = trained.params.profiles, CLASSES[label]
    profile = hypernet.profile(profiles, classes)
    asked = jnp.linspace(lowest, profiles.largest[label], PROMPTS)
    wanted = jnp.where(classes[None], asked[:, None], profile[None])
    return asked, follow(study, trained, sampler, key, source, wanted, classes)[
        :, label
    ]


def follow(study, trained: Trained, sampler, key, source, wanted, classes):
    """Ask for losses ``[K, C]``; return those achieved on the probe, ``[K, C]``."""
    return _achieved(
        study.classifier,
        trained.network,
        sampler,
        trained.params,
        study.splits.probe,
        key,
        source,
        wanted,
        classes,
    )


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _achieved(
    classifier, network, sampler, params, probe, key, source, wanted, classes
):
    sampled = jax.vmap(
        lambda key, wanted: hypernet.sample_params(
            key, network, params, source, wanted, classes, sampler
        )
    )(jax.random.split(key, wanted.shape[0]), wanted)
    return hypernet.population_scores(classifier, {"params": sampled}, probe).loss


def alignment(asked, achieved) -> float:
    """Compute G.pt's prompt alignment: R² of what was achieved, given what was asked.

    Section 2.6 of arXiv 2209.12892.
    """
    asked, achieved = np.asarray(asked), np.asarray(achieved)
    total = np.square(asked - asked.mean()).sum() + 1e-8
    return float(1 - np.square(asked - achieved).sum() / total)
