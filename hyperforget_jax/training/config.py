"""How models are fitted: an optimiser, and minibatches for it."""

import dataclasses
from collections.abc import Callable

import optax

from hyperforget_jax import checks
from hyperforget_jax.base import Array, Examples, Variables
from hyperforget_jax.training import loop
from hyperforget_jax.training.optimizers import check_optimizer

__all__ = ["FitConfig"]


@dataclasses.dataclass(frozen=True)
class FitConfig:
    """How a model is fitted.

    Attributes:
        optimizer: any optax optimiser.
        steps: minibatches.
        batch_size: rows in each.

    Raises:
        TypeError, ValueError: no optimiser, or sizes that are no positive integers.
    """

    optimizer: optax.GradientTransformation
    steps: int
    batch_size: int = 128

    def __post_init__(self):
        checks.check_sizes(steps=self.steps, batch_size=self.batch_size)
        check_optimizer(self.optimizer)

    def run(
        self,
        key: Array,
        loss_fn: loop.LossFn,
        variables: Variables,
        sources: tuple[Examples, ...],
        padded: tuple[bool, ...] = (),
    ) -> tuple[Variables, loop.LoopInfo]:
        """Take all steps; arguments as for ``loop.run_steps``."""
        state, loss = loop.run_steps(
            key,
            loss_fn,
            loop.init(variables, self.optimizer),
            sources,
            self.optimizer,
            steps=self.steps,
            batch_size=self.batch_size,
            padded=padded,
        )
        return state.variables, loop.LoopInfo(loss, state.failed_at)

    def minimise(
        self,
        key: Array,
        loss: Callable[..., Array],
        variables: Variables,
        sources: tuple[Examples, ...],
        padded: tuple[bool, ...] = (),
    ) -> tuple[Variables, loop.LoopInfo]:
        """Take all steps in evaluation mode: statistics stay, and nothing is drawn.

        ``loss`` is of the variables and a minibatch of each source.
        """

        def loss_fn(key, variables, batches):
            del key
            return loss(variables, *(batch.examples for batch in batches)), variables

        return self.run(key, loss_fn, variables, sources, padded)
