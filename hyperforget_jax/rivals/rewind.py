"""Rewind: go back along the descent, and come down again without the forgotten."""

from typing import Any, NamedTuple

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
    Unlearner,
    Variables,
)
from hyperforget_jax.forgotten import Forgotten
from hyperforget_jax.methods.keeping import keeping
from hyperforget_jax.methods.stateless import ModelInfo
from hyperforget_jax.rivals.gradients import mean_gradient

__all__ = ["RewindState", "rewind"]


class RewindState(NamedTuple):
    """A model, and the earlier one that every request starts from.

    Attributes:
        variables: the current model's variables.
        start: the earlier parameters.
        undone: how many steps earlier, int32, ``[]``.
        forgotten: what earlier requests forgot.
    """

    variables: Variables
    start: Any
    undone: Array
    forgotten: Forgotten


def rewind(
    classifier: Classifier,
    *,
    step_size: Any = 0.01,
    steps: int = 50,
    noise: Any = 1e-3,
    inner_steps: int = 5,
    batch_size: int = 512,
) -> Unlearner:
    r"""Undo steps of full-batch descent, take as many on the retained data, add noise.

    ``init`` rebuilds an earlier model: each step of descent on all data is undone by
    solving :math:`\theta_t = \theta_{t+1} + \eta \nabla L(\theta_t)`, a proximal-point
    step on ``-L``, by fixed-point iterations. They converge for small steps; one not
    undone to a tenth of its length is left, as are those before it. A request takes as
    many steps on the mean loss of the retained data, and then adds Gaussian noise.

    **It has no certificate here.** The noise for one follows from bounds of the loss's
    gradient and smoothness, which nobody knows of a network, and holds for models that
    were trained by this very descent. Whoever kept a checkpoint of such a one puts it
    in: ``state._replace(start=params, undone=...)``.

    ``init`` reads the training data ``steps * (inner_steps + 1)`` times, a request the
    retained data. The earlier model saw the forgotten data, and is kept.

    Args:
        classifier: the model, in evaluation mode: normalisation statistics stay.
        step_size: eta, of descent and of what undoes it. Not tuned.
        steps: how many are undone and taken.
        noise: standard deviation of what is added to each parameter; may be zero.
        inner_steps: fixed-point iterations a step.
        batch_size: rows at once; all of them make one step.

    References:
        Mu and Klabjan, Rewind-to-Delete: certified machine unlearning for nonconvex
        functions, arXiv 2409.09778, 2025.
    """
    checks.check_positive(step_size=step_size)
    checks.check_factor(noise=noise)
    checks.check_sizes(steps=steps, inner_steps=inner_steps, batch_size=batch_size)

    def moved(params: Any, at: Any, variables: Variables, data: Examples, by: Any):
        """Add a multiple of the gradient at other parameters."""
        variables = {**variables, "params": at}
        gradient = mean_gradient(classifier, variables, data, batch_size)
        return optax.apply_updates(params, optax.tree.scale(by, gradient))

    def prepare(variables: Variables, data: Examples):
        def undo(carry, _):
            params, undone, going = carry

            def iterate(_, guess):
                return moved(params, guess, variables, data, step_size)

            guess = lax.fori_loop(0, inner_steps, iterate, params)
            back = moved(guess, guess, variables, data, -step_size)
            off, size = _distance(back, params), _distance(guess, params)
            going &= (off <= 0.1 * size) & jnp.isfinite(size)
            params = jax.tree.map(lambda g, p: jnp.where(going, g, p), guess, params)
            return (params, undone + going.astype(jnp.int32), going), None

        first = variables["params"], jnp.zeros((), jnp.int32), jnp.ones((), bool)
        (start, undone, _), _ = lax.scan(undo, first, None, length=steps)
        return variables, start, undone

    def answer(key, variables, start, undone, request):
        def descend(params, number):
            # Steps that were not undone are not taken either.
            rate = jnp.where(number < undone, -step_size, 0)
            return moved(params, params, variables, request.retain, rate), None

        params, _ = lax.scan(descend, start, jnp.arange(steps))
        drawn = optax.tree.scale(noise, optax.tree.random_like(key, params))
        after = {**variables, "params": optax.apply_updates(params, drawn)}
        return after, (start, undone), ModelInfo

    access = Access(
        init={"retain", "forget"},
        unlearn={"retain"},
        remains="an earlier model, of all data; normalisation statistics",
    )
    return keeping(classifier, RewindState, prepare, answer, access)


def _distance(first: Any, second: Any) -> Array:
    return optax.tree.norm(optax.tree.cast(optax.tree.sub(first, second), jnp.float32))
