"""What people bring: accepted where it can be used, else refused with the remedy."""

import collections
import dataclasses

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from flax.training.train_state import TrainState

import hyperforget_jax as hf
from hyperforget_jax import checks, hypernet, inheritance, subspace
from tests import toys

KEY, DATA, CLASSIFIER = jax.random.key(0), toys.points(), toys.perceptron()
VARIABLES = CLASSIFIER.init(KEY, DATA.x)
PARAMS = VARIABLES["params"]
OPTIMIZER = optax.sgd(0.1)
LARGEST = 2**31 - 1


class Net(nnx.Module):
    def __init__(self, rngs):
        self.head = nnx.Linear(6, 4, rngs=rngs)

    def __call__(self, x):
        return self.head(x)


NET = hf.from_nnx(lambda rngs: Net(rngs))
STATE = TrainState.create(apply_fn=None, params=PARAMS, tx=OPTIMIZER)
OTHER_KINDS = {
    "bare params": (PARAMS, ValueError, r"wrap them: \{'params': params\}"),
    "TrainState": (STATE, TypeError, r"got TrainState \(give \{'params': state.params"),
    "FrozenDict": (flax.core.freeze(VARIABLES), TypeError, r"core.unfreeze\(NAME\)"),
    "frozen params": (
        {"params": flax.core.freeze(PARAMS)},
        TypeError,
        r"got a FrozenDict: give flax.core.unfreeze\(NAME\)",
    ),
    "OrderedDict": (
        collections.OrderedDict(VARIABLES),
        TypeError,
        r"give dict\(NAME\)",
    ),
    "a list": (jax.tree.leaves(VARIABLES), TypeError, "must be a dictionary.*got list"),
}


def train(start):
    return hf.fit(KEY, CLASSIFIER, DATA, OPTIMIZER, 2, batch_size=8, start=start)


def train_many(starts):
    starts = jax.tree.map(lambda leaf: jnp.stack([leaf] * 2), starts)
    return hf.fit_population(
        KEY,
        CLASSIFIER,
        DATA,
        OPTIMIZER,
        2,
        members=2,
        starts=starts,
        progress=False,
    )


TAKERS = {
    "start": train,
    "starts": train_many,
    "ssd": lambda given: hf.ssd(CLASSIFIER).init(KEY, given, DATA),
    "ascent": lambda given: hf.ascent(CLASSIFIER).init(KEY, given, DATA),
    "logit_mask": lambda given: hf.logit_mask(CLASSIFIER).init(KEY, given, DATA),
    "pgu": lambda given: hf.pgu(CLASSIFIER).init(KEY, given, DATA),
    "statistics": lambda given: hf.refresh_statistics(KEY, CLASSIFIER, given, DATA),
}


@pytest.mark.parametrize("kind", OTHER_KINDS)
@pytest.mark.parametrize("taker", TAKERS)
def test_variables_of_other_kinds_are_refused_with_the_remedy(taker, kind):
    given, error, message = OTHER_KINDS[kind]
    name = taker if taker in ("start", "starts") else "variables"
    with pytest.raises(error, match=f"{name} .*" + message.replace("NAME", name)):
        TAKERS[taker](given)


def test_an_nnx_model_is_not_its_variables():
    model = Net(nnx.Rngs(0))
    with pytest.raises(TypeError, match="got an NNX model.*nnx.to_pure_dict"):
        hf.ssd(NET).init(KEY, model, DATA)
    # What the message says is what works.
    params = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    hf.ascent(NET).init(KEY, {"params": params}, DATA)


def test_what_the_messages_say_is_what_works():
    for variables in (
        {"params": PARAMS},
        {"params": STATE.params},
        flax.core.unfreeze(flax.core.freeze(VARIABLES)),
        dict(collections.OrderedDict(VARIABLES)),
    ):
        checks.check_classifier(CLASSIFIER, variables, DATA.x)


def test_frozen_params_of_a_model_that_makes_them_are_its_own():
    module = hf.models.MLP((5,), 4)

    def init(key, x):
        return flax.core.freeze(module.init(key, x)["params"])

    model = hf.from_functions(
        init, lambda params, x: module.apply({"params": params}, x)
    )
    trained = hf.fit(KEY, model, DATA, OPTIMIZER, 2, batch_size=8)
    hf.ascent(model, steps=1).init(KEY, trained, DATA)


def test_a_model_that_fails_says_how():
    def fails(params, x):
        raise RuntimeError("no such layer")

    model = hf.from_functions(lambda key, x: {}, fails, description="broken")
    for variables in (None, {"params": {}}):
        with pytest.raises(ValueError, match="broken.*does not take.*no such layer"):
            checks.check_classifier(model, variables, DATA.x)


NARROW = hf.from_linen(hf.models.MLP((5,), 3))


@pytest.mark.parametrize(
    "call",
    [
        lambda: hf.fit(KEY, NARROW, DATA, OPTIMIZER, 2),
        lambda: hf.fit_population(KEY, NARROW, DATA, OPTIMIZER, 2, members=2),
        *(
            lambda unlearner=unlearner: unlearner.init(
                KEY, NARROW.init(KEY, DATA.x), DATA
            )
            for unlearner in (
                hf.ssd(NARROW),
                hf.fiun(NARROW),
                hf.pgu(NARROW),
                hf.logit_mask(NARROW),
                hf.finetune(NARROW),
            )
        ),
    ],
)
def test_labels_without_a_logit_name_the_number_of_classes(call):
    with pytest.raises(ValueError, match=r"data.y .*\[0, 3\), got 3.*num_classes=4"):
        call()


def test_labels_of_rows_that_are_absent_do_not_matter():
    labels = jnp.where(DATA.y == 3, 99, DATA.y)
    data = DATA._replace(y=labels, weight=jnp.where(DATA.y == 3, 0, DATA.weight))
    hf.ssd(NARROW).init(KEY, NARROW.init(KEY, data.x), data)


def test_requests_for_other_numbers_of_classes_name_them():
    unlearner = hf.ssd(CLASSIFIER)
    state = unlearner.init(KEY, VARIABLES, DATA)
    request = hf.forget_rows(DATA, [0], num_classes=7)
    with pytest.raises(ValueError, match="4 logits.*7 classes.*num_classes=4"):
        unlearner.unlearn(KEY, state, request)


class Words(nn.Module):
    @nn.compact
    def __call__(self, x):
        assert jnp.issubdtype(x.dtype, jnp.integer)
        return nn.Dense(4)(jnp.mean(nn.Embed(50, 8)(x), axis=1))


def test_token_ids_are_taken_where_the_model_takes_them():
    model = hf.from_linen(Words())
    rows = np.random.default_rng(0).integers(0, 10, (40, 6))
    # The label is told by what a text is about.
    tokens = rows + 10 * np.asarray(DATA.y)[:, None]
    for dtype in (np.int32, np.uint16):
        data = hf.data.examples(tokens.astype(dtype), np.asarray(DATA.y))
        assert data.x.dtype == np.int32
    variables = hf.fit(KEY, model, data, optax.adam(3e-2), 60, batch_size=20)
    assert (model.apply(variables, data.x).argmax(1) == data.y).mean() > 0.9
    optimizer = optax.adam(3e-2)
    unlearner = hf.neggrad_plus(model, beta=0.5, optimizer=optimizer, steps=40)
    state = unlearner.init(KEY, variables, data)
    state, _ = unlearner.unlearn(KEY, state, hf.forget_classes(data, [1]))
    right = model.apply(state.variables, data.x).argmax(1) == data.y
    assert right[data.y == 1].mean() < 0.5 < right[data.y != 1].mean()


def test_bytes_are_taken_for_pixels():
    data = DATA._replace(x=jnp.ones((40, 6), jnp.uint8))
    message = "floating point, got dtype uint8: normalise.*token ids as int32"
    with pytest.raises(TypeError, match=message):
        hf.fit(KEY, CLASSIFIER, data, OPTIMIZER, 2)


def weighed(*weights):
    """Forty rows, the first ones of these weights and the others of one."""
    table = np.ones(40, np.int64)
    table[: len(weights)] = weights
    return table


TOO_MUCH = {
    "one beyond": (weighed(2**33), r"weights? must fit int32, got 8589934592"),
    "sum beyond": (weighed(*[2**28] * 40), r"weights? must sum to at most 2147483647"),
    "sum just beyond": (weighed(LARGEST - 38), "sum of 2147483648"),
}


@pytest.mark.parametrize("kind", TOO_MUCH)
def test_weights_beyond_int32_are_refused_by_their_sum(kind):
    weights, message = TOO_MUCH[kind]
    data = DATA._replace(weight=weights)
    calls = [
        lambda: train_weighed(np.stack([weighed(), weights])),
        lambda: hf.fit(KEY, CLASSIFIER, data, OPTIMIZER, 2),
        lambda: hf.refresh_statistics(KEY, CLASSIFIER, VARIABLES, data),
        lambda: hf.ssd(CLASSIFIER).init(KEY, VARIABLES, data),
        lambda: hf.neggrad_plus(CLASSIFIER).init(KEY, VARIABLES, data),
        lambda: hf.data.examples(np.asarray(DATA.x), DATA.y, weight=weights),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=message):
            call()


def train_weighed(weights):
    return hf.fit_population(
        KEY,
        CLASSIFIER,
        DATA,
        OPTIMIZER,
        2,
        members=len(weights),
        weights=weights,
        batch_size=8,
        progress=False,
    )


def test_weights_that_just_fit_are_taken():
    """One row is nearly all there is, so a minibatch is that row again and again."""
    heavy = train_weighed(weighed(LARGEST - 39)[None]).variables
    alone = train_weighed(weighed(1, *[0] * 39)[None]).variables
    for one, other in zip(jax.tree.leaves(heavy), jax.tree.leaves(alone), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


CONFIG = hypernet.TrainConfig(steps=2)


def built():
    return hypernet.build(CLASSIFIER, DATA.x, hypernet.HypernetConfig(width=8, heads=2))


def populate(**sizes):
    options = dict(members=2, progress=False) | sizes
    steps = options.pop("steps", 2)
    return hf.fit_population(KEY, CLASSIFIER, DATA, OPTIMIZER, steps, **options)


def fit(steps=2, **sizes):
    return hf.fit(KEY, CLASSIFIER, DATA, OPTIMIZER, steps, **sizes)


def measured(**sizes):
    return hf.fisher.diagonal(CLASSIFIER, VARIABLES, DATA, **sizes)


def relearned(**sizes):
    return hf.metrics.relearning_curve(CLASSIFIER, VARIABLES, DATA, key=KEY, **sizes)


def zoo(**sizes):
    training = hypernet.FitConfig(OPTIMIZER, 2, 8)
    held_out = toys.points(seed=8, first_id=100)
    options = dict(masks=[[0], [1]], starts=2, start=training, forget=training)
    options |= dict(checkpoint_steps=(), progress=False) | sizes
    return hypernet.edit_zoo(KEY, CLASSIFIER, DATA, held_out, **options)


def learnt(segment_steps=2, **sizes):
    return hypernet.fit_hypernetwork(
        KEY,
        built(),
        CLASSIFIER,
        None,
        DATA,
        dataclasses.replace(CONFIG, **sizes),
        segment_steps=segment_steps,
    )


SIZES = [
    (fit, ("steps", "batch_size")),
    (populate, ("steps", "members", "batch_size", "chunk_size", "segment_steps")),
    (
        lambda **sizes: hf.refresh_statistics(
            KEY, CLASSIFIER, VARIABLES, DATA, **sizes
        ),
        ("steps", "batch_size"),
    ),
    (lambda **sizes: hf.ascent(CLASSIFIER, **sizes), ("steps", "batch_size")),
    (lambda **sizes: hf.finetune(CLASSIFIER, **sizes), ("steps", "batch_size")),
    (lambda **sizes: hf.neggrad_plus(CLASSIFIER, **sizes), ("steps", "batch_size")),
    (
        lambda steps=2, **sizes: hf.retrain(CLASSIFIER, OPTIMIZER, steps, **sizes),
        ("steps", "batch_size"),
    ),
    (lambda **sizes: hf.ssd(CLASSIFIER, **sizes), ("batch_size",)),
    (lambda **sizes: hf.FIUnConfig(**sizes), ("batch_size",)),
    (
        hf.PGUConfig,
        ("rounds", "round_steps", "batch_size"),
    ),
    (lambda epochs: hf.pgu(CLASSIFIER, epochs=epochs), ("epochs",)),
    (
        lambda **sizes: hf.dihyfo(CLASSIFIER, built(), None, **sizes),
        ("steps", "best_of"),
    ),
    (measured, ("batch_size",)),
    (
        lambda **sizes: subspace.measure(CLASSIFIER, VARIABLES, DATA, **sizes),
        ("epochs", "batch_size"),
    ),
    (relearned, ("cap", "batch_size")),
    (zoo, ("teachers", "starts")),
    (learnt, ("segment_steps", "steps", "batch_size", "functional_rows")),
    (
        lambda **sizes: inheritance.federated_averaging(KEY, DATA, **sizes),
        ("rounds",),
    ),
    (lambda **sizes: inheritance.federated_chain(KEY, DATA, **sizes), ("length",)),
    (
        lambda **sizes: inheritance.data_parallel(KEY, DATA, **sizes),
        ("workers", "rounds"),
    ),
    (
        lambda **sizes: inheritance.incremental(KEY, DATA, **sizes),
        ("length", "num_classes"),
    ),
    (
        lambda **sizes: inheritance.transfer(KEY, DATA, frozen=(), **sizes),
        ("children",),
    ),
    (
        lambda **sizes: hf.data.examples(np.asarray(DATA.x), DATA.y, **sizes),
        ("num_classes",),
    ),
    (lambda **sizes: hf.sharding.make_mesh(**sizes), ("population", "examples")),
]
NAMED = [(call, name) for call, names in SIZES for name in names]


@pytest.mark.parametrize("call, name", NAMED, ids=[name for _, name in NAMED])
@pytest.mark.parametrize("given", [1.5, 2.0, True, "3", np.float32(3)], ids=repr)
def test_sizes_are_whole_numbers(call, name, given):
    if name == "starts" and given != 1.5:
        pytest.skip("starts may be other things than a size")
    with pytest.raises(
        (TypeError, ValueError), match=rf"{name} must be a whole number"
    ):
        call(**{name: given})


@pytest.mark.parametrize("call, name", NAMED, ids=[name for _, name in NAMED])
def test_sizes_are_one_or_more(call, name):
    with pytest.raises(ValueError, match=f"{name} must be positive, got {name}=0"):
        call(**{name: 0})


def test_sizes_of_numpy_are_sizes():
    checks.check_sizes(steps=np.int64(3), batch_size=np.uint8(1))
    fit(steps=np.int64(2), batch_size=np.int32(8))


def test_sizes_cannot_be_traced():
    with pytest.raises(
        TypeError, match="steps must be.*before tracing.*static_argnames"
    ):
        jax.jit(lambda steps: fit(steps))(3)
    with pytest.raises(TypeError, match="checkpoint_steps must be a whole number"):
        populate(checkpoint_steps=(1.5,))


@pytest.mark.parametrize("given", [None, "model", hf.models.MLP((5,), 4), Net])
@pytest.mark.parametrize(
    "factory",
    [
        hf.ascent,
        hf.finetune,
        hf.fiun,
        hf.identity,
        hf.logit_mask,
        hf.neggrad_plus,
        hf.pgu,
        hf.ssd,
        lambda model: hf.retrain(model, OPTIMIZER, 2),
        lambda model: hf.dihyfo(model, built(), None),
        lambda model: hf.fit(KEY, model, DATA, OPTIMIZER, 2),
        lambda model: hf.models.widen(model, [0], 4),
    ],
)
def test_what_is_no_classifier_is_refused_at_once(factory, given):
    with pytest.raises(TypeError, match="classifier must be a hf.Classifier, made by"):
        factory(given)
