"""Random seeds that depend on the image, not on the order of processing."""

from __future__ import annotations

import hashlib

from wss.names import name_bytes


def image_seed(seed: int, image_id: str) -> int:
    """Derive the seed of one image from the seed of a run.

    The result depends only on the two arguments. So the random choices for an image do not depend on the order of images, the
    number of workers, the process or the machine.

    Args:
        seed: Seed of the whole run, any integer.
        image_id: The image's id in its data set.

    Returns:
        A seed in [0, 2**63).
    """
    digest = hashlib.sha256(name_bytes(f"{seed}/{image_id}")).digest()
    return int.from_bytes(digest[:8], "big") >> 1
