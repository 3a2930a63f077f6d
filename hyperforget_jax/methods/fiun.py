"""FIUn on one model: what a whole graph would do, where root and descendant are one."""

import jax.numpy as jnp

from hyperforget_jax import checks, fisher
from hyperforget_jax.base import (
    OUTPUT_MASK,
    Array,
    Classifier,
    Examples,
    ForgetRequest,
    Unlearner,
    Variables,
)
from hyperforget_jax.fisher import FIUnConfig
from hyperforget_jax.forgotten import check_known, nothing_forgotten, recall, remember
from hyperforget_jax.keys import as_threefry
from hyperforget_jax.methods.change import change
from hyperforget_jax.methods.fisher_state import FisherInfo, FisherState
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
      touched, and by accuracy that cannot be told from masking a logit. It was nearer
      to retraining than the mask in outputs and in relearning, where dampening deeper
      layers was not.

    A whole graph of models is :func:`hyperforget_jax.inheritance.fiun`.

    Args:
        classifier: the model, with taps.
        config: one of the above, or another; or a preset's name, ``"repaired"`` (the
            default), ``"published"`` or ``"head_reassign"``.

    Raises:
        TypeError, ValueError: no classifier, no configuration, or no preset's name.

    References:
        Liu et al., Fishers harvest parallel unlearning in inherited model networks,
        arXiv 2408.08493, 2024. The default and ``head_reassign`` are not in it.
    """
    checks.check_is_classifier(classifier)
    config = fisher.as_config(config)

    def init(key: Array, variables: Variables, data: Examples) -> FisherState:
        checks.check_key(key)  # Nothing here is random.
        num_classes = checks.check_init(classifier, variables, data)
        head = find_head(classifier, variables, data.x)
        if config.reinitialise:
            variables = {OUTPUT_MASK: jnp.zeros(num_classes, bool), **variables}
        return FisherState(
            variables,
            fisher.data_fisher(classifier, variables, data, config, head),
            nothing_forgotten(data, num_classes),
        )

    def unlearn(key: Array, state: FisherState, request: ForgetRequest):
        key = as_threefry(key)
        checks.check_is(FisherState, "what init gave", state=state)
        checks.check_request(classifier, state.variables, request)
        fisher.check_effect(config, request)
        check_known(state.forgotten, request)
        request, refused = recall(state.forgotten, request)
        forget, variables, own = request.forget, state.variables, state.fisher
        head = find_head(classifier, variables, forget.x)
        fresh = classifier.init(key, forget.x)["params"]
        found = fisher.forget_statistics(classifier, variables, request, config, head)
        scaled = fisher.on_scale(found, own, config)
        changed, info = fisher.update(variables, own, scaled, fresh, config, head)
        if own is not None and found.fisher is not None:
            own = fisher.without(own, found.fisher, forget.weight)
        moved = change(
            classifier, variables, changed, forget, batch_size=config.batch_size
        )
        forgotten = remember(state.forgotten, request)
        return FisherState(changed, own, forgotten), FisherInfo(
            info.dampened, refused, moved
        )

    return Unlearner(init, unlearn, config.access)
