"""One request answered, with the time that it took."""

import json
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from hyperforget_jax import trees
from hyperforget_jax.base import Array, ForgetRequest, Unlearner, Variables
from hyperforget_jax.report.records import plain

__all__ = ["answer"]


def answer(
    keys: Sequence[Array],
    unlearner: Unlearner,
    variables: Variables,
    request: ForgetRequest,
) -> tuple[Variables, dict[str, float], dict[str, Any]]:
    """Prepare a method for a model's request, and let it answer.

    Args:
        keys: of ``init`` and of ``unlearn``.
        unlearner: the method.
        variables: the model's.
        request: with the training data.

    Returns:
        The variables afterwards, seconds by phase, and the method's info by path.
    """
    times = [time.perf_counter()]

    def there(result: Any) -> Any:
        jax.block_until_ready(result)
        times.append(time.perf_counter())
        return result

    # Not jitted: so values are checked, and a probe is no constant of a program.
    state = there(unlearner.init(keys[0], variables, request.data))
    arguments = keys[1], state, request
    compiled = there(jax.jit(unlearner.unlearn).lower(*arguments).compile())
    state, info = there(compiled(*arguments))
    phases = ("init", "compile", "unlearn")
    seconds = dict(zip(phases, np.diff(times).tolist(), strict=True))
    # What is not finite is no JSON.
    text = json.dumps(plain(trees.by_path(info)))
    return state.variables, seconds, json.loads(text, parse_constant=lambda _: None)
