"""Arrays that are well formed and yet not what a claim of forgetting needs."""

import hashlib

import numpy as np

__all__ = ["check_logits", "check_no_copies"]


def check_logits(logits: np.ndarray) -> None:
    """Raise if logits are softmax probabilities.

    Confidences of those would lie in a narrow band, and every audit would be weak.

    Args:
        logits: floating-point, ``[K, M, C]``.

    Raises:
        ValueError: every row is nonnegative and sums to one.
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


def check_no_copies(logits: np.ndarray, kinds: np.ndarray) -> None:
    """Raise if two retrained or two unlearned models are one model.

    A test by exchanges takes models for independent: copies of one would be told from
    all others, however it was made.

    Args:
        logits: ``[K, M, C]``.
        kinds: what each model is, ``[K]``.

    Raises:
        ValueError: two models of a kind with the same logits, with their numbers.
    """
    first: dict[tuple[str, str], int] = {}
    for number, (kind, each) in enumerate(zip(kinds, logits, strict=True)):
        # Models that answer all examples alike need not be copies to be the same.
        if kind == "original" or (each == each[0]).all():
            continue
        digest = hashlib.sha256(each.tobytes()).hexdigest()
        other = first.setdefault((kind, digest), number)
        if other != number:
            raise ValueError(
                f"Models {other} and {number} are both {kind} and have the same "
                "logits: give each a seed of its own."
            )
