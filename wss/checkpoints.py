"""Trained networks in model stores: their metadata, and loading them as predictors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import TypeAdapter
from torch import nn

from wss.datasets.images import PixelOptions
from wss.errors import StoreError
from wss.methods import AnyMethod, Method
from wss.networks import NetworkSpec
from wss.predictor import InferenceParams, Predictor
from wss.store import MODEL, Store


def model_meta(
    method: Method, network: NetworkSpec, initialisation: dict[str, Any], catalogue: dict[str, Any]
) -> dict[str, Any]:
    """Metadata of a model store from which its network can be built again.

    Args:
        method: Method of the training.
        network: Architecture of the network.
        initialisation: Initial weights of the training.
        catalogue: The data set's ``classes``, ``palette`` and ``background``. If the data set consists of files, also
            ``pixels``, the conversion of their values to RGB (``PixelOptions``). If it has volumes, also ``slices``, the
            settings with which they are cut into slices.
    """
    return {
        "method": method.model_dump(mode="json"),
        "network": network.model_dump(mode="json"),
        "initialisation": initialisation,
        **{
            name: catalogue[name]
            for name in ("classes", "palette", "background", "pixels", "slices")
            if name in catalogue
        },
    }


def build_model(store: Store) -> nn.Module:
    """Build the network of a model store with its trained weights, on the CPU.

    Raises:
        StoreError: The store is damaged.
    """
    state = store.tree("state")
    try:
        method: Method = TypeAdapter(AnyMethod).validate_python(store.meta["method"])
        model = method.build(NetworkSpec.model_validate(store.meta["network"]), len(store.meta["classes"]))
        model.load_state_dict(state)
    except (RuntimeError, KeyError, TypeError, ValueError) as error:  # load_state_dict raises RuntimeError
        raise StoreError(
            f"{store.path}: damaged, or from another version of wss: {str(error)[:200]}; remove it and run `wss train`"
        ) from error
    return model


def load_checkpoint(
    path: str | Path, *, device: str = "cpu", test_time: InferenceParams | None = None, amp: bool = False
) -> Predictor:
    """Load a trained network from the store that ``wss train`` wrote.

    Args:
        path: Path of the store, ``artifacts/train/<key>.h5``.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        test_time: Scales, flip, sliding window and random walk.
        amp: Autocast to bfloat16.

    Returns:
        A predictor: call it with an image, uint8 (H,W,3), to get labels, uint8 (H,W).

    Raises:
        StoreError: The file is not a model store of this version.
    """
    store = Store(Path(path), MODEL)
    palette = np.array(store.meta["palette"], np.uint8)
    return Predictor(
        build_model(store),
        store.meta["classes"],
        palette,
        torch.device(device),
        test_time,
        amp,
        store.meta["background"],
    )


def pixel_options(path: str | Path) -> PixelOptions:
    """Return the conversion of image files to RGB in training, so that prediction reads files in the same way.

    Args:
        path: Path of the store, ``artifacts/train/<key>.h5``.

    Raises:
        StoreError: The file is not a model store of this version.
    """
    return PixelOptions.model_validate(Store(Path(path), MODEL).meta.get("pixels") or {})
