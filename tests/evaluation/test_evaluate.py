"""Evaluation end to end, on softmax regression and four clusters."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from hyperforget_jax import data
from hyperforget_jax.base import Classifier
from hyperforget_jax.evaluation import (
    Spread,
    auc,
    ceiling,
    evaluate,
    prepare_retrained,
    tug_of_war,
)
from hyperforget_jax.requests import forget_classes, forget_labels, forget_rows

HALVES = [
    f"{half}_{kind}_{split}"
    for half in ("forget", "retain")
    for kind in ("accuracy", "loss")
    for split in ("train", "test")
]


@pytest.fixture(scope="module")
def train(make_examples):
    return make_examples(0, 120)


@pytest.fixture(scope="module")
def held_out(make_examples):
    return make_examples(1, 80, first_id=1000)


@pytest.fixture(scope="module")
def request_class(train):
    return forget_classes(train, [2])


@pytest.fixture(scope="module")
def request_rows(train):
    return forget_rows(train, np.arange(0, 40, 3))


@pytest.fixture(scope="module")
def good(linear, make_variables, train):
    """A classifier that has learned the clusters."""

    def loss(params):
        logits = linear.apply({"params": params}, train.x)
        return -jnp.mean(
            jnp.take_along_axis(jax.nn.log_softmax(logits), train.y[:, None], 1)
        )

    params = make_variables(0)["params"]
    step = jax.jit(
        lambda params: jax.tree.map(
            lambda p, g: p - 0.5 * g, params, jax.grad(loss)(params)
        )
    )
    for _ in range(100):
        params = step(params)
    return {"params": params}


@pytest.fixture(scope="module")
def retrained(make_variables):
    return make_variables([10, 11, 12])


def accuracy_of(linear, variables, examples, mask):
    logits = np.asarray(linear.apply(variables, examples.x))
    return np.mean((logits.argmax(-1) == np.asarray(examples.y))[np.asarray(mask)])


def losses_of(linear, variables, examples):
    logits = np.asarray(linear.apply(variables, examples.x), np.float64)
    log_p = scipy.special.log_softmax(logits, axis=-1)
    return -log_p[np.arange(log_p.shape[0]), np.asarray(examples.y)]


def without_rows(examples, mask):
    return jax.tree.map(lambda leaf: leaf[np.asarray(mask)], examples)


def test_halves_of_a_class_request(linear, good, train, held_out, request_class):
    found = evaluate(linear, good, request_class, held_out)
    assert set(HALVES) <= set(found.metrics)
    for name, examples in (("train", train), ("test", held_out)):
        is_forgotten = np.asarray(examples.y) == 2
        for half, mask in (("forget", is_forgotten), ("retain", ~is_forgotten)):
            # Float32 quotients and means of some hundred terms of order one.
            assert found.metrics[f"{half}_accuracy_{name}"] == pytest.approx(
                accuracy_of(linear, good, examples, mask), rel=1e-6
            )
            assert found.metrics[f"{half}_loss_{name}"] == pytest.approx(
                losses_of(linear, good, examples)[mask].mean(), rel=1e-5
            )
        for label in range(4):
            got = found.per_class[name]
            mask = np.asarray(examples.y) == label
            assert got.weight[label] == mask.sum()
            assert got.accuracy[label] == pytest.approx(
                accuracy_of(linear, good, examples, mask), rel=1e-6
            )
    assert found.metrics["accuracy_test"] == pytest.approx(
        accuracy_of(linear, good, held_out, np.ones(80, bool)), rel=1e-6
    )


def test_halves_of_a_row_request(linear, good, train, held_out, request_rows):
    found = evaluate(linear, good, request_rows, held_out)
    is_forgotten = np.isin(np.arange(120), np.arange(0, 40, 3))
    assert found.metrics["forget_accuracy_train"] == pytest.approx(
        accuracy_of(linear, good, train, is_forgotten), rel=1e-6
    )
    # No test row is forgotten: what would be a mean over nothing is left out.
    assert "forget_accuracy_test" not in found.metrics
    assert "forget_loss_test" not in found.metrics
    assert found.metrics["retain_accuracy_test"] == found.metrics["accuracy_test"]
    assert found.classes == ()
    assert found.num_forgotten == 14


def test_membership_compares_with_the_forgotten_classes_or_with_all(
    linear, good, train, held_out, request_class, request_rows
):
    members, others = losses_of(linear, good, train), losses_of(linear, good, held_out)
    by_class = evaluate(linear, good, request_class, held_out).metrics["mia_auc"]
    expected = auc(
        members[np.asarray(train.y) == 2], others[np.asarray(held_out.y) == 2]
    )
    # A float32 tie broken otherwise than in float64 would move one pair of 600.
    assert by_class == pytest.approx(expected, abs=2e-3)
    by_rows = evaluate(linear, good, request_rows, held_out).metrics["mia_auc"]
    assert by_rows == pytest.approx(auc(members[0:40:3], others), abs=2e-3)


def test_membership_inference_reads_the_labels(
    linear, good, train, held_out, request_rows
):
    # Published code scores members by outputs alone: there, shuffled labels change
    # nothing.
    shuffled = np.random.default_rng(0).permutation(np.asarray(train.y))
    relabelled = request_rows._replace(data=train._replace(y=jnp.asarray(shuffled)))
    before = evaluate(linear, good, request_rows, held_out).metrics
    after = evaluate(linear, good, relabelled, held_out).metrics
    assert after["mia_auc"] < before["mia_auc"] - 0.2


def test_tpr_needs_200_non_members(linear, good, make_examples, request_rows):
    for count, is_there in ((199, False), (200, True)):
        held_out = make_examples(2, count, first_id=1000)
        metrics = evaluate(linear, good, request_rows, held_out).metrics
        assert ("mia_tpr_at_1_fpr" in metrics) == is_there


def test_metrics_are_finite_and_fractions(
    linear, good, retrained, held_out, request_class, request_rows
):
    for request in (request_class, request_rows):
        found = evaluate(
            linear, good, request, held_out, retrained=retrained, original=good
        )
        for name, value in found.metrics.items():
            assert type(value) is float
            assert np.isfinite(value), name
            if "accuracy" in name or name in ("mia_auc", "tow", "relearn_censored"):
                assert 0 <= value <= 1


def test_distances_to_retrained_are_means_of_pairs(
    linear, good, make_variables, train, held_out, request_class, retrained
):
    found = evaluate(linear, good, request_class, held_out, retrained=retrained).metrics
    for name, examples in (("train", train), ("test", held_out)):
        p = scipy.special.softmax(linear.apply(good, examples.x), axis=-1)
        is_forgotten = np.asarray(examples.y) == 2
        for half, mask in (("forget", is_forgotten), ("retain", ~is_forgotten)):
            pairs = []
            for seed in (10, 11, 12):
                logits = linear.apply(make_variables(seed), examples.x)
                q = scipy.special.softmax(logits, axis=-1)
                pairs.append(np.sqrt(((p - q) ** 2).sum(-1))[mask].mean())
            # Float32 softmax outputs and their means.
            assert found[f"l2_to_oracle_{half}_{name}"] == pytest.approx(
                np.mean(pairs), rel=1e-5
            )
    for short in ("js", "l2"):
        assert found[f"{short}_to_oracle"] == found[f"{short}_to_oracle_forget_train"]
    assert 0 < found["js_to_oracle"] < np.log(2)


def test_a_model_is_at_no_distance_from_itself(
    linear, make_variables, held_out, request_class
):
    alone = evaluate(
        linear,
        make_variables(10),
        request_class,
        held_out,
        retrained=make_variables([10]),
    )
    assert alone.metrics["js_to_oracle"] == pytest.approx(0, abs=1e-6)
    assert alone.metrics["l2_to_oracle"] == pytest.approx(0, abs=1e-6)
    assert alone.metrics["tow"] == 1


def test_tug_of_war_by_hand():
    names = ("forget_accuracy_train", "retain_accuracy_train", "retain_accuracy_test")
    model = dict(zip(names, (0.5, 0.9, 0.8), strict=True))
    retrained = [
        dict(zip(names, values, strict=True))
        for values in ((0.0, 1.0, 0.9), (0.2, 1.0, 0.9))
    ]
    # (1 - 0.4) (1 - 0.1) (1 - 0.1), with the retrained' mean forget accuracy 0.1.
    assert tug_of_war(model, retrained)["tow"] == pytest.approx(0.486)
    del model["retain_accuracy_test"]
    assert tug_of_war(model, retrained) == {}


def test_relearning_needs_an_original(linear, good, held_out, request_class, retrained):
    found = evaluate(linear, good, request_class, held_out, retrained=retrained)
    assert not [name for name in found.metrics if "relearn" in name]
    # The original is where it was: no step.
    found = evaluate(linear, good, request_class, held_out, original=good)
    assert found.metrics["relearn_steps"] == 0
    assert found.metrics["relearn_censored"] == 0
    assert "relearn_steps_oracle" not in found.metrics


def test_a_mask_hides_nothing_from_relearning(
    linear, good, held_out, request_class, retrained
):
    masked = {**good, "output_mask": jnp.arange(4) == 2}
    found = evaluate(
        linear, masked, request_class, held_out, retrained=retrained, original=good
    ).metrics
    assert found["forget_accuracy_test"] == 0
    assert found["forget_accuracy_train"] == 0
    assert found["relearn_steps"] == 0
    assert found["relearn_steps_oracle"] > 10


def test_prepared_retrained_give_the_same_evaluation(
    linear, good, make_variables, held_out, request_class, retrained
):
    options = {"original": good, "key": jax.random.key(3)}
    prepared = prepare_retrained(linear, retrained, request_class, held_out, **options)
    listed = [make_variables(seed) for seed in (10, 11, 12)]
    expected = evaluate(
        linear, good, request_class, held_out, retrained=retrained, **options
    )
    for again in (
        evaluate(linear, good, request_class, held_out, retrained=prepared),
        evaluate(linear, good, request_class, held_out, retrained=listed, **options),
    ):
        assert again.metrics == expected.metrics
        assert again.retrained == expected.retrained
    # A later original adds its relearning to what is there.
    bare = prepare_retrained(linear, retrained, request_class, held_out)
    later = evaluate(linear, good, request_class, held_out, retrained=bare, **options)
    assert later.metrics == expected.metrics
    assert later.retrained == expected.retrained
    # One original after the other, and another order of the data.
    other = make_variables(21)
    for options in ({"original": other}, {"original": good, "key": jax.random.key(4)}):
        again = prepare_retrained(linear, prepared, request_class, held_out, **options)
        fresh = prepare_retrained(
            linear,
            retrained,
            request_class,
            held_out,
            **{"key": jax.random.key(3), **options},
        )
        assert again.metrics == fresh.metrics
        assert again.metrics != prepared.metrics
        assert (again.curves is prepared.curves) == ("key" not in options)


def test_retrained_of_another_request_are_refused(
    linear, good, train, held_out, request_class, retrained
):
    prepared = prepare_retrained(linear, retrained, request_class, held_out)
    other = forget_classes(train, [1])
    with pytest.raises(ValueError, match="prepared for another request"):
        evaluate(linear, good, other, held_out, retrained=prepared)


def test_ceiling_leaves_one_out(linear, good, make_variables, held_out, request_class):
    seeds = [10, 11, 12]
    found = ceiling(
        linear, make_variables(seeds), request_class, held_out, original=good
    )
    assert len(found) == 3
    for seed, one in zip(seeds, found, strict=True):
        others = make_variables([other for other in seeds if other != seed])
        expected = evaluate(
            linear,
            make_variables(seed),
            request_class,
            held_out,
            retrained=others,
            original=good,
        )
        assert set(one.metrics) == set(expected.metrics)
        for name, value in expected.metrics.items():
            # Population and single model sum float32 products in another order.
            assert one.metrics[name] == pytest.approx(value, rel=1e-4, abs=1e-6), name
        assert one.num_retrained == 2


def test_retrained_stand_beside_a_model_at_their_distance_from_each_other(
    linear, good, held_out, request_class, retrained
):
    found = evaluate(
        linear, good, request_class, held_out, retrained=retrained
    ).retrained
    left_out = ceiling(linear, retrained, request_class, held_out)
    for name in ("js_to_oracle", "l2_to_oracle_retain_test", "tow"):
        values = [one.metrics[name] for one in left_out]
        # A summary keeps nine digits of the values.
        spread = found[name]
        assert spread.mean == pytest.approx(np.mean(values), rel=1e-8)
        assert spread.sd == pytest.approx(np.std(values, ddof=1), rel=1e-6)


def test_ceiling_needs_two(linear, make_variables, held_out, request_class):
    with pytest.raises(ValueError, match="at least two, got 1"):
        ceiling(linear, make_variables([0]), request_class, held_out)


def test_weightless_rows_are_inert(
    linear, good, train, held_out, request_class, retrained
):
    def padded(examples):
        noise = jnp.full((8, examples.x.shape[1]), jnp.float32(50))
        return jax.tree.map(
            lambda leaf, extra: jnp.concatenate([leaf, extra]),
            examples,
            examples._replace(
                x=noise,
                y=jnp.full(8, 2, jnp.int32),
                weight=jnp.zeros(8, jnp.int32),
                id=jnp.full(8, -1, jnp.int32),
            ),
        )

    options = {"retrained": retrained, "original": good}
    expected = evaluate(linear, good, request_class, held_out, **options)
    request = forget_classes(padded(train), [2])
    got = evaluate(linear, good, request, padded(held_out), **options)
    assert set(got.metrics) == set(expected.metrics)
    for name, value in expected.metrics.items():
        # Longer float32 sums, grouped otherwise.
        assert got.metrics[name] == pytest.approx(value, rel=1e-5, abs=1e-6), name


def test_weightless_rows_may_hold_anything(
    linear, good, train, held_out, request_class, retrained
):
    # The last row, from which padding is clipped, of a class that is retained.
    gone = train._replace(weight=train.weight.at[-1].set(0))
    broken = gone._replace(x=gone.x.at[-1].set(jnp.nan))
    clean, noisy = (
        evaluate(
            linear,
            good,
            forget_classes(data, [2], capacity=40),
            held_out,
            retrained=retrained,
            original=good,
        )
        for data in (gone, broken)
    )
    assert clean.metrics == noisy.metrics


def test_rows_forgotten_earlier_are_in_neither_half(
    linear, good, train, held_out, make_examples
):
    later = train._replace(weight=jnp.where(train.y == 1, 0, train.weight))
    found = evaluate(linear, good, forget_classes(later, [2], num_classes=4), held_out)
    assert found.num_forgotten == 30
    np.testing.assert_array_equal(found.per_class["train"].weight, [30, 0, 30, 30])
    assert found.per_class["train"].accuracy[1] == 0


def test_evaluation_compiles_once(linear, make_variables, train, held_out):
    traces = []

    def apply(variables, x):
        traces.append(x.shape)
        return linear.apply(variables, x)

    counted = Classifier(linear.init, apply, linear.apply_train)

    def run(label, seed):
        retrained = make_variables([seed + 1, seed + 2])
        request = forget_classes(train, [label])
        original = make_variables(seed)
        evaluate(
            counted, original, request, held_out, retrained=retrained, original=original
        )
        return len(traces)

    first = run(0, 0)
    assert first > 0
    assert run(1, 5) == first


@pytest.mark.parametrize("kind", ["class", "rows"])
def test_examples_that_were_trained_on(
    linear, good, train, held_out, request_class, request_rows, retrained, kind
):
    request = request_class if kind == "class" else request_rows
    judge = {
        "evaluate": lambda test: evaluate(linear, good, request, test),
        "prepare_retrained": lambda test: prepare_retrained(
            linear, retrained, request, test
        ),
        "ceiling": lambda test: ceiling(linear, retrained, request, test),
    }
    leak = held_out._replace(id=held_out.id.at[jnp.array([3, 5])].set(train.id[7:9]))
    for call in judge.values():
        with pytest.raises(ValueError, match=r"examples .* holds 120 of the training"):
            call(train)
        with pytest.raises(ValueError, match=r"holds 2 of .*\[7, 8\]\).*takes id="):
            call(leak)
    # Also where others were measured for the same halves of other examples.
    prepared = prepare_retrained(linear, retrained, request, held_out)
    with pytest.raises(ValueError, match="holds 2 of the training"):
        prepare_retrained(linear, prepared, request, leak)
    # Rows that weigh nothing are not there, on either side.
    judge["evaluate"](leak.without(jnp.array([3, 5])))
    gone = request._replace(data=train.without(jnp.array([7, 8])))
    evaluate(linear, good, gone, leak)


def test_arrays_that_come_in_apart(linear, good, train, held_out):
    """Two splits made from arrays share no id; the same array twice shares all."""
    rows = [data.examples(split.x, split.y) for split in (train, held_out, train)]
    request = forget_classes(rows[0], [2])
    evaluate(linear, good, request, rows[1])
    with pytest.raises(ValueError, match="holds 120 of the training examples"):
        evaluate(linear, good, request, rows[2])


def test_options_are_named(linear, good, held_out, request_class, retrained):
    measure = {
        "evaluate": lambda **given: evaluate(
            linear, **{"variables": good, "request": request_class, **given}
        ),
        "prepare_retrained": lambda **given: prepare_retrained(
            linear, **{"retrained": retrained, "request": request_class, **given}
        ),
        "ceiling": lambda **given: ceiling(
            linear, **{"retrained": retrained, "request": request_class, **given}
        ),
    }
    rows = request_class.rows.astype(jnp.float32)
    other = {"params": {**good["params"], "more": jnp.ones(3)}}
    cases = [
        (dict(batch_size=0), "batch_size must be positive"),
        (dict(batch_size=1.5), "batch_size must be a whole number"),
        (dict(key=jnp.zeros(2, jnp.uint32)), "key must be a typed key"),
        (dict(original=good["params"]), "original have no 'params'"),
        (dict(original=3), "original must be a dictionary"),
        (dict(request=request_class._replace(classes=None)), "request.classes must be"),
        (dict(request=request_class._replace(rows=rows)), "request.rows must be an"),
        (dict(request=request_class._replace(data=rows)), "request.data must be hf.Ex"),
        (dict(retrained=3), "retrained must be stacked variables.*got int"),
        (dict(retrained=[3, good]), "retrained must be stacked variables.*got list"),
        (
            dict(retrained=[good, other]),
            r"retrained\[1\] has other variables than retrained",
        ),
    ]
    for given, message in cases:
        for call in measure.values():
            with pytest.raises((TypeError, ValueError), match=message):
                call(examples=held_out, **given)
    with pytest.raises(TypeError, match="variables must be a dictionary.*got None"):
        measure["evaluate"](examples=held_out, variables=None)
    whole = held_out._replace(id=None)
    with pytest.raises(TypeError, match="examples.id must be an array, got NoneType"):
        measure["evaluate"](examples=whole)


def test_bad_input_is_named(linear, good, train, held_out, request_class, retrained):
    with pytest.raises(ValueError, match="carries no data"):
        evaluate(linear, good, forget_labels([2], 4), held_out)
    with pytest.raises(ValueError, match="has 4 logits, but there are 5 classes"):
        evaluate(linear, good, forget_classes(train, [2], num_classes=5), held_out)
    with pytest.raises(ValueError, match="a single one, got 1, stacked"):
        stacked = request_class._replace(
            rows=request_class.rows[None], classes=request_class.classes[None]
        )
        evaluate(linear, good, stacked, held_out)
    with pytest.raises(TypeError, match="examples must be hf.Examples"):
        evaluate(linear, good, request_class, (held_out.x, held_out.y))
    with pytest.raises(ValueError, match="and inputs of shape"):
        evaluate(linear, good, request_class, held_out._replace(x=held_out.x[:, :3]))
    with pytest.raises(ValueError, match="retrained must be stacked"):
        evaluate(linear, good, request_class, held_out, retrained=good)
    with pytest.raises(ValueError, match="retrained is empty"):
        evaluate(linear, good, request_class, held_out, retrained=[])


def test_diverged_models_are_named(linear, good, held_out, request_class, retrained):
    broken = jax.tree.map(lambda leaf: leaf * jnp.nan, good)
    with pytest.raises(ValueError, match="logits of the model are not finite for 120"):
        evaluate(linear, broken, request_class, held_out)
    with pytest.raises(ValueError, match="logits of retrained model 1 are not finite"):
        evaluate(linear, good, request_class, held_out, retrained=[good, broken])


def test_text_of_a_class_request(linear, good, held_out, request_class, retrained):
    text = str(
        evaluate(
            linear, good, request_class, held_out, retrained=retrained, original=good
        )
    )
    lines = text.splitlines()
    assert lines[0] == "Forgetting class 2 (30 training rows)"
    assert lines[1].split() == ["value", "original", "retrained", "(n=3)", "target"]
    retain = next(line for line in lines if line.startswith("retain accuracy, te"))
    assert retain.split()[3] == retain.split()[4]  # The original is what is judged.
    forget_test = next(line for line in lines if line.startswith("forget accuracy, te"))
    forget_train = next(
        line for line in lines if line.startswith("forget accuracy, tr")
    )
    assert forget_test.endswith(" 0")
    assert forget_train.endswith("as retrained")
    assert "±" in forget_test
    assert "missing" not in text
    assert max(len(line) for line in lines) <= 80


def test_text_of_a_row_request_without_retrained(linear, good, held_out, request_rows):
    text = str(evaluate(linear, good, request_rows, held_out))
    assert "Forgetting 14 training rows" in text
    assert "forget accuracy, test" not in text
    assert "The original model is missing" in text
    assert text.endswith(
        "Distances to retrained models are missing: retrained= was not given."
    )
    assert "±" not in text


def test_text_says_when_relearning_is_censored(linear, good, held_out, request_rows):
    found = evaluate(linear, good, request_rows, held_out)
    metrics = {**found.metrics, "relearn_steps": 100.0, "relearn_censored": 1.0}
    retrained = {
        "relearn_steps": Spread(90.0, 5.0),
        "relearn_censored": Spread(0.4, 0.5),
    }
    text = str(dataclasses.replace(found, metrics=metrics, retrained=retrained))
    assert "> 100" in text
    assert "≥ 90.0 ± 5.0" in text


def test_text_of_the_loss_of_a_masked_model_fits(linear, good, held_out, request_class):
    masked = {**good, "output_mask": jnp.arange(4) == 2}
    lines = str(evaluate(linear, masked, request_class, held_out)).splitlines()
    assert any("1e+09" in line for line in lines)
    assert max(len(line) for line in lines) <= 80
