"""FIUn on one model: what a whole graph would do, where root and heir are the same."""

from typing import Any, NamedTuple

import jax.numpy as jnp

from hyperforget_jax import checks, fisher
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
from hyperforget_jax.fisher import Fisher
from hyperforget_jax.forgotten import (
    Forgotten,
    check_known,
    nothing_forgotten,
    recall,
    remember,
)
from hyperforget_jax.inheritance import (
    check_effect,
    find_head,
    impress,
    measure,
    on_scale,
    rule,
    update,
)
from hyperforget_jax.keys import as_threefry
from hyperforget_jax.methods.change import Change, change

__all__ = ["FIUnInfo", "FIUnState", "fiun"]


class FIUnState(NamedTuple):
    """What FIUn carries between requests.

    Attributes:
        variables: the current model's variables.
        fisher: diagonal Fisher of the training data that are left; None if the rule
            dampens nothing.
        forgotten: what earlier requests forgot.
    """

    variables: Variables
    fisher: Fisher | None
    forgotten: Forgotten


class FIUnInfo(NamedTuple):
    """How a request went.

    Attributes:
        dampened: share of the parameters that were dampened, float32, ``[]``.
        refused: how many rows were asked for that ``init`` was not given: they are not
            forgotten, int32, ``[]``.
        change: how much the model was changed.
    """

    dampened: Array
    refused: Array
    change: Change


def fiun(classifier: Classifier, preset: str = "repaired", **changes: Any) -> Unlearner:
    """Fisher unlearning of one model, by the rule that unlearns graphs of them.

    - ``"published"``: the ratio of Fishers from minibatch gradients selects and scales
      the parameters of the last layer, threshold and ``lambda`` one.
    - ``"repaired"``: exact Fishers, the threshold a share of Fisher, a centred head of
      which for class requests the requested columns alone are touched, and all layers.
    - ``"folded"``, for class requests alone: the forgotten column of the head is added
      to those of the classes that its examples resemble, in proportion to what the
      model answers when the class is suppressed, and a fresh column takes its place,
      masked as an unknown class is. No layer before the head is touched, and by
      accuracy that cannot be told from masking a logit. It was nearer to retraining
      than the mask in outputs and in relearning, where dampening deeper layers was not.

    A whole graph of models is :func:`hyperforget_jax.inheritance.unlearn`.

    Args:
        classifier: the model, with taps.
        preset: one of the above.
        **changes: any attribute of :class:`hyperforget_jax.inheritance.Rule`.

    Raises:
        ValueError, TypeError: as for :func:`hyperforget_jax.inheritance.rule`; a
            request for rows under a rule that changes classes alone, where that can be
            seen.

    References:
        Liu et al., Fishers harvest parallel unlearning in inherited model networks,
        arXiv 2408.08493, 2024. ``repaired`` and ``folded`` are not in it.
    """
    checks.check_is_classifier(classifier)
    how = rule(preset, **changes)

    def init(key: Array, variables: Variables, data: Examples) -> FIUnState:
        checks.check_key(key)  # Nothing here is random.
        num_classes = checks.check_init(classifier, variables, data)
        head = find_head(classifier, variables, data.x)
        if how.renew:
            variables = {OUTPUT_MASK: jnp.zeros(num_classes, bool), **variables}
        return FIUnState(
            variables,
            measure(classifier, variables, data, how, head),
            nothing_forgotten(data, num_classes),
        )

    def unlearn(key: Array, state: FIUnState, request: ForgetRequest):
        key = as_threefry(key)
        checks.check_is(FIUnState, "what init gave", state=state)
        checks.check_request(classifier, state.variables, request)
        check_effect(how, request)
        check_known(state.forgotten, request)
        request, refused = recall(state.forgotten, request)
        forget, variables = request.forget, state.variables
        head = find_head(classifier, variables, forget.x)
        fresh = classifier.init(key, forget.x)["params"]
        found = impress(classifier, variables, request, how, head)
        scaled = on_scale(found, state.fisher, how)
        changed, info = update(variables, state.fisher, scaled, fresh, how, head)
        left = state.fisher
        if left is not None and found.fisher is not None:
            left = fisher.without(left, found.fisher, forget.weight)
        told = change(classifier, variables, changed, forget, batch_size=how.batch_size)
        forgotten = remember(state.forgotten, request)
        return FIUnState(changed, left, forgotten), FIUnInfo(
            info.dampened, refused, told
        )

    dampens = how.scope != "none"
    selects = how.only_columns or how.renew or how.centre or how.folds
    access = Access(
        init=frozenset({"retain", "forget"} if dampens else ()),
        unlearn=frozenset({"forget", "classes"} if selects else {"forget"}),
        remains=(
            "the Fisher, less the forgotten share; normalisation statistics"
            if dampens
            else "all layers but the head; normalisation statistics"
        ),
    )
    return Unlearner(init, unlearn, access)
