"""What can be wrong with the arrays of a claim, well formed or not."""

import hashlib
from collections.abc import Sequence

import numpy as np
from jax import dtypes

__all__ = ["checked_claim"]

# Without which there is nothing to judge, or nothing to judge by.
_NEEDED = {
    "retrained": "models trained anew without the forgotten examples (here "
    "audits.train_shadows makes them)",
    "unlearned": "models that the method has made forget them (here "
    "audits.unlearn_shadows makes them)",
}


def checked_claim(
    logits: np.ndarray, labels: np.ndarray, kinds: Sequence[str], known: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a claim's arrays, or raise what is wrong with them.

    Args:
        logits: floating-point, bfloat16 too, ``[K, M, C]``.
        labels: whole numbers in ``[0, C)``, ``[M]``.
        kinds: what each model is, ``[K]``.
        known: what it may be.

    Raises:
        TypeError, ValueError: the name of the argument, what was given, and the remedy.
    """
    logits, labels = np.asarray(logits), np.asarray(labels)
    words = np.asarray(kinds, dtype=object)
    # By JAX, to which bfloat16 is a number.
    if (
        not dtypes.issubdtype(logits.dtype, np.floating)
        or labels.dtype.kind not in "iu"
    ):
        raise TypeError(
            "logits must be floating-point and labels whole numbers, got "
            f"{logits.dtype} and {labels.dtype}: convert them to float32 and int32."
        )
    if logits.ndim != 3 or logits.shape[2] < 2 or not logits.size:
        raise ValueError(
            "logits must be [models, examples, classes] with at least two classes, got "
            f"shape {logits.shape}."
        )
    if labels.shape != logits.shape[1:2]:
        raise ValueError(
            f"labels must be [{logits.shape[1]}], one an example, got {labels.shape}."
        )
    if labels.min() < 0 or labels.max() >= logits.shape[2]:
        raise ValueError(
            f"labels must be in [0, {logits.shape[2]}), got {labels.min()} to "
            f"{labels.max()}: they do not match the logits."
        )
    if words.shape != logits.shape[:1]:
        raise ValueError(
            f"kinds must say of each of the {logits.shape[0]} models what it is, got "
            f"{words.size} words (of a folder: those in audit.json)."
        )
    unknown = sorted({str(kind) for kind in words} - set(known))
    if unknown:
        raise ValueError(f"kinds must be among {known}, got {', '.join(unknown)}.")
    _check_no_probabilities(logits)
    _check_no_copies(logits, words)
    for kind, what in _NEEDED.items():
        if kind not in words:
            counts = ", ".join(f"{np.sum(words == each)} {each}" for each in known)
            raise ValueError(
                f"kinds must name {kind} models, got {counts}: add the logits of {what}"
                f', and the word "{kind}" for each, in a folder to "models" of '
                "audit.json. The least is 5 unlearned and 10 retrained ones."
            )
    return logits, labels, words


def _check_no_probabilities(logits: np.ndarray) -> None:
    """Raise if logits ``[K, M, C]`` are softmax probabilities.

    Confidences of those would lie in a narrow band, and every audit would be weak.
    """
    # Half precision rounds sums by almost a hundredth.
    if all(
        np.all(each >= 0) and np.all(np.abs(each.sum(axis=-1, dtype=float) - 1) < 0.01)
        for each in logits
    ):
        raise ValueError(
            "logits must not be probabilities, but every row is nonnegative and sums "
            "to one: give what the softmax is taken of, or log-probabilities."
        )


def _check_no_copies(logits: np.ndarray, kinds: np.ndarray) -> None:
    """Raise if two retrained or unlearned models are one model.

    A test by exchanges takes models for independent: copies of one would be
    distinguished from all others, however it was made. Logits are ``[K, M, C]``.
    """
    first: dict[str, int] = {}
    for number, (kind, each) in enumerate(zip(kinds, logits, strict=True)):
        # Models that diverged, or answer all examples alike, need not be copies.
        same = np.isnan(each).any() or (each == each[0]).all()
        if kind == "original" or same:
            continue
        digest = hashlib.sha256(each.tobytes()).hexdigest()
        other = first.setdefault(digest, number)
        if other != number:
            alike = " and ".join(dict.fromkeys((str(kinds[other]), str(kind))))
            raise ValueError(
                f"Models {other} and {number} ({alike}) have the same logits: give "
                "each a seed of its own."
            )
