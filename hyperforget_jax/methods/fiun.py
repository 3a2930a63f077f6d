"""FIUn on one model: what a whole graph would do, where root and descendant are one."""

import functools

import jax
import jax.numpy as jnp

from hyperforget_jax import fisher
from hyperforget_jax.base import (
    OUTPUT_MASK,
    Classifier,
    Examples,
    Unlearner,
    Variables,
)
from hyperforget_jax.fisher import FIUnConfig
from hyperforget_jax.methods.dampening import FisherInfo, FisherState
from hyperforget_jax.methods.keeping import keeping
from hyperforget_jax.models.head import find_head

__all__ = ["fiun"]

_DEFAULT = FIUnConfig()


def fiun(classifier: Classifier, config: FIUnConfig | str = _DEFAULT) -> Unlearner:
    """Make one model forget by Fisher information.

    - ``hf.FIUnConfig()``, the default, since it answers requests for classes and for
      rows: exact Fishers, the threshold a share of Fisher, a centred head of which for
      class requests the requested columns alone are touched, and all layers.
    - ``hf.FIUnConfig.published()``: the ratio of Fishers from minibatch gradients
      selects and scales the parameters of the last layer, threshold and ``lambda`` one.
    - ``hf.FIUnConfig.head_reassign()``, for class requests alone: the forgotten column
      of the head is added to those of the classes that its examples resemble, in
      proportion to what the model predicts when the class is suppressed, and a fresh
      column takes its place, masked as an unknown class is. No layer before the head is
      touched, and by accuracy that cannot be distinguished from masking a logit. It was
      nearer to retraining than the mask in outputs and in relearning, where dampening
      deeper layers was not.

    A whole graph of models is :func:`hyperforget_jax.inheritance.fiun`.

    Args:
        classifier: the model, with taps.
        config: one of the above, or another; or a preset's name, ``"repaired"`` (the
            default), ``"published"`` or ``"head_reassign"``.

    Raises:
        TypeError, ValueError: no classifier, no configuration, or no preset's name.

    Examples:
        >>> import jax
        >>> import optax
        >>> import hyperforget_jax as hf
        >>> train = hf.data.load("digits").train
        >>> classifier = hf.from_linen(hf.models.MLP((16,)))
        >>> keys = jax.random.split(jax.random.key(0), 3)
        >>> variables = hf.fit(keys[0], classifier, train, optax.adam(5e-3), 200)
        >>> unlearner = hf.fiun(classifier)
        >>> state = unlearner.init(keys[1], variables, train)
        >>> request = hf.forget_classes(train, [3])
        >>> state, info = jax.jit(unlearner.unlearn)(keys[2], state, request)
        >>> state.forgotten.classes.nonzero()[0].tolist()
        [3]
        >>> float(info.change.forget_accuracy)
        0.0

    References:
        Liu et al., Fishers harvest parallel unlearning in inherited model networks,
        arXiv 2408.08493, 2024. The default and ``head_reassign`` are not in it.
    """
    config = fisher.as_config(config)

    def prepare(variables: Variables, data: Examples):
        head = find_head(classifier, variables, data.x)
        if config.reinitialise:
            logits = jax.eval_shape(classifier.apply, variables, data.x)
            nothing = jnp.zeros(logits.shape[-1], bool)
            variables = {OUTPUT_MASK: nothing, **variables}
        own = fisher.data_fisher(classifier, variables, data, config, head)
        return variables, own

    def answer(key, variables, own, request):
        forget = request.forget
        head = find_head(classifier, variables, forget.x)
        fresh = classifier.init(key, forget.x)["params"]
        found = fisher.forget_statistics(classifier, variables, request, config, head)
        scaled = fisher.on_scale(found, own, config)
        changed, info = fisher.update(variables, own, scaled, fresh, config, head)
        if own is not None and found.fisher is not None:
            own = fisher.without(own, found.fisher, forget.weight)
        return changed, (own,), functools.partial(FisherInfo, info.dampened)

    return keeping(
        classifier,
        FisherState,
        prepare,
        answer,
        config.access,
        batch_size=config.batch_size,
        notice=lambda request: fisher.check_effect(config, request),
    )
