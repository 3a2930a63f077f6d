"""Whatever is passed by mistake, the error is ours and names the argument.

Of every public function each argument in turn is replaced by what people pass. The
call may succeed, for what is odd may still be right; or it raises one of our kinds of
error, from a line of this package, with an argument's name in the message. Whatever
else comes up, an AttributeError, something out of JAX, is a fault:

    python -m tests.test_fuzz [function ...]

tries all of them, and lists every fault as function, argument and what was given.
"""

import collections
import functools
import inspect
import os
import pathlib
import re
import sys
import tempfile
import time
import traceback
import types
import warnings
from typing import Any

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from flax.core import FrozenDict

import hyperforget_jax as hf
from hyperforget_jax import (
    checkpointing,
    evaluation,
    hypernet,
    inheritance,
    report,
    subspace,
)
from tests import toys

OURS = (TypeError, ValueError, OSError, ArithmeticError)
PACKAGE = str(pathlib.Path(hf.__file__).parent)
EXAMPLES = 20
KEY = jax.random.key(0)
DATA, HELD_OUT = toys.points(16), toys.points(16, seed=8, first_id=100)
CLASSIFIER, OPTIMIZER = toys.softmax_regression(), optax.sgd(0.1)
VARIABLES = CLASSIFIER.init(KEY, DATA.x)
STACKED = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), VARIABLES)
REQUEST = hf.forget_classes(DATA, [1])
EACH = hf.forget_each_class(DATA)
ROW = report.results_row(
    "ssd",
    [{"accuracy_test": 0.5}],
    dataset="points",
    model="linear",
    scenario="class",
    request="class 1",
    access=hf.Access(),
    seconds={"init": 0.0, "unlearn": 0.0, "compile": 0.0},
)
ZOO = hypernet.Zoo(**{name: jnp.ones(2) for name in hypernet.Zoo._fields})
SEQUENCE = hf.sequence(DATA, [[0], [1]])


class Model(nnx.Module):
    def __init__(self, rngs):
        self.head = nnx.Linear(6, 4, rngs=rngs)

    def __call__(self, x):
        return self.head(x)


class Tensor:
    """As other libraries have them: an array that NumPy may not have."""

    shape, dtype, ndim = (16,), "torch.float32", 1

    def __len__(self):
        return 16

    def __array__(self, *_, **__):
        raise RuntimeError("Can't call numpy() on Tensor that requires grad.")


GIVEN = {
    "None": None,
    "True": True,
    "0": 0,
    "-1": -1,
    "1.5": 1.5,
    "nan": float("nan"),
    "-inf": -float("inf"),
    "1j": 1j,
    "2**40": 2**40,
    "np.float64(2.5)": np.float64(2.5),
    "np.int8(-3)": np.int8(-3),
    "np.str_": np.str_("a"),
    "an empty string": "",
    "a string": "text",
    "a path": "a/b:c",
    "a pathlib path": pathlib.Path("nowhere"),
    "bytes": b"bytes",
    "[]": [],
    "[[]]": [[]],
    "()": (),
    "{}": {},
    "{1}": {1},
    "{'params': {}}": {"params": {}},
    "FrozenDict": FrozenDict({"params": {"Dense_0": {}}}),
    "['a', None]": ["a", None],
    "[1.5]": [1.5],
    "[-1]": [-1],
    "[10**9]": [10**9],
    "[10**20]": [10**20],
    "[True]": [True],
    "[[0, 1]]": [[0, 1]],
    "[[0], [1, 2]]": [[0], [1, 2]],
    "object()": object(),
    "a lambda": lambda *_: None,
    "a namespace": types.SimpleNamespace(x=1, shape=(16,)),
    "no numbers": np.zeros((3, 0)),
    "zeros [2, 3, 4]": np.zeros((2, 3, 4)),
    "np.array('a')": np.array("a"),
    "np.array(None)": np.array(None),
    "NaN in an array": np.array([np.nan, 1.0]),
    "negative integers": np.arange(5) - 2,
    "jnp.float32(nan)": jnp.float32(jnp.nan),
    "bfloat16 [2, 2]": jnp.zeros((2, 2), jnp.bfloat16),
    "a legacy key": jnp.array([0, 1], jnp.uint32),
    "booleans [16]": jnp.ones(16, bool),
    "three keys": jax.random.split(KEY, 3),
    "a key": KEY,
    "a tensor": Tensor(),
    "masked [16]": np.ma.masked_all(16),
    "a shape": jax.ShapeDtypeStruct((16,), jnp.float32),
    "examples": DATA,
    "a tuple of arrays": tuple(DATA),
    "inputs": DATA.x,
    "examples of other classes": DATA._replace(y=DATA.y + 7),
    "examples of other width": DATA._replace(x=DATA.x[:, :2]),
    "examples without weight": DATA._replace(weight=DATA.weight * 0),
    "examples without ids": DATA._replace(id=None),
    "examples of float labels": DATA._replace(y=DATA.y.astype(float)),
    "a request": REQUEST,
    "requests": EACH,
    "a request without classes": REQUEST._replace(classes=None),
    "a request of float rows": REQUEST._replace(rows=REQUEST.rows.astype(float)),
    "a request of inputs": REQUEST._replace(data=DATA.x),
    "a classifier": CLASSIFIER,
    "a classifier of None": CLASSIFIER._replace(apply=None),
    "an optimiser": OPTIMIZER,
    "variables": VARIABLES,
    "bare params": VARIABLES["params"],
    "stacked variables": STACKED,
    "an unlearner": hf.identity(CLASSIFIER),
}


@functools.cache
def network():
    return hypernet.build(CLASSIFIER, DATA.x, hypernet.HypernetConfig(width=8, heads=2))


@functools.cache
def hypernet_params():
    return network().init(KEY)


SECONDS = collections.Counter()
SCRATCH = tempfile.TemporaryDirectory()


def folder() -> str:
    return os.path.join(tempfile.mkdtemp(dir=SCRATCH.name), "v")


@functools.cache
def stored(kind: str = "k") -> str:
    """A checkpoint's folder, which is read and not written."""
    path = folder()
    checkpointing.save(path, {"a": jnp.ones(2)}, kind=kind)
    return path


def state_of(make, *options, **more) -> Any:
    return make(CLASSIFIER, *options, **more).init(KEY, VARIABLES, DATA)


METHODS = {
    "ascent": {"steps": 1},
    "finetune": {"steps": 1},
    "fiun": {},
    "identity": {},
    "logit_mask": {},
    "neggrad_plus": {"steps": 1},
    "pgu": {},
    "retrain": {"optimizer": OPTIMIZER, "steps": 1},
    "ssd": {},
}


def method(name: str) -> hf.Unlearner:
    return getattr(hf, name)(CLASSIFIER, **METHODS[name])


# Every call as it is right, made anew for each use.
train = dict(key=KEY, classifier=CLASSIFIER, data=DATA, optimizer=OPTIMIZER, steps=1)
judge = dict(classifier=CLASSIFIER, request=REQUEST, examples=HELD_OUT)
CALLS: dict[str, Any] = {
    **{
        f"hf.{name}": lambda name=name: dict(classifier=CLASSIFIER, **METHODS[name])
        for name in METHODS
    },
    "hf.dihyfo": lambda: dict(
        classifier=CLASSIFIER, hypernetwork=network(), params=hypernet_params()
    ),
    "hf.fit": lambda: dict(train, start=VARIABLES, augment=None, batch_size=4),
    "hf.fit_batches": lambda: dict(
        key=KEY,
        classifier=CLASSIFIER,
        batches=lambda step: DATA,
        optimizer=OPTIMIZER,
        steps=1,
        start=VARIABLES,
        augment=None,
        segment_steps=1,
        directory=None,
        progress=False,
    ),
    "hf.fit_population": lambda: dict(
        train,
        members=2,
        weights=None,
        starts=None,
        batch_size=4,
        augment=None,
        objective=None,
        conditions=(),
        shared=(),
        checkpoint_steps=(),
        chunk_size=2,
        segment_steps=1,
        directory=None,
        mesh=None,
        progress=False,
    ),
    "hf.refresh_statistics": lambda: dict(
        key=KEY, classifier=CLASSIFIER, variables=VARIABLES, data=DATA, steps=1
    ),
    "hf.evaluate": lambda: dict(
        judge,
        variables=VARIABLES,
        retrained=None,
        original=None,
        key=None,
        batch_size=16,
    ),
    "evaluation.prepare_retrained": lambda: dict(
        judge, retrained=STACKED, original=None, key=None, batch_size=16
    ),
    "evaluation.ceiling": lambda: dict(
        judge, retrained=STACKED, original=None, key=None, batch_size=16
    ),
    "report.read": lambda: dict(path="nowhere"),
    "report.write": lambda: dict(
        path=folder(),
        document=report.results_document([ROW], preset="", config={}, seconds=1.0),
        references=False,
    ),
    "hf.forget_classes": lambda: dict(
        data=DATA, classes=[1], num_classes=4, capacity=8
    ),
    "hf.forget_rows": lambda: dict(data=DATA, rows=[1], num_classes=4, capacity=8),
    "hf.forget_where": lambda: dict(data=DATA, condition=lambda data: data.y == 1),
    "hf.forget_random": lambda: dict(key=KEY, data=DATA, count=2, num_classes=4),
    "hf.forget_each_class": lambda: dict(data=DATA, num_classes=4),
    "hf.forget_labels": lambda: dict(classes=[1], num_classes=4),
    "hf.forget_examples": lambda: dict(
        examples=DATA, num_classes=4, classes=(), capacity=16
    ),
    "hf.sequence": lambda: dict(
        data=DATA, requests=[[0], [1]], num_classes=4, capacity=4
    ),
    "hf.unlearn_each": lambda: dict(
        unlearner=method("logit_mask"),
        keys=jax.random.split(KEY, 4),
        state=state_of(hf.logit_mask),
        requests=EACH,
    ),
    "hf.unlearn_sequence": lambda: dict(
        unlearner=method("logit_mask"),
        keys=jax.random.split(KEY, 2),
        state=state_of(hf.logit_mask),
        requests=SEQUENCE,
    ),
    "hf.from_linen": lambda: dict(module=hf.models.MLP((3,), 4), train=None, eval=None),
    "hf.from_nnx": lambda: dict(create=Model),
    "hf.from_functions": lambda: dict(
        init=lambda key, x: {"w": jnp.zeros((6, 4))},
        apply=lambda params, x: x @ params["w"],
        description="linear",
    ),
    "data.examples": lambda: dict(
        x=np.ones((16, 2)), y=np.arange(16) % 4, weight=None, id=None, num_classes=4
    ),
    "data.load": lambda: dict(
        name="digits", probe_fraction=0.2, data_dir=None, cache_dir=None
    ),
    "data.flip_labels": lambda: dict(
        key=KEY, data=DATA, per_class=1, pairs=None, num_classes=4
    ),
    "data.crop_and_flip": lambda: dict(seed=0, padding=1, flip=True),
    "checkpointing.save": lambda: dict(
        path=folder(),
        tree={"a": jnp.ones(2)},
        kind="k",
        model="",
        dataset="",
        split="",
        config=None,
        overwrite=False,
    ),
    "checkpointing.load": lambda: dict(
        path=stored(), kind="k", like={"a": jnp.ones(2)}, model=""
    ),
    "checkpointing.read_manifest": lambda: dict(path=stored()),
    "checkpointing.config_hash": lambda: dict(config={"a": 1}),
    "hypernet.save_zoo": lambda: dict(path=folder(), zoo=ZOO, model=""),
    "hypernet.load_zoo": lambda: dict(path=stored("zoo")),
    "hypernet.stored_zoo": lambda: dict(
        directory=folder(), parts=1, make=lambda part: ZOO
    ),
    "hypernet.save_hypernetwork": lambda: dict(
        path=folder(), hypernetwork=network(), params=hypernet_params()
    ),
    "hypernet.load_hypernetwork": lambda: dict(
        path=stored("hypernetwork"), classifier=CLASSIFIER
    ),
    "inheritance.save": lambda: dict(path=folder(), graph=None, state=None),
    "inheritance.load": lambda: dict(path=stored("inheritance")),
    "subspace.load_store": lambda: dict(
        path=stored("gram-store"),
        classifier=CLASSIFIER,
        variables=VARIABLES,
        preprocessing={},
    ),
}
MODULES = {
    "hf": hf,
    "data": hf.data,
    "evaluation": evaluation,
    "report": report,
    "checkpointing": checkpointing,
    "hypernet": hypernet,
    "inheritance": inheritance,
    "subspace": subspace,
}
for _name in METHODS:
    CALLS[f"{_name}.init"] = lambda: dict(key=KEY, variables=VARIABLES, data=DATA)
    CALLS[f"{_name}.unlearn"] = lambda name=_name: dict(
        key=KEY, state=_state(name), request=REQUEST
    )


# A document's own fields are named by what is said of it.
NOT_TRIED = {("report.write", "document"), ("report.write", "references")}
# Their right calls take a training; that they refuse is what is looked at here.
NEVER_RIGHT = {
    "hf.dihyfo",
    "report.read",
    "report.write",
    "hypernet.load_zoo",
    "hypernet.save_hypernetwork",
    "hypernet.load_hypernetwork",
    "inheritance.save",
    "inheritance.load",
    "subspace.load_store",
}


@functools.cache
def _state(name: str) -> Any:
    return method(name).init(KEY, VARIABLES, DATA)


def arguments_of(name: str) -> list[str]:
    return [each for each in CALLS[name]() if (name, each) not in NOT_TRIED]


def call(name: str, arguments: dict[str, Any]) -> Any:
    owner, function = name.split(".")
    if owner in METHODS:
        return getattr(method(owner), function)(*arguments.values())
    return getattr(MODULES[owner], function)(**arguments)


def fault(name: str, argument: str, given: Any) -> str | None:
    """What is wrong with what a call says of one argument, or None."""
    arguments = {**CALLS[name](), argument: given}
    began = time.perf_counter()
    try:
        with warnings.catch_warnings(action="ignore"):
            call(name, arguments)
    except Exception as error:
        text = str(error)
        last = traceback.extract_tb(error.__traceback__)[-1]
        said = f"{type(error).__name__}: {' '.join(text.split())[:120]}"
        where = f"({last.filename.rsplit('/', 1)[-1]}:{last.lineno})"
        if not isinstance(error, OURS):
            return f"raw {said} {where}"
        if isinstance(error, OSError) and error.filename:
            return None  # The system's own, which name the file.
        if not last.filename.startswith(PACKAGE):
            return f"not ours {said} {where}"
        is_path = isinstance(given, str | os.PathLike) and str(given) in text
        # One argument may be wrong for another, which is then named in its place.
        if not is_path and not re.search(rf"\b({'|'.join(arguments)})\b", text):
            return f"does not name it {said} {where}"
    finally:
        SECONDS[name, argument] += time.perf_counter() - began
    return None


def faults_of(name: str, cases) -> dict[str, str]:
    """``{"function(argument=given)": what is wrong}`` for (argument, given)."""
    found, before = {}, os.getcwd()
    os.chdir(SCRATCH.name)  # Relative paths such as "text" are right ones.
    try:
        for argument, given in cases:
            wrong = fault(name, argument, GIVEN[given])
            if wrong is not None:
                found[f"{name}({argument}={given})"] = wrong
    finally:
        os.chdir(before)
    return found


def listed(faults: dict[str, str]) -> str:
    return "\n".join(f"{where}: {what}" for where, what in faults.items())


@pytest.fixture(autouse=True)
def raw_tracebacks():
    """Unfiltered, since an error's last line is what tells whose it is."""
    before = jax.config.values["jax_traceback_filtering"]
    jax.config.update("jax_traceback_filtering", "off")
    yield
    jax.config.update("jax_traceback_filtering", before)


def test_every_function_is_tried():
    public = {
        f"hf.{name}" for name in hf.__all__ if inspect.isfunction(getattr(hf, name))
    }
    assert public <= set(CALLS)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in CALLS if name not in NEVER_RIGHT])
def test_right_calls_are_right(name):
    """Or else every argument of it would be refused for the fault of another."""
    call(name, CALLS[name]())


@pytest.mark.parametrize("name", CALLS)
def test_what_people_pass(name):
    cases, arguments = [], arguments_of(name)

    @hypothesis.settings(
        max_examples=EXAMPLES, derandomize=True, phases=[hypothesis.Phase.generate]
    )
    @hypothesis.given(st.sampled_from(arguments), st.sampled_from(list(GIVEN)))
    def draw(argument, given):
        cases.append((argument, given))

    draw()
    faults = faults_of(name, cases)
    assert not faults, f"\n{listed(faults)}"


def main(names: list[str]) -> None:
    jax.config.update("jax_traceback_filtering", "off")
    kinds = collections.Counter()
    for name in names or CALLS:
        cases = [
            (argument, given) for argument in arguments_of(name) for given in GIVEN
        ]
        found = faults_of(name, cases)
        if found:
            print(listed(found), flush=True)
        kinds.update(what.split()[0] for what in found.values())
        kinds["tried"] += len(cases)
        kinds["faults"] += len(found)
    print(dict(kinds), SECONDS.most_common(20))


if __name__ == "__main__":
    main(sys.argv[1:])
