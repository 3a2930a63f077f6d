"""Rivals: methods of others, under the same protocol, to compare with."""

from hyperforget_jax.rivals.assd import assd
from hyperforget_jax.rivals.bad_teaching import bad_teaching
from hyperforget_jax.rivals.boundary_expand import boundary_expand
from hyperforget_jax.rivals.boundary_shrink import boundary_shrink
from hyperforget_jax.rivals.cf_k import cf_k
from hyperforget_jax.rivals.ct import ct
from hyperforget_jax.rivals.damp import damp
from hyperforget_jax.rivals.eu_k import eu_k
from hyperforget_jax.rivals.fcs import fcs
from hyperforget_jax.rivals.fisher_noise import fisher_noise
from hyperforget_jax.rivals.influence import influence
from hyperforget_jax.rivals.jit_lipschitz import jit_lipschitz
from hyperforget_jax.rivals.kfade import kfade
from hyperforget_jax.rivals.l1_sparse import l1_sparse
from hyperforget_jax.rivals.lfssd import lfssd
from hyperforget_jax.rivals.msg import msg
from hyperforget_jax.rivals.random_labels import random_labels
from hyperforget_jax.rivals.regun import regun
from hyperforget_jax.rivals.rewind import rewind
from hyperforget_jax.rivals.salun import salun
from hyperforget_jax.rivals.scrub import scrub
from hyperforget_jax.rivals.sisa import sisa
from hyperforget_jax.rivals.svd_forgetting import svd_forgetting
from hyperforget_jax.rivals.unsir import unsir

__all__ = [
    "assd",
    "bad_teaching",
    "boundary_expand",
    "boundary_shrink",
    "cf_k",
    "ct",
    "damp",
    "eu_k",
    "fcs",
    "fisher_noise",
    "influence",
    "jit_lipschitz",
    "kfade",
    "l1_sparse",
    "lfssd",
    "msg",
    "random_labels",
    "regun",
    "rewind",
    "salun",
    "scrub",
    "sisa",
    "svd_forgetting",
    "unsir",
]
