"""What one job runs through: files of the package, and how deep its calls go.

    python -m tests.trace

A file is touched if a function of it runs; importing it does not count. The depth is
the largest number of the package's frames at a time, JAX's between them left out.
"""

import pathlib
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax

import hyperforget_jax as hf
from hyperforget_jax import inheritance, trees
from tests import toys

# Frames of their own in some versions of Python, and in others none.
COMPREHENSIONS = {"<listcomp>", "<dictcomp>", "<setcomp>", "<genexpr>"}
PACKAGE = str(pathlib.Path(hf.__file__).parent)


class Trace(NamedTuple):
    """The files that a job touched, and its deepest stack, outermost first."""

    files: list[str]
    deepest: list[str]


def trace(job: Callable[[], Any]) -> Trace:
    """Run a job for the first time, as far as JAX's caches go, and watch its calls."""
    files, stack, deepest = set(), [], []

    def watch(frame, event, _):
        nonlocal deepest
        code = frame.f_code
        if event not in ("call", "return") or code.co_name in COMPREHENSIONS:
            return
        if not code.co_filename.startswith(PACKAGE):
            return
        if event == "return":
            stack.pop()
            return
        file = str(pathlib.Path(code.co_filename).relative_to(PACKAGE))
        files.add(file)
        stack.append(f"{file}:{code.co_name}")
        if len(stack) > len(deepest):
            deepest = list(stack)

    jax.clear_caches()
    sys.setprofile(watch)
    try:
        job()
    finally:
        sys.setprofile(None)
    return Trace(sorted(files), deepest)


def pgu() -> Callable[[], Any]:
    """Prepare projected-gradient unlearning and answer one request."""
    data, classifier = toys.points(), toys.perceptron()
    variables = classifier.init(jax.random.key(0), data.x)
    request, probe = hf.forget_classes(data, [1]), toys.points(seed=8, first_id=100)

    def job():
        unlearner = hf.pgu(classifier, probe=probe)
        state = unlearner.init(jax.random.key(1), variables, data)
        return jax.jit(unlearner.unlearn)(jax.random.key(2), state, request)

    return job


def graph_fiun() -> Callable[[], Any]:
    """Prepare FIUn for a graph of models and answer one request."""
    data, classifier = toys.points(), toys.perceptron()
    plan = inheritance.data_parallel(jax.random.key(0), data)
    graph, models = inheritance.train(
        jax.random.key(1), classifier, data, plan, optax.adam(1e-2), 2
    )
    requests = plan.requests(hf.forget_classes(data, [1]))

    def job():
        unlearner = inheritance.fiun(graph, classifier)
        state = unlearner.init(jax.random.key(2), models, plan.data(data))
        return jax.jit(unlearner.unlearn)(jax.random.key(3), state, requests)

    return job


def evaluate() -> Callable[[], Any]:
    """Evaluate one model beside two retrained ones."""
    data, classifier = toys.points(), toys.perceptron()
    keys = jax.random.split(jax.random.key(0), 3)
    variables, *others = (classifier.init(key, data.x) for key in keys)
    retrained = trees.stack(others)
    request, test = hf.forget_classes(data, [1]), toys.points(seed=8, first_id=100)
    return lambda: hf.evaluate(
        classifier, variables, request, test, retrained=retrained
    )


JOBS = {"pgu": pgu, "graph_fiun": graph_fiun, "evaluate": evaluate}


if __name__ == "__main__":
    for name, make in JOBS.items():
        files, deepest = trace(make())
        print(f"{name}: {len(files)} files, {len(deepest)} deep")
        print("  ", *files, sep="\n  ")
        print("  deepest:", *deepest, sep="\n    ")
