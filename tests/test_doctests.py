"""The examples in docstrings run, each by itself, and give what they say."""

import doctest
import importlib
import pathlib

import pytest

import hyperforget_jax as hf

ROOT = pathlib.Path(__file__).parents[1]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE

# What most scripts call: each of these has an example.
SHOWN = {
    *("requests.forget_classes", "training.fit.fit", "evaluation.evaluate.evaluate"),
    *("training.population.fit_population", "audits.judge.judge", "methods.pgu.pgu"),
    *("methods.fiun.fiun", "inheritance.graph_fiun.fiun", "recipes.tuned.load"),
    "hypernet.hypernetwork.build",
}
QUICK = {"requests.forget_classes", "recipes.tuned.load"}


def examples():
    """Every example by its name, found where the text has one."""
    for path in sorted((ROOT / hf.__name__).rglob("*.py")):
        if ">>> " in path.read_text(encoding="utf-8"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            module = importlib.import_module(".".join(parts).removesuffix(".__init__"))
            for test in doctest.DocTestFinder(exclude_empty=True).find(module):
                if test.examples:
                    yield test.name.removeprefix(f"{hf.__name__}."), test


EXAMPLES = dict(examples())


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow])
        for name in EXAMPLES
    ],
)
def test_an_example_gives_what_it_says(name):
    test, said = EXAMPLES[name], []
    test.globs = {}  # What it uses, it imports.
    doctest.DocTestRunner(optionflags=FLAGS).run(test, out=said.append)
    assert not said, "".join(said)


def test_what_most_scripts_call_has_an_example():
    assert SHOWN <= set(EXAMPLES)
