"""The conformance table holds every public method."""

import hyperforget_jax as hf
from tests.methods.table import ENSEMBLES, METHODS, RIVALS


def test_every_public_method_stands_in_the_table():
    public = {
        name
        for name in hf.__all__
        if getattr(getattr(hf, name), "__module__", "").startswith(
            "hyperforget_jax.methods."
        )
        and not isinstance(getattr(hf, name), type)  # A state is no method.
    }
    assert public and public <= set(METHODS)


def test_every_rival_stands_in_the_table_too():
    assert set(hf.rivals.__all__) == {*RIVALS, *ENSEMBLES}
