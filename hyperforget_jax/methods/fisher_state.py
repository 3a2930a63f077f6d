"""What methods that keep a Fisher carry between requests, and what they report."""

from typing import NamedTuple

from hyperforget_jax.base import Array, Variables
from hyperforget_jax.fisher import Fisher
from hyperforget_jax.forgotten import Forgotten
from hyperforget_jax.methods.change import Change

__all__ = ["FisherInfo", "FisherState"]


class FisherState(NamedTuple):
    """What a method that keeps a Fisher carries between requests.

    Attributes:
        variables: the current model's variables.
        fisher: diagonal Fisher of the training data that are left; None if nothing is
            dampened.
        forgotten: what earlier requests forgot.
    """

    variables: Variables
    fisher: Fisher | None
    forgotten: Forgotten


class FisherInfo(NamedTuple):
    """How a request went.

    Attributes:
        dampened: share of the parameters that were dampened, float32, ``[]``.
        refused: how many rows were asked for that ``init`` was not given: they are not
            forgotten, int32, ``[]``.
        change: how much the model was changed.
    """

    dampened: Array
    refused: Array
    change: Change
