"""All models of one architecture changed together, and in place where they may be."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jax import lax

from hyperforget_jax import fisher
from hyperforget_jax.base import Array, Classifier, ForgetRequest, Variables
from hyperforget_jax.fisher import Fisher, FIUnConfig, ForgetStatistics, UpdateInfo
from hyperforget_jax.models.head import Head

__all__ = ["anything_asked", "if_asked", "update_models"]


def anything_asked(requests: Mapping[str, ForgetRequest]) -> Array:
    """Return whether any request names a class, or a row that is there."""
    return jnp.any(
        jnp.stack(
            [
                jnp.any(request.classes) | jnp.any(request.forget.weight > 0)
                for request in requests.values()
            ]
        )
    )


def if_asked(
    asked: Array,
    update: Callable[..., tuple[Variables, UpdateInfo]],
    variables: Variables,
    own: Fisher | None,
    gone: Array | None,
) -> tuple[Variables, UpdateInfo, Array | None]:
    """Change models if anything is asked for, and leave them as they are if not.

    ``gone`` is given back, or zeros: so what is taken out of the Fishers waits for the
    conditional, which has then read them. XLA writes both in place in a donated state.
    Were the two independent, it would copy the Fishers first.

    Args:
        asked: bool, ``[]``.
        update: takes ``variables`` and ``own``; see :func:`update_models`.
        variables: stacked, ``[M, ...]``.
        own: the models' Fishers, stacked.
        gone: what is taken out of them by root, ``[M, J]``.

    Returns:
        The variables, how they were changed, and ``gone``.
    """

    def change(variables, own, gone):
        return *update(variables, own), gone

    def leave(variables, own, gone):
        info = jax.eval_shape(update, variables, own)[1]
        info, gone = jax.tree.map(
            lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), (info, gone)
        )
        return variables, info, gone

    return lax.cond(asked, change, leave, variables, own, gone)


def update_models(
    variables: Variables,
    own: Fisher | None,
    *,
    key: Array,
    statistics: ForgetStatistics,
    reach: Array,
    blank: Array,
    classifier: Classifier,
    config: FIUnConfig,
    head: Head,
) -> tuple[Variables, UpdateInfo]:
    """Change M models by what reaches them; who is not reached stays.

    Args:
        variables: stacked, ``[M, ...]``.
        own: the models' Fishers, stacked.
        key: to draw from, for ``reinitialise``.
        statistics: of J roots, stacked, see ``on_scale``.
        reach: which roots reach which model, bool, ``[M, J]``.
        blank: an example to make a model for, ``[1, ...]``.
        classifier: the models.
        config: of FIUn.
        head: the models' last layer.
    """

    def change(key, variables, own, reaching, reached):
        fresh = classifier.init(key, blank)["params"]
        new, info = fisher.update(variables, own, reaching, fresh, config, head)
        # What is not changed is given back as it is: a donated state keeps it.
        new = jax.tree.map(
            lambda n, o: o if n is o else jnp.where(reached, n, o), new, variables
        )
        return new, jax.tree.map(lambda leaf: jnp.where(reached, leaf, 0), info)

    return jax.vmap(change)(
        jax.random.split(key, reach.shape[0]),
        variables,
        own,
        fisher.merge_statistics(statistics, reach),
        jnp.any(reach, axis=1),
    )
