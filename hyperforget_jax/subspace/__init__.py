"""The subspace that data use in every layer, and changes that stay clear of it."""

from hyperforget_jax.subspace.drift import drift, relative_drift
from hyperforget_jax.subspace.grams import Grams, add, measure, subtract, without_bias
from hyperforget_jax.subspace.ledger import (
    Ledger,
    check_held,
    ledger_of,
    order_of,
    places,
    strike,
)
from hyperforget_jax.subspace.margins import Margins, margins_of
from hyperforget_jax.subspace.projection import (
    Subspace,
    by_room,
    complement,
    from_coordinates,
    project_out,
    protected,
    soft_complement,
    to_coordinates,
)
from hyperforget_jax.subspace.ranks import RANK_RULES, check_rank_rule, keep
from hyperforget_jax.subspace.spectrum import Spectrum, decompose
from hyperforget_jax.subspace.store import Store, load_store, save_store

__all__ = [
    "Grams",
    "Ledger",
    "Margins",
    "RANK_RULES",
    "Spectrum",
    "Store",
    "Subspace",
    "add",
    "by_room",
    "check_held",
    "check_rank_rule",
    "complement",
    "decompose",
    "drift",
    "from_coordinates",
    "keep",
    "ledger_of",
    "load_store",
    "margins_of",
    "measure",
    "order_of",
    "places",
    "project_out",
    "protected",
    "relative_drift",
    "save_store",
    "soft_complement",
    "strike",
    "subtract",
    "to_coordinates",
    "without_bias",
]
