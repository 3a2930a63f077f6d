"""How every method is made of plain numbers, as recipes and searches hold them."""

import functools
from collections.abc import Callable, Mapping

import optax

from hyperforget_jax import rivals
from hyperforget_jax.base import Unlearner
from hyperforget_jax.fisher import FIUnConfig
from hyperforget_jax.methods.ascent import ascent
from hyperforget_jax.methods.finetune import finetune
from hyperforget_jax.methods.fiun import fiun
from hyperforget_jax.methods.logit_mask import logit_mask
from hyperforget_jax.methods.neggrad_plus import neggrad_plus
from hyperforget_jax.methods.pgu import pgu
from hyperforget_jax.methods.pgu_config import PGUConfig
from hyperforget_jax.methods.ssd import ssd

__all__ = ["MAKERS", "Maker"]

Maker = Callable[..., Unlearner]

# The kinds of optimiser of those who do not take Adam by itself.
_OPTIMIZERS = {
    "fcs": functools.partial(optax.sgd, momentum=0.9),
    # Above the rounding errors of its first gradients.
    "scrub": functools.partial(optax.adam, eps=1e-5),
}


def _by_rates(make: Maker) -> Maker:
    """Take learning rates in place of optimisers."""
    optimizer = _OPTIMIZERS.get(make.__name__, optax.adam)

    def made(classifier, **settings):
        given = {
            name.replace("learning_rate", "optimizer"): (
                optimizer(value) if name.endswith("learning_rate") else value
            )
            for name, value in settings.items()
        }
        return make(classifier, **given)

    return made


def _fiun(classifier, **settings):
    return fiun(classifier, FIUnConfig(**settings))


def _pgu(classifier, probe=None, **settings):
    return pgu(classifier, PGUConfig(**settings), probe=probe)


# ``make(classifier, **settings)``. No settings are the method's own defaults.
MAKERS: Mapping[str, Maker] = {
    "fiun": _fiun,
    "pgu": _pgu,
    **{
        make.__name__: _by_rates(make)
        for make in (
            *(logit_mask, finetune, ascent, neggrad_plus, ssd),
            # SISA trains its own models in its own way, and has no others to answer.
            *(getattr(rivals, name) for name in rivals.__all__ if name != "sisa"),
        )
    },
}
