"""Every block of code of the README and of docs/ runs by itself; tables are those of
the records, links lead somewhere, and no public method is left out."""

import inspect
import re
import shlex
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hyperforget_jax as hf
from hyperforget_jax import command
from tests import scripts

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
CODE = [README, *sorted((ROOT / "docs").glob("*.md"))]
PAGES = [*CODE, *sorted((ROOT / "experiments/results").glob("*.md"))]
NAMED = re.compile(r"<!-- block: (\w+) -->\n```python\n(.*?)```", re.DOTALL)
BLOCKS = {name: code for page in CODE for name, code in NAMED.findall(page.read_text())}

# Sizes that would take long: what stands in the text, and what is run.
SMALLER = {
    "network": [("optimizer, 300", "optimizer, 100")],
    "hypernetwork": [
        ("starts=256", "starts=4"),
        ("steps=3_000", "steps=20"),
        ('mixer="mean"', 'mixer="mean", width=16, depth=1'),
        ("400, 64", "80, 64"),
        ("120, 64", "20, 64"),
        ("(8, 16, 40, 80)", "(8, 16)"),
        # It has learnt next to nothing by then, and would refuse.
        ("probe=splits.probe)\nbefore", "probe=splits.probe, most_left=1)\nbefore"),
        ("protect=3.0)", "protect=3.0, most_left=1)"),
    ],
    "twenty_lines": [("800", "300"), ("members=5", "members=2")],
    "sisa": [("200, shards", "50, shards")],
    "audit_torch": [("MODELS, FORGET = 32", "MODELS, FORGET = 8")],
}


def _a_recipe_is_a_method(names, printed):
    assert "learning_rate" in printed
    assert isinstance(names["unlearner"], hf.Unlearner)


def _forgets_in_the_readme(names, printed):
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


def _remembers_both_classes(names, printed):
    gone = [label in (3, 5) for label in range(10)]
    assert names["state"].forgotten.classes.tolist() == gone
    test = names["splits"].test
    for label in (3, 5):
        assert _answered(names["classifier"], names["state"].variables, test, label) < (
            0.1
        )


def _requests_are_of_the_stated_structure(names, printed):
    train = names["train"]
    assert set(train.y[names["by_class"].rows[:1]].tolist()) == {3}
    assert names["by_row"].rows.tolist()[:3] == [4, 8, 15]
    share = int(jnp.sum(names["by_chance"].forget.weight)) / train.y.size
    assert abs(share - 0.02) <= 1 / train.y.size
    asked = names["by_rule"].forget
    assert jnp.all((asked.id % 100 == 0) | (asked.weight == 0))
    assert names["alone"].rows is None and names["by_label"].data is None


def _one_model_a_class(names, printed):
    assert names["models"].variables["params"]["Dense_0"]["kernel"].shape[0] == 10
    gone = np.asarray(names["models"].forgotten.classes)
    assert np.array_equal(gone, np.eye(10, dtype=bool))
    assert names["states"].forgotten.gone.shape[0] == 2


def _state_is_kept(names, printed):
    assert type(names["state"]).__name__ == "FisherState"
    assert names["state"].forgotten.classes[3]


def _graph_forgets(names, printed):
    assert "r1: classes 3 ('r1', 'r2', 'r3', 'r4')" in printed
    test, graph = names["splits"].test, names["graph"]
    after = names["state"].variables
    for models, low, high in ((names["models"], 0.6, 1), (after, 0, 0.05)):
        variables = graph.take(models, "r4")
        assert low <= _answered(names["classifier"], variables, test, 3) <= high
    loaded, state, audit = hf.inheritance.load("runs/graph")
    assert (loaded, audit) == (graph, names["audit"])
    assert state.forgotten.classes[graph.names.index("r4"), 3]


def _one_model_forgets(names, printed):
    assert names["info"].change.forget_accuracy_before > 0.9
    assert names["info"].change.forget_accuracy <= 0.05


def _rows_left_the_store(names, printed):
    assert "Dense_0" in printed
    held = names["state"].store.included
    gone = held.id[held.weight == 0]
    assert sorted(gone.tolist()) == sorted(names["request"].forget.id[:3].tolist())


def _hypernetwork_was_asked(names, printed):
    assert names["state"].forgotten.tolist() == [label == 3 for label in range(10)]
    assert not names["info"].refused
    loaded, _ = hf.hypernet.load_hypernetwork("runs/hypernetwork", names["small"])
    assert loaded == names["network"]


def _evaluation_is_beside_retraining(names, printed):
    assert "forget accuracy, test" in printed
    assert len(names["among"]) == 3
    assert 0 < names["found"].metrics["js_to_oracle"] < np.log(2)


def _population_is_scored(names, printed):
    found = names["found"]
    assert found.forget_test.accuracy.shape == found.auc.shape == (4,)
    assert jnp.all(found.forget_test.accuracy > 0.8) and jnp.all(found.auc > 0.2)


def _report_is_left(names, printed):
    page = Path("runs/mine/report.html").read_text()
    assert "neggrad_plus" in page and "logit_mask" in page
    document = hf.report.read("runs/mine/results.json", references=False)
    assert {"neggrad_plus", "ceiling"} <= {row["method"] for row in document["rows"]}


def _model_has_learnt(names, printed):
    x = names["train"].x
    logits = names["classifier"].apply(names["variables"], x)
    assert logits.shape == (x.shape[0], 10)
    assert jnp.mean(jnp.argmax(logits, -1) == names["train"].y) > 0.5


def _train_state_goes_on(names, printed):
    moved = (
        names["mine"].params["Dense_0"]["kernel"] - names["params"]["Dense_0"]["kernel"]
    )
    assert jnp.any(moved != 0)


def _commands_run(names, printed):
    page = (ROOT / "docs/command.md").read_text()
    lines = "".join(re.findall(r"```sh\n(.*?)```", page, re.DOTALL))
    lines = [shlex.split(line) for line in lines.replace("\\\n", " ").splitlines()]
    found = [(words[1], command.main(words[1:])) for words in lines]
    assert found == [("forget", 0), ("forget", 0), ("report", 0), ("doctor", 0)]
    after = hf.checkpointing.load("runs/forgot/variables", kind="variables")
    test = hf.data.load("digits").test
    assert _answered(names["classifier"], after, test, 3) < 0.1


def _owls_are_asked_for(names, printed):
    asked = np.asarray(names["request"].forget.id)
    asked = asked[asked >= 0]
    assert set(names["species"][asked]) == {"owl"}
    assert not np.isin(names["train"].id, names["test"].id).any()


def _audit_accuses(names, printed):
    # On digits, neggrad_plus is far from retrained models on a class.
    assert "u-lira" in names["judgement"].accused_by
    assert "distinguished from retrained models by" in printed


def _a_claim_of_pytorch_is_judged(names, printed):
    found = hf.audits.judge(*hf.audits.load_folder(names["folder"]))
    assert found.models == {"original": 8, "retrained": 16, "unlearned": 8}
    # Five epochs without the class do not forget it.
    assert "u-lira" in found.accused_by
    assert command.main(["audit", str(names["folder"])]) == 1


def _weights_give_a_mask_away(names, printed):
    found = names["found"]
    assert max(found["logit_mask"]["forget_accuracy"]) == 0
    assert np.mean(found["logit_mask"]["few_shot_1"]) > 0.9
    assert np.mean(found["retrained"]["few_shot_1"]) < 0.1
    assert "neighbours" in printed


def _rival_answered(names, printed):
    assert names["state"].forgotten.classes[3] and "parameters moved" in printed


def _one_shard_was_trained_again(names, printed):
    assert int(names["info"].retrained.sum()) == 1 and "trained again" in printed


def _backdoor_works_until_it_is_not_trained(names, printed):
    assert names["before"] > 0.8 and names["retrained"] < 0.1


def _canaries_are_seen(names, printed):
    # Ascent forgets few of two hundred rows learnt by heart.
    assert 0 < names["found"].epsilon < names["found"].most


def _eight_devices_forget(names, printed):
    kernel = names["forgot"]["params"]["Dense_1"]["kernel"]
    assert len(kernel.sharding.device_set) == jax.device_count() == 8
    test = names["splits"].test
    for member in range(kernel.shape[0]):
        one = hf.trees.take(names["forgot"], member)
        assert _answered(names["classifier"], one, test, 3) < 0.1


def _rows_are_split(names, printed):
    assert len(names["train"].x.sharding.device_set) == 8
    assert names["info"].change.forget_accuracy < 0.1


def _batches_were_learned_from(names, printed):
    classifier, variables = names["classifier"], names["variables"]
    test = hf.data.load("digits").test
    assert all(_answered(classifier, variables, test, label) > 0.7 for label in (3, 5))


def _row_is_refused(names, printed):
    assert names["info"].refused == 1 and names["info"].failed_at == -1
    assert "1 examples that init was not given" in printed


def _the_order_of_refreshing_decides(names, printed):
    forgot, remembers = map(float, printed.split())
    assert forgot < 0.1 and remembers > 0.5
    old, new = (names[name]["batch_stats"] for name in ("variables", "forgot"))
    assert jnp.any(old["BatchNorm_0"]["mean"] != new["BatchNorm_0"]["mean"])


def _halves_behave_as_said(names, printed):
    stopped, goes_on, single, halved = printed.split()
    assert (int(stopped), int(goes_on)) == (0, -1)
    assert float(halved) < 0.5 * float(single)


def _predictions_are_flat(names, printed):
    test = names["splits"].test
    assert _answered(names["classifier"], names["state"].variables, test, 3) < 0.5
    assert names["unlearner"].access.unlearn == {"retain", "forget"}


AFTERWARDS = {
    "many_models": _eight_devices_forget,
    "many_rows": _rows_are_split,
    "more_rows": _batches_were_learned_from,
    "under_jit": _row_is_refused,
    "statistics": _the_order_of_refreshing_decides,
    "half_precision": _halves_behave_as_said,
    "new_method": _predictions_are_flat,
    "rivals": _rival_answered,
    "sisa": _one_shard_was_trained_again,
    "recipes": _a_recipe_is_a_method,
    "twenty_lines": _forgets_in_the_readme,
    "protocol": _remembers_both_classes,
    "requests": _requests_are_of_the_stated_structure,
    "many_requests": _one_model_a_class,
    "keep_a_state": _state_is_kept,
    "network": _graph_forgets,
    "one_model": _one_model_forgets,
    "gram_store": _rows_left_the_store,
    "hypernetwork": _hypernetwork_was_asked,
    "evaluate": _evaluation_is_beside_retraining,
    "population": _population_is_scored,
    "audit": _audit_accuses,
    "audit_torch": _a_claim_of_pytorch_is_judged,
    "weights": _weights_give_a_mask_away,
    "backdoor": _backdoor_works_until_it_is_not_trained,
    "one_run": _canaries_are_seen,
    "compare": _report_is_left,
    "linen": _model_has_learnt,
    "nnx": _model_has_learnt,
    "functions": _model_has_learnt,
    "train_state": _train_state_goes_on,
    "command": _commands_run,
    "own_data": _owls_are_asked_for,
}


# What an extra of the package brings, and the tests do without.
NEEDS = {"audit_torch": "torch"}

# README's own block is run by the test command, and those of docs/ that take a second.
QUICK = ("twenty_lines", "requests", "keep_a_state", "functions", "nnx", "own_data")


def _answered(classifier, variables, test, label):
    """How often a class is answered on its own rows."""
    logits = classifier.apply(variables, test.x[test.y == label])
    return float(jnp.mean(jnp.argmax(logits, -1) == label))


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow])
        for name in BLOCKS
    ],
)
def test_a_block_runs_by_itself_and_does_what_the_text_says(
    name, tmp_path, monkeypatch, capsys
):
    if name in NEEDS:
        pytest.importorskip(NEEDS[name], reason=f"{name} needs {NEEDS[name]}")
    monkeypatch.chdir(tmp_path)
    code = BLOCKS[name]
    for long, short in SMALLER.get(name, ()):
        assert long in code
        code = code.replace(long, short)
    names = {"__name__": name}
    exec(compile(code, f"block {name}", "exec"), names)
    AFTERWARDS[name](names, capsys.readouterr().out)


def test_every_block_has_a_name_and_is_tested():
    written = [name for page in CODE for name, _ in NAMED.findall(page.read_text())]
    fences = sum(page.read_text().count("```python\n") for page in PAGES)
    assert len(written) == len(set(written)) == fences
    assert set(written) == set(AFTERWARDS)


def test_the_readme_is_one_page():
    assert len(README.read_text().splitlines()) <= 150
    assert len(BLOCKS["twenty_lines"].strip().splitlines()) <= 24


def test_tables_are_up_to_date():
    found = scripts.run("readme", "--check")
    assert found.returncode == 0, found.stderr


def test_the_table_of_methods_holds_every_public_method():
    (tables,) = scripts.load("tables.methods")
    public = {
        name
        for name in hf.__all__
        if inspect.isfunction(getattr(hf, name))
        and getattr(hf, name).__module__.startswith("hyperforget_jax.methods.")
    }
    assert public and public <= set(tables.public())  # They say what they return.
    for name in public:
        assert f"| `hf.{name}` |" in README.read_text()


def test_a_method_that_is_public_and_not_in_the_table_fails(monkeypatch):
    def random_labels(classifier: hf.Classifier) -> hf.Unlearner:
        return hf.identity(classifier)

    def with_temperature(classifier: hf.Classifier, temperature) -> hf.Unlearner:
        return hf.identity(classifier)

    (tables,) = scripts.load("tables.methods")
    assert tables.access() in README.read_text()
    monkeypatch.setattr(hf, "random_labels", random_labels, raising=False)
    monkeypatch.setattr(hf, "__all__", [*hf.__all__, "random_labels"])
    assert "| `hf.random_labels` |" in tables.access()
    # What must be given, and nobody said what.
    monkeypatch.setattr(hf, "random_labels", with_temperature)
    with pytest.raises(SystemExit, match="random_labels must be given.*temperature"):
        tables.access()


def test_links_lead_somewhere():
    found = 0
    for page in PAGES:
        for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
            if target.startswith("https:"):
                continue
            path, _, anchor = target.partition("#")
            path, found = (page.parent / path if path else page), found + 1
            assert path.exists(), (page, target)
            if anchor:
                heads = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
                kept = [re.sub(r"[^\w\- ]", "", head).lower() for head in heads]
                assert anchor in [head.replace(" ", "-") for head in kept], target
    assert found > 20


def test_every_public_name_that_the_pages_use_exists():
    text = "".join(page.read_text() for page in PAGES)
    for dotted in set(re.findall(r"hf\.([a-z_]+(?:\.[a-z_0-9]+)?)", text)):
        value = hf
        for name in dotted.split("."):
            value = getattr(value, name)


def test_the_test_command_is_where_it_is_looked_for():
    # By .ci/run, which runs what it finds there.
    command = r"<!-- test command -->\n```sh\n.*pytest.*\n```"
    assert re.search(command, README.read_text())
