"""Numbers and names as the report writes them."""

from __future__ import annotations

from collections.abc import Sequence

CURVE_TITLES = {
    "loss": "Loss",
    "val_miou": "Validation mIoU",
    "train_miou": "mIoU on training images",
    "lr": "Learning rate",
}


_VALUE_TITLES = {
    "miou": "mIoU",
    "val_miou": "Validation mIoU",
    "train_miou": "mIoU on training images",
    "iou_per_class": "Mean IoU",
    "dice_per_class": "Mean Dice",
    "hd95_per_class": "Mean HD95",
    "trimap_miou": "mIoU near boundaries",
    "trimap_accuracy": "Accuracy near boundaries",
    "frequency_weighted_iou": "Frequency-weighted IoU",
    "ce": "Cross-entropy loss",
    "pce": "Partial cross-entropy",
    "ncut": "NC loss",
    "densecrf": "CRF loss",
    "kernelcut": "KC loss",
    "seconds_per_step": "Seconds per step",
}


def percent(fraction: float | None, digits: int = 1) -> str:
    """Format a fraction as a percentage, ``61.2%``; a dash if undefined."""
    return "\u2013" if fraction is None else f"{100 * fraction:.{digits}f}%"


def number(value: float | None, digits: int = 1) -> str:
    """Format a number with thousands separators; a dash if undefined."""
    return "\u2013" if value is None else f"{value:,.{digits}f}"


def points(difference: float) -> str:
    """Format a difference of fractions in percentage points, with its sign."""
    rounded = round(100 * difference, 1)
    return f"{rounded:+.1f}".replace("-", "\u2212") if rounded else "0.0"


def count_of(count: int, noun: str) -> str:
    """Format a count with its noun, in the plural where needed."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def css_colour(colour: Sequence[int]) -> str:
    """Format RGB values in 0..255 as a CSS colour."""
    return "#{:02x}{:02x}{:02x}".format(*(int(c) for c in colour))


def value_title(name: str) -> str:
    """Title of a value of a metrics record or a training log."""
    return _VALUE_TITLES.get(name, name[:1].upper() + name[1:].replace("_", " "))
