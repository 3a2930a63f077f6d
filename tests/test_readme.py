"""The README's code runs, and tables are what the records and results say."""

import ast
import pathlib
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import nnx

import hyperforget_jax as hf
from tests import scripts

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", *(ROOT / "experiments/results").glob("*.md")]
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_the_example_runs_and_forgets(capsys):
    names = {}
    exec(BLOCKS[0], names)
    printed = capsys.readouterr().out
    assert printed.count("forget accuracy, test") == 2
    before, after = (
        hf.evaluate(
            names["classifier"], model, names["request"], names["splits"].test
        ).metrics
        for model in (names["variables"], names["state"].variables)
    )
    assert before["forget_accuracy_test"] > 0.9
    assert after["forget_accuracy_test"] <= 0.02
    assert after["retain_accuracy_test"] >= before["retain_accuracy_test"] - 0.02
    assert len(BLOCKS[0].strip().splitlines()) <= 24


def test_a_state_is_kept_as_the_readme_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = hf.data.load("digits").train
    classifier = hf.from_linen(hf.models.MLP(()))
    unlearner, keys = hf.ssd(classifier), jax.random.split(jax.random.key(0), 2)
    variables = classifier.init(keys[0], data.x)
    state = unlearner.init(keys[1], variables, data)
    names = {**globals(), **locals(), "splits": hf.data.load("digits")}
    exec(BLOCKS[1], names)
    assert type(names["state"]) is type(state)


def test_a_graph_forgets_as_the_readme_says(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    splits = hf.data.load("digits")
    names = {
        "hf": hf,
        "splits": splits,
        "classifier": hf.from_linen(hf.models.MLP((32,))),
        "optimizer": optax.adam(5e-3),
        "keys": jax.random.split(jax.random.key(0), 4),
    }
    exec(BLOCKS[2].replace("optimizer, 300", "optimizer, 100"), names)
    assert "r1: classes 3 ('r1', 'r2', 'r3', 'r4')" in capsys.readouterr().out
    forget = splits.test.y == 3
    for name, least in (("graph", 0.6), ("forgetful", -1)):
        logits = names["classifier"].apply(names[name].variables("r4"), splits.test.x)
        accuracy = jnp.mean((jnp.argmax(logits, -1) == 3)[forget])
        assert least <= accuracy <= (1 if least > 0 else 0.05)
    assert hf.inheritance.load("runs/graph").id("r4") == names["forgetful"].id("r4")


def test_rows_are_forgotten_and_grams_kept_as_the_readme_says(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    splits = hf.data.load("digits")
    classifier = hf.from_linen(hf.models.MLP((32,)))
    keys = jax.random.split(jax.random.key(0), 4)
    names = {
        "hf": hf,
        "jax": jax,
        "splits": splits,
        "classifier": classifier,
        "variables": hf.fit(keys[3], classifier, splits.train, optax.adam(5e-3), 200),
        "keys": keys,
    }
    exec(BLOCKS[3], names)
    assert "Dense_0" in capsys.readouterr().out
    held = names["state"].store.ledger
    gone = held.id[held.weight == 0]
    assert sorted(gone.tolist()) == sorted(names["request"].forget.id[:3].tolist())


def test_a_hypernetwork_is_trained_and_asked_as_the_readme_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {
        "hf": hf,
        "jax": jax,
        "optax": optax,
        "splits": hf.data.load("digits"),
        "keys": jax.random.split(jax.random.key(0), 4),
    }
    block = BLOCKS[4]
    for long, short in (("starts=256", "starts=4"), ("steps=3_000", "steps=20")):
        assert long in block
        block = block.replace(long, short)
    exec(block, names)
    assert names["state"].forgotten.tolist() == [label == 3 for label in range(10)]
    exec(BLOCKS[5], names)  # From the state before, so that it is asked again.
    assert not names["info"].refused
    loaded = hf.hypernet.load_hypernetwork("runs/hypernetwork", names["small"])
    assert loaded.learnt is not None


def test_models_of_all_three_kinds_are_taken():
    class MyLinenNetwork(nn.Module):
        @nn.compact
        def __call__(self, x, train):
            return nn.Dense(3)(nn.Dropout(0.5, deterministic=not train)(x))

    class MyNNXNetwork(nnx.Module):
        def __init__(self, *, rngs):
            self.head = nnx.Linear(4, 3, rngs=rngs)

        def __call__(self, x):
            return self.head(x)

    params, logits = {"w": jnp.zeros(1)}, jnp.zeros((2, 3))
    body = ast.parse(BLOCKS[6]).body
    calls = [ast.unparse(node) for node in body if isinstance(node, ast.Expr)]
    assert len(calls) == 3
    for call in calls:
        classifier = eval(call, {**globals(), **locals()})
        variables = classifier.init(jax.random.key(0), jnp.zeros((2, 4)))
        assert classifier.apply(variables, jnp.zeros((2, 4))).shape == (2, 3)


def test_tables_are_up_to_date():
    found = scripts.run("readme", "--check")
    assert found.returncode == 0, found.stderr


def test_links_lead_somewhere():
    found = 0
    for page in PAGES:
        for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
            if target.startswith("https:"):
                continue
            path, _, anchor = target.partition("#")
            path, found = page.parent / path, found + 1
            assert path.exists(), (page, target)
            if anchor:
                heads = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
                kept = [re.sub(r"[^\w\- ]", "", head).lower() for head in heads]
                assert anchor in [head.replace(" ", "-") for head in kept]
    assert found > 20


def test_every_public_name_that_the_readme_uses_exists():
    text = "".join(page.read_text() for page in PAGES)
    for dotted in set(re.findall(r"hf\.([a-z_]+(?:\.[a-z_]+)?)", text)):
        value = hf
        for name in dotted.split("."):
            value = getattr(value, name)
