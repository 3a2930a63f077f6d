"""A warning points at the line that the user wrote, however deep it arises."""

import functools
import inspect

import jax
import pytest

import hyperforget_jax as hf
from hyperforget_jax.methods.defaults import warn_of_few_rows
from tests import toys

DATA = toys.points()
FEW = hf.forget_rows(DATA, [0, 1])


def here():
    """The line that calls this."""
    return inspect.currentframe().f_back.f_lineno


def abstract(function):
    return functools.partial(jax.eval_shape, function)


@pytest.mark.parametrize("transform", [jax.jit, abstract, None])
def test_a_warning_points_at_the_call(transform):
    sizes = dict(steps=5, batch_size=4, chosen_at=(5, 4, 100))
    warn = functools.partial(warn_of_few_rows, "hf.ascent", **sizes)
    call = warn if transform is None else transform(warn)
    with pytest.warns(UserWarning, match=r"hf\.ascent") as said:
        line = here() + 1
        call(FEW)
    assert [(each.filename, each.lineno) for each in said] == [(__file__, line)]
