"""SISA: training so cut up that retraining is cheap, for the price of storage."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from hyperforget_jax import checks
from hyperforget_jax.base import (
    Access,
    Array,
    Classifier,
    Examples,
    ForgetRequest,
    Unlearner,
    Variables,
)
from hyperforget_jax.forgotten import (
    Forgotten,
    check_known,
    nothing_forgotten,
    recall,
    remember,
)
from hyperforget_jax.keys import as_threefry
from hyperforget_jax.methods.change import Change, change
from hyperforget_jax.training.config import FitConfig
from hyperforget_jax.training.fit import training_loss

__all__ = ["SISAInfo", "SISAState", "sisa"]


class SISAState(NamedTuple):
    """The models of all shards, and what it takes to train them again.

    Attributes:
        variables: of ``hf.models.ensemble(classifier, shards)``, leaves ``[S, ...]``.
        earlier: after each slice but the last, leaves ``[S, R - 1, ...]``.
        key: bits of the key that all were trained with, uint32.
        forgotten: what earlier requests forgot.
    """

    variables: Variables
    earlier: Variables
    key: Array
    forgotten: Forgotten


class SISAInfo(NamedTuple):
    """How a request went.

    Attributes:
        retrained: which slices of which shards were trained again, bool, ``[S, R]``.
        failed_at: the step of each whose loss was not finite, int32, ``[S, R]``; -1 if
            none. From there on that model stayed as it was.
        refused: rows asked for that ``init`` was not given, int32, ``[]``.
        change: how much the models were changed.
    """

    retrained: Array
    failed_at: Array
    refused: Array
    change: Change


def sisa(
    classifier: Classifier,
    optimizer: optax.GradientTransformation,
    steps: int,
    *,
    shards: int = 5,
    slices: int = 1,
    batch_size: int = 128,
) -> Unlearner:
    """Train a model a shard of the data, and train those anew that held what must go.

    ``init`` does the training, from fresh starts: of the model that is given the dtypes
    alone are kept. Each example belongs to one shard and one slice of it, by its id and
    the key of ``init``. A shard's model learns its first slice, then the first two, and
    so on; the optimiser starts anew each time. A request trains every shard that held
    forgotten examples again, from before the first slice that did, with the same key,
    and leaves the others alone.

    So it is exact: the answer is what ``init`` gives for the same rows where those
    forgotten weigh zero. It is so to the bit if neither is jitted from outside: both
    call one program, which is. The price is storage, of ``shards * slices`` models, and
    accuracy, since each model sees a share of the data.
    Together they are one classifier, ``hf.models.ensemble(classifier, shards)``, which
    averages probabilities where the authors let the models vote; ``state.variables``
    are its variables.

    ``init`` reads the training data, a request the retained ones of the shards that it
    trains again. Under ``vmap`` all shards are computed, and those untouched discarded.

    Args:
        classifier: the model of each shard.
        optimizer: any optax optimiser.
        steps: minibatches for each slice.
        shards: S, how many models. Shards differ in size by chance.
        slices: R, how many steps of the way are stored.
        batch_size: rows a minibatch.

    References:
        Bourtoule et al., Machine unlearning, arXiv 1912.03817, 2021.
    """
    checks.check_is_classifier(classifier)
    checks.check_sizes(shards=shards, slices=slices)
    config = FitConfig(optimizer, steps, batch_size)

    def place(key: Array, ids: Array) -> tuple[Array, Array]:
        """Tell the shard and the slice of each id, int32, ``[N]`` both."""
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, ids)
        bits = jax.vmap(jax.random.bits)(keys)
        shard, rest = bits % shards, bits // shards
        return shard.astype(jnp.int32), (rest % slices).astype(jnp.int32)

    @jax.jit  # By itself, so that init and requests run the same machine code.
    def train(key: Array, data: Examples, first: Array, stored: Variables):
        """Train each shard from a slice on, ``first [S]``; R leaves it as it is.

        Returns what came after each slice, leaves ``[S, R, ...]`` as of ``stored``, and
        the steps that failed, ``[S, R]``.
        """
        key_place, key_train = jax.random.split(key)
        shard, of_slice = place(key_place, data.id)

        def train_shard(given):
            number, first, stored = given
            key_init, key_loop = jax.random.split(jax.random.fold_in(key_train, number))
            fresh = classifier.init(key_init, data.x)
            fresh = {
                name: optax.tree.cast_like(tree, stored.get(name, tree))
                for name, tree in fresh.items()
            }

            def learn(before, given):
                number_of_slice, stored = given
                is_own = (shard == number) & (of_slice <= number_of_slice)
                own = data._replace(weight=jnp.where(is_own, data.weight, 0))

                def again():
                    key = jax.random.fold_in(key_loop, number_of_slice)
                    loss_fn = training_loss(classifier)
                    after, info = config.run(key, loss_fn, before, (own,))
                    return after, info.failed_at

                after, failed_at = lax.cond(
                    number_of_slice >= first,
                    again,
                    lambda: (stored, jnp.full((), -1, jnp.int32)),
                )
                return after, (after, failed_at)

            return lax.scan(learn, fresh, (jnp.arange(slices), stored))[1]

        return lax.map(train_shard, (jnp.arange(shards), first, stored))

    def init(key: Array, variables: Variables, data: Examples) -> SISAState:
        key = as_threefry(key)
        num_classes = checks.check_init(classifier, variables, data)
        shapes = jax.eval_shape(lambda: classifier.init(key, data.x))
        blank = {
            name: jax.tree.map(
                lambda leaf: jnp.zeros((shards, slices, *leaf.shape), leaf.dtype),
                variables.get(name, tree),
            )
            for name, tree in shapes.items()
        }
        trained, _ = train(key, data, jnp.zeros(shards, jnp.int32), blank)
        forgotten = nothing_forgotten(data, num_classes)
        return SISAState(*_split(trained), jax.random.key_data(key), forgotten)

    def unlearn(key: Array, state: SISAState, request: ForgetRequest):
        checks.check_key(key)  # The draws are those of init.
        checks.check_is(SISAState, "what init gave", state=state)
        one = jax.tree.map(lambda leaf: leaf[0], state.variables)
        checks.check_request(classifier, one, request)
        check_known(state.forgotten, request)
        request, refused = recall(state.forgotten, request)
        retain, forget = request.retain, request.forget
        key = jax.random.wrap_key_data(state.key, impl="threefry2x32")
        shard, of_slice = place(jax.random.split(key)[0], forget.id)
        first = jnp.full(shards, slices, jnp.int32)
        first = first.at[shard].min(jnp.where(forget.weight > 0, of_slice, slices))
        stored = jax.tree.map(
            lambda earlier, last: jnp.concatenate([earlier, last[:, None]], axis=1),
            state.earlier,
            state.variables,
        )
        trained, failed_at = train(key, retain, first, stored)
        variables, earlier = _split(trained)
        info = SISAInfo(
            jnp.arange(slices)[None] >= first[:, None],
            failed_at,
            refused,
            change(classifier, state.variables, variables),
        )
        forgotten = remember(state.forgotten, request)
        return SISAState(variables, earlier, state.key, forgotten), info

    access = Access(init={"retain", "forget"}, unlearn={"retain"})
    return Unlearner(init, unlearn, access)


def _split(trained: Variables) -> tuple[Variables, Variables]:
    """Part the models after the last slice from the earlier ones."""
    return (
        jax.tree.map(lambda leaf: leaf[:, -1], trained),
        jax.tree.map(lambda leaf: leaf[:, :-1], trained),
    )
