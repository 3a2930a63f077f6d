"""Softmax regression on four clusters, for the tests of this folder."""

from tests.softmax import linear, make_examples, make_variables

__all__ = ["linear", "make_examples", "make_variables"]
