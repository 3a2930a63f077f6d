"""What is said of how much a request changed a model."""

import jax
import numpy as np

from hyperforget_jax.methods.change import Change

ONE = Change(*np.float32([0.25, 0.8661, 0, 0.98765]))


def test_a_change_reads_as_one_line():
    assert str(ONE) == (
        "share of parameters moved 0.25, relative distance 0.866, accuracy on the "
        "forget data 0.988 before, 0 after"
    )
    assert str(ONE._replace(forget_accuracy=None, forget_accuracy_before=None)) == (
        "share of parameters moved 0.25, relative distance 0.866"
    )


def test_that_of_several_models_has_every_number():
    two = jax.tree.map(lambda leaf: np.stack([leaf, leaf]), ONE)
    assert "moved [0.25 0.25], relative distance [0.866 0.866]" in str(two)


def test_within_an_info_it_is_short_too():
    assert repr((ONE._replace(forget_accuracy_before=None),)) == (
        "(Change(moved=0.25, distance=0.866, forget_accuracy=0, "
        "forget_accuracy_before=None),)"
    )


def test_without_values_it_is_the_tuple():
    traced = []
    jax.eval_shape(lambda change: traced.append(str(change)), ONE)
    assert traced[0].startswith("Change(moved=") and "racer" in traced[0]
