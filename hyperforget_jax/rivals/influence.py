"""Influence: one Newton step from all data's objective to the retained data's."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.scipy.sparse.linalg import cg

from hyperforget_jax import checks
from hyperforget_jax.base import Access, Classifier, Examples, Unlearner, Variables
from hyperforget_jax.methods.stateless import stateless
from hyperforget_jax.microbatch import sum_over
from hyperforget_jax.rivals.gradients import at_least_single, sum_of_gradients

__all__ = ["gauss_newton_product", "influence"]


def influence(
    classifier: Classifier,
    *,
    scale: float = 1.0,
    damping: float = 0.1,
    iterations: int = 20,
    batch_size: int = 256,
) -> Unlearner:
    r"""Undo what the forgotten did to the model, to second order.

    .. math:: \theta \leftarrow \theta + s\, (G_r + \lambda I)^{-1}
              (\bar g_D - \bar g_r), \qquad
              \bar g_D - \bar g_r = \tfrac{n_f}{n} (\bar g_f - \bar g_r)

    ``g`` are mean gradients of the cross-entropy on all, retained and forgotten data,
    and ``G`` the Gauss-Newton matrix of the retained. With ``s = 1`` it leads from the
    minimum on all data to that on the retained, to second order; a model that is at no
    minimum is not trained on. The system is solved by conjugate gradients on products
    with the matrix, which is never formed. (Public code of this name runs a recursion
    over a thousand examples that is no inverse of their outer products, and on one data
    set takes both gradients on the forget data. It is not built here.) A step that is
    not finite leaves the model as it is.

    It reads both halves of the data when a request comes, the retained as often as
    there are iterations. The defaults are not tuned. Of a model that errs on none of
    its data the gradients are next to nothing, and so is the step: see info.change.

    Args:
        classifier: the model.
        scale: ``s``, how many such steps in one.
        damping: ``lambda``. Curvature below it counts as flat.
        iterations: of conjugate gradients, at the most.
        batch_size: rows at once.

    References:
        Koh and Liang, Understanding black-box predictions via influence functions,
        arXiv 1703.04730, 2017; Izzo et al., Approximate data deletion from machine
        learning models, arXiv 2002.10077, 2021; Jia et al., Model sparsity can simplify
        machine unlearning, arXiv 2304.04934, 2023, for its use as a baseline.
    """
    checks.check_positive(scale=scale, damping=damping)
    checks.check_sizes(iterations=iterations, batch_size=batch_size)

    def forget_fn(key, variables, request):
        del key  # Nothing here is random.
        forget, retain = request.forget, request.retain
        of_forget, of_retain = (
            sum_of_gradients(classifier, variables, half, batch_size)
            for half in (forget, retain)
        )
        lost, left = (jnp.sum(h.weight, dtype=jnp.float32) for h in (forget, retain))
        # Sums and not means, of which an empty half has none.
        share, left = lost / jnp.maximum(lost + left, 1), jnp.maximum(left, 1)
        difference = jax.tree.map(
            lambda f, r: f / jnp.maximum(lost, 1) - r / left, of_forget, of_retain
        )
        target = optax.tree.scale(share, difference)

        def product(vector):
            summed = gauss_newton_product(
                classifier, variables, retain, vector, batch_size=batch_size
            )
            return jax.tree.map(lambda g, v: g / left + damping * v, summed, vector)

        # Of length one: squares of a fitted model's gradients underflow in float32.
        norm = optax.tree.norm(target)
        unit = optax.tree.scale(1 / jnp.where(norm > 0, norm, 1), target)
        step = optax.tree.scale(norm, cg(product, unit, maxiter=iterations)[0])
        finite = jnp.isfinite(optax.tree.norm(step))
        params = jax.tree.map(
            lambda leaf, by: jnp.where(
                finite, (leaf + scale * by).astype(leaf.dtype), leaf
            ),
            variables["params"],
            step,
        )
        return {**variables, "params": params}, None

    access = Access(unlearn={"retain", "forget"}, remains="normalisation statistics")
    return stateless(classifier, forget_fn, access)


def gauss_newton_product(
    classifier: Classifier,
    variables: Variables,
    data: Examples,
    vector: Any,
    *,
    batch_size: int,
) -> Any:
    """Multiply the Gauss-Newton matrix, summed over examples, by a vector.

    The vector is like ``params``, at least float32, as is what is returned. Examples of
    weight zero may hold anything; ``batch_size`` of them are taken at once.
    """

    def of_batch(batch):
        def logits_of(params):
            logits = classifier.apply({**variables, "params": params}, batch.x)
            return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))

        params = variables["params"]
        tangent = jax.tree.map(lambda v, p: v.astype(p.dtype), vector, params)
        logits, moved = jax.jvp(logits_of, (params,), (tangent,))
        p = jax.nn.softmax(logits, axis=-1)
        bent = p * (moved - jnp.sum(p * moved, axis=-1, keepdims=True))
        weight = batch.weight[:, None].astype(bent.dtype)
        _, pull = jax.vjp(logits_of, params)
        return at_least_single(pull(weight * bent)[0])

    return sum_over(of_batch, data, batch_size)
