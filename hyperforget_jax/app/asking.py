"""What the page may ask, checked before anything is computed."""

from typing import Annotated, Literal

import msgspec

__all__ = ["MOST_BYTES", "Ask", "Method", "read"]

MOST_BYTES = 16_384
"""Of a question; the pixels of an image of MNIST take four kilobytes at the most."""

Method = Literal["dihyfo", "fiun", "pgu", "logit_mask"]
_Number = Annotated[int, msgspec.Meta(ge=0)]


class Ask(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One question.

    Attributes:
        classes: those to forget; none for the models as they were trained.
        method: by the library's name.
        image: a row of the test split, or pixels as they are before normalisation.
        loss: what DiHyFo is to be asked for on these classes, nats; None for what
            models have that were retrained without them.
        retrain: whether models are retrained, where there are none for these classes.
    """

    classes: Annotated[tuple[_Number, ...], msgspec.Meta(max_length=100)]
    method: Method
    image: _Number | Annotated[tuple[_Number, ...], msgspec.Meta(max_length=10_000)]
    loss: Annotated[float, msgspec.Meta(ge=0, le=100)] | None = None
    retrain: bool = False


def read(
    body: bytes, *, num_classes: int, num_rows: int, num_pixels: int, largest: float
) -> Ask:
    """Read a question.

    Args:
        body: JSON.
        num_classes: C.
        num_rows: of the test split.
        num_pixels: of an image.
        largest: value of a pixel.

    Raises:
        ValueError: what the body has that it may not have, and what is allowed.
    """
    ask = msgspec.json.decode(body, type=Ask)
    classes = set(ask.classes)
    if len(classes) != len(ask.classes) or max(classes, default=0) >= num_classes:
        raise ValueError(
            f"classes must be different numbers in [0, {num_classes}), got "
            f"{list(ask.classes)}."
        )
    if len(classes) == num_classes:
        raise ValueError("Leave at least one class switched on.")
    if isinstance(ask.image, int):
        if ask.image >= num_rows:
            raise ValueError(
                f"image must be a row in [0, {num_rows}) of the test split, got "
                f"{ask.image}."
            )
    elif len(ask.image) != num_pixels or max(ask.image) > largest:
        raise ValueError(
            f"image must have {num_pixels} pixels in [0, {largest:g}], got "
            f"{len(ask.image)} up to {max(ask.image, default=0)}."
        )
    # One order, so that what was asked before is found again.
    return msgspec.structs.replace(ask, classes=tuple(sorted(classes)))
