"""The value of pixels without a class in label maps."""

UNLABELLED = 255
"""Value of unlabelled pixels in scribbles and of void pixels in masks. Label maps (uint8) hold class indices or this value."""
