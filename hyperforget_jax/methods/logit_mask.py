"""The trivial cheat for class requests: never predict the class."""

import jax.numpy as jnp

from hyperforget_jax import checks
from hyperforget_jax.base import (
    OUTPUT_MASK,
    Access,
    Array,
    Classifier,
    Examples,
    ForgetRequest,
    Unlearner,
    Variables,
)
from hyperforget_jax.forgotten import nothing_forgotten
from hyperforget_jax.methods.change import change
from hyperforget_jax.methods.stateless import ModelInfo, ModelState

__all__ = ["logit_mask"]


def logit_mask(classifier: Classifier) -> Unlearner:
    """Suppress the logits of the requested classes, and touch no parameter.

    Forget accuracy falls to zero, and nothing is forgotten: whoever holds the
    variables drops the mask. It keeps every claim honest, and an audit that cannot
    catch it is not worth having. A request for single rows changes nothing.

    It reads the requested classes, and of the training data their shape alone. The
    mask is the entry ``"output_mask"`` of the variables, bool ``[C]``, which the
    ``apply`` of every adapter honours.

    Args:
        classifier: the model, made by one of the adapters.
    """
    checks.check_is_classifier(classifier)

    def init(key: Array, variables: Variables, data: Examples) -> ModelState:
        checks.check_key(key)  # Nothing here is random.
        num_classes = checks.check_init(classifier, variables, data)
        nothing = jnp.zeros(num_classes, bool)
        return ModelState(
            {OUTPUT_MASK: nothing, **variables}, nothing_forgotten(data, num_classes)
        )

    def unlearn(key: Array, state: ModelState, request: ForgetRequest):
        checks.check_key(key)  # Nothing here is random.
        checks.check_is(ModelState, "what init gave", state=state)
        mask = state.variables[OUTPUT_MASK]
        checks.check_is_request(request, mask.shape[0])
        masked = {**state.variables, OUTPUT_MASK: mask | request.classes}
        forgotten = state.forgotten
        forgotten = forgotten._replace(classes=forgotten.classes | request.classes)
        info = ModelInfo(
            jnp.zeros((), jnp.int32), change(classifier, state.variables, masked)
        )
        return ModelState(masked, forgotten), info

    access = Access(unlearn={"classes"}, remains="everything, behind a mask")
    return Unlearner(init, unlearn, access)
