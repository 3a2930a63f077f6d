"""Host-side checks of what users bring, made before anything is compiled.

Values can only be looked at where they are concrete: under a trace these checks
look at shapes and dtypes alone.
"""

from hyperforget_jax.checks.classifiers import (
    check_classifier,
    check_init,
    check_is_classifier,
    check_is_request,
    check_request,
    check_variables_given,
)
from hyperforget_jax.checks.examples import (
    check_examples,
    check_held_out,
    check_is_examples,
    check_labels,
    check_weights,
)
from hyperforget_jax.checks.values import (
    check_arrays,
    check_axes,
    check_factor,
    check_is,
    check_is_function,
    check_key,
    check_one_of,
    check_positive,
    check_seed,
    check_sizes,
    is_concrete,
)

__all__ = [
    "check_arrays",
    "check_axes",
    "check_classifier",
    "check_examples",
    "check_factor",
    "check_held_out",
    "check_init",
    "check_is",
    "check_is_classifier",
    "check_is_examples",
    "check_is_function",
    "check_is_request",
    "check_key",
    "check_labels",
    "check_one_of",
    "check_positive",
    "check_request",
    "check_seed",
    "check_sizes",
    "check_variables_given",
    "check_weights",
    "is_concrete",
]
