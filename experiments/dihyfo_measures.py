"""What the study of hypernetworks measures: samples, prompts and distances."""

import functools
import time
from typing import Any, NamedTuple

import dihyfo_world as worlds
import jax
import jax.numpy as jnp
import numpy as np

import hyperforget_jax as hf
from hyperforget_jax import hypernet

CLASSES = np.eye(10, dtype=bool)
PROMPTS = 20
DOSES = (1.0, 1.25, 1.5, 2.0)


def member(index: int, stacked: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf[index], stacked)


def params_of(study) -> Any:
    return study.originals["params"]


def maker(network: hypernet.Hypernetwork, sampler: hypernet.Sampler, count: int):
    """``(key, params, classes) -> params [count, ...]``, jitted.

    Networks of one kind share a compilation: what they learnt is an argument.
    """
    kind = network._replace(learnt=None)
    return functools.partial(_make, kind, sampler, count, network.learnt)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _make(network, sampler, count, learnt, key, params, classes):
    nobody = jnp.zeros(network.num_classes, bool)
    return jax.vmap(
        lambda key: hypernet.forget_set(
            key, network, learnt, params, classes, nobody, None, sampler
        )
    )(jax.random.split(key, count))


def timed(make, study) -> dict[str, float]:
    """Mean seconds a sample, and those of the compilation."""
    arguments = (
        jax.random.key(30),
        member(0, study.originals["params"]),
        jnp.asarray(CLASSES[0]),
    )
    begun = time.perf_counter()
    made = jax.block_until_ready(make(*arguments))
    compiled = time.perf_counter() - begun
    begun = time.perf_counter()
    jax.block_until_ready(make(*arguments))
    count = jax.tree.leaves(made)[0].shape[0]
    seconds = (time.perf_counter() - begun) / count
    return {"init": 0.0, "unlearn": seconds, "compile": compiled}


def judge(study, params, label, test, probe) -> dict[str, float]:
    """Raw samples of one model and class, and the best of them by the probe."""
    variables = {"params": params}
    on_test = hypernet.score_all(study.classifier, variables, test)
    on_probe = hypernet.score_all(study.classifier, variables, probe)
    kept = ~CLASSES[label]
    forget, retain = on_test.accuracy[:, label], on_test.accuracy[:, kept].mean(1)
    best = on_probe.loss[:, kept].mean(1).argmin()
    spread = worlds.flat(params).std(0)
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
        "parameter_spread": np.sqrt(np.mean(np.square(spread))),
    }


def novelty(params, ends, apart, units=None) -> dict[str, float]:
    """How far samples are from the nearest model of the zoo, beside how far the models
    of the zoo are from each other. Far below one: copies.

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
        count = jax.tree.leaves(params)[0].shape[0]
        orders = [
            hypernet.match(tokenizer, member(row, params), reference)
            for row in range(count)
        ]
        stacked = tuple(map(np.stack, zip(*orders, strict=True)))
        params = hypernet.permute_all(tokenizer, params, stacked)
    samples = worlds.flat(params)
    nearest = np.array(
        [np.sqrt(np.square(ends - own[None]).sum(1).min()) for own in samples]
    )
    return {
        "nearest_distance": nearest.mean(),
        "nearest_distance_ratio": nearest.mean() / apart,
    }


def nearest_other(ends: np.ndarray) -> float:
    """Mean distance of a model of the zoo to the nearest other, over at most 200."""
    chosen = np.linspace(0, len(ends) - 1, min(len(ends), 200)).astype(int)
    found = []
    for row in chosen:
        squares = np.square(ends - ends[row][None]).sum(1)
        squares[row] = np.inf
        found.append(np.sqrt(squares.min()))
    return float(np.mean(found))


class Dosed(NamedTuple):
    """What S models know that forgot each class at each of D doses.

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
        """The least dose that leaves nothing on the probe, else the largest, [C, S]."""
        enough = self.left == 0
        return np.where(enough.any(0), enough.argmax(0), len(DOSES) - 1)

    def metrics(self, dose: np.ndarray) -> list[dict[str, float]]:
        """Of every model, over classes; with which dose, ``[C, S]``."""
        forget, retain = (
            np.take_along_axis(values, dose[None], 0)[0]
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


def dosed(study, network: hypernet.Hypernetwork, key, variables) -> Dosed:
    """Every class forgotten by every model, at every dose."""
    kind, found = network._replace(learnt=None), []
    for dose in DOSES:
        for label in range(10):
            made, ratio = _dose(
                study.classifier,
                kind,
                network.learnt,
                key,
                variables,
                study.splits.train,
                jnp.asarray(CLASSES[label]),
                dose,
            )
            test, probe = (
                hypernet.score_all(study.classifier, made, split).accuracy
                for split in (study.splits.test, study.splits.probe)
            )
            rest = test[:, ~CLASSES[label]].mean(1)
            found.append((test[:, label], probe[:, label], rest, ratio))
    shape = (len(DOSES), 10, -1)
    forget, left, retain, ratios = (
        np.reshape(column, shape) for column in zip(*found, strict=True)
    )
    own = hypernet.score_all(study.classifier, variables, study.splits.test).accuracy
    before = np.stack([own[:, ~gone].mean(1) for gone in CLASSES])
    return Dosed(forget, left, retain, before, ratios[0, 0])


@functools.partial(jax.jit, static_argnums=(0, 1))
def _dose(classifier, network, learnt, key, variables, train, classes, dose):
    unlearner = hf.dihyfo(classifier, network._replace(learnt=learnt), dose=dose)
    request = hf.forget_labels([0], num_classes=10)._replace(classes=classes)

    def one(key, own):
        state, info = unlearner.unlearn(key, unlearner.init(key, own, train), request)
        return state.variables, info.norm_ratio

    members = jax.tree.leaves(variables)[0].shape[0]
    return jax.vmap(one)(jax.random.split(key, members), variables)


def sweeper(study, network, sampler: hypernet.Sampler):
    """``(key, params, first loss, label) -> (asked, came)``: forget losses from a
    model's own to the largest of the zoo, the others by profile."""
    kind = network._replace(learnt=None)
    return functools.partial(
        _sweep, study.classifier, kind, sampler, study.splits.probe, network.learnt
    )


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _sweep(classifier, network, sampler, probe, learnt, key, params, begin, label):
    classes = jnp.arange(network.num_classes) == label
    profile = hypernet.profile(learnt.profiles, classes)
    asked = jnp.linspace(begin, learnt.profiles.largest[label], PROMPTS)
    wanted = jnp.where(classes, asked[:, None], profile)
    losses = _losses(
        classifier, network, sampler, probe, learnt, key, params, wanted, classes
    )
    return asked, losses[:, label]


def follower(study, network, sampler: hypernet.Sampler):
    """``(key, params, losses [K, C], classes) -> achieved losses [K, C]``."""
    kind = network._replace(learnt=None)
    return functools.partial(
        _losses, study.classifier, kind, sampler, study.splits.probe, network.learnt
    )


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _losses(classifier, network, sampler, probe, learnt, key, params, wanted, classes):
    def one(key, wanted):
        return hypernet.sample_params(
            key, network, learnt, params, wanted, classes, sampler
        )

    made = jax.vmap(one)(jax.random.split(key, wanted.shape[0]), wanted)
    return hypernet.population_scores(classifier, {"params": made}, probe).loss


def alignment(asked, came) -> float:
    asked, came = np.asarray(asked), np.asarray(came)
    total = np.square(asked - asked.mean()).sum() + 1e-8
    return float(1 - np.square(asked - came).sum() / total)
