"""What hf.dihyfo is given: checks, and how far a model is from the zoo's."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from hyperforget_jax import checks
from hyperforget_jax.base import Array, Classifier, Examples, Variables
from hyperforget_jax.hypernet import HypernetParams, Hypernetwork
from hyperforget_jax.user_warnings import warn_user

__all__ = [
    "check_classes",
    "check_fitting",
    "check_norm",
    "check_rows_of_classes",
    "check_state",
    "checked_prompt",
    "checked_protect",
    "norm_ratio",
]

# In the study, models unlike the zoo lie half the largest norm above it or more.
_MOST_NORM_RATIO = 1.1
# Of five rows that are sure a thousandth may be left, of three a hundredth.
_LEAST_ROWS = 5


def check_fitting(classifier: Any, hypernetwork: Any, params: Any) -> None:
    """Raise unless the hypernetwork was trained for the classifier."""
    checks.check_is_classifier(classifier)
    what = "what hypernet.build or load_hypernetwork gives"
    checks.check_is(Hypernetwork, what, hypernetwork=hypernetwork)
    what = "what hypernet.fit_hypernetwork or load_hypernetwork gives"
    checks.check_is(HypernetParams, what, params=params)
    if hypernetwork.classifier != classifier.description:
        raise ValueError(
            f"hypernetwork was trained for {hypernetwork.classifier!r}, not for "
            f"{classifier.description!r}."
        )


def checked_protect(protect: Any, classifier: Classifier) -> bool:
    """Tell whether anything is to be protected; raise where it cannot be.

    Args:
        protect: a factor, checked already.
        classifier: the model.
    """
    if not checks.is_concrete(protect):
        raise TypeError(
            "protect must be known before tracing, since it decides what init "
            "measures; got a tracer."
        )
    if float(protect) == 0:
        return False
    if classifier.taps is None:
        raise ValueError(
            f"protect={protect} needs to see what layers are given, and the classifier "
            f"({classifier.description}) has no taps: build it with hf.from_linen or "
            "hf.from_nnx, or give protect=0."
        )
    return True


def check_rows_of_classes(probe: Examples, num_classes: int) -> None:
    """Warn of classes of which a probe has too few rows to tell what is left."""
    if not checks.is_concrete(probe):
        return
    y = np.asarray(probe.y)[np.asarray(probe.weight) > 0]
    counts = np.bincount(y, minlength=num_classes)
    few = np.flatnonzero(counts < _LEAST_ROWS).tolist()
    if few:
        warn_user(
            f"probe has fewer than {_LEAST_ROWS} rows of the classes {few}: requests "
            "for these may be refused, since few rows leave open how much is left, and "
            "where there are none nothing is judged. Give more rows, or most_left=1."
        )


def check_state(state: Any, protects: bool, probe: Examples | None) -> None:
    """Raise unless a state is of an unlearner with such settings."""
    for name, is_there, wanted in (
        ("protect", state.grams is not None, protects),
        ("probe", state.probe is not None, probe is not None),
    ):
        if is_there != wanted:
            have = {True: "with", False: "without"}
            raise ValueError(
                f"state must be what init of this unlearner gave: it is of one "
                f"{have[is_there]} {name}, and this one is {have[wanted]}."
            )


def checked_prompt(prompt: Any, num_classes: int) -> Array | None:
    """Return the losses asked for, float32, ``[C]``; None for ``"profile"``."""
    if isinstance(prompt, str) and prompt == "profile":
        return None
    try:
        wanted = jnp.asarray(prompt, jnp.float32)
    except (TypeError, ValueError) as error:
        message = f"prompt must be 'profile' or losses, got {prompt!r}."
        raise ValueError(message) from error
    if wanted.shape != (num_classes,):
        raise ValueError(
            f"prompt must have a loss for each of {num_classes} classes, got shape "
            f"{wanted.shape}."
        )
    if checks.is_concrete(wanted):
        losses_wanted = np.asarray(wanted)
        if not (np.isfinite(losses_wanted) & (losses_wanted >= 0)).all():
            raise ValueError(
                f"prompt must hold losses, finite and not negative; got {wanted}."
            )
    return wanted


def check_classes(
    classifier: Classifier, variables: Variables, request: Any, num_classes: int
) -> None:
    """Raise unless a request is for classes of this model."""
    checks.check_request(classifier, variables, request)
    checks.check_is_request(request, num_classes)
    classes = request.classes
    if checks.is_concrete(classes) and not np.asarray(classes).any():
        raise ValueError(
            "request names no class: a hypernetwork forgets whole classes, not single "
            "rows (hf.pgu does)."
        )


def norm_ratio(
    hypernetwork: Hypernetwork, hypernet_params: HypernetParams, params: Any
) -> Array | None:
    """Compare a model's norm with the zoo's starts', as ``info.norm_ratio`` says."""
    if not hypernetwork.edits:
        return None
    norm = optax.tree.norm(optax.tree.cast(params, jnp.float32))
    nearest = jnp.clip(norm, *hypernet_params.profiles.norms)
    return jnp.where(norm == nearest, 1, norm / nearest)


def check_norm(
    hypernetwork: Hypernetwork, hypernet_params: HypernetParams, params: Any
) -> None:
    """Raise for parameters that are not finite, and warn of those unlike the zoo's."""
    # A function that is being traced may close over a model that is known.
    with jax.ensure_compile_time_eval():
        if not all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(params)):
            raise ValueError("variables['params'] must be finite, and are not.")
        ratio = norm_ratio(hypernetwork, hypernet_params, params)
    if ratio is None or 1 / _MOST_NORM_RATIO < float(ratio) < _MOST_NORM_RATIO:
        return
    warn_user(
        "The norm of the model's parameters is "
        f"{ratio:.2f} times the {'largest' if ratio > 1 else 'smallest'} among the "
        "starts of the zoo: a model that was trained otherwise may forget in part, or "
        "not as the zoo's models do. Give hf.dihyfo a probe and look at "
        "info.forgotten_accuracy and info.retained_accuracy; another scale may help, "
        "or a zoo with starts of such models.",
    )
