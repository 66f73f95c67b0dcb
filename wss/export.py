"""Trained networks as files for other programs: ONNX, TorchScript, or plain tensors (torch, safetensors)."""

from __future__ import annotations

import inspect
import io
import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wss.checkpoints import build_model
from wss.errors import UsageError, WssError
from wss.networks.layers.crf import CRFLayer
from wss.store import MODEL, Store
from wss.store.atomic import write_bytes
from wss.version import __version__

Format = Literal["onnx", "torchscript", "torch", "safetensors"]
Output = Literal["probs", "logits"]
Dtype = Literal["uint8", "float32"]

OPSET = 18
TRACED_SIZE = (72, 88)
CHECKED_SIZES = ((72, 88), (97, 50))
"""Sizes of the test images for a file that takes any size. The second differs in all values that a trace could have
fixed."""
TOLERANCE = 1e-3

_Run = Callable[[Tensor], NDArray[np.float32]]


@dataclass(frozen=True)
class Exported:
    """An exported file.

    Attributes:
        path: The file.
        metadata: Metadata in the file, see ``metadata``.
        difference: Largest difference between the outputs of the file and the network on random images; 0 for plain
            tensors.
    """

    path: Path
    metadata: dict[str, Any]
    difference: float


class _Whole(nn.Module):
    """The module to export, from images to logits or probabilities."""

    def __init__(self, model: nn.Module, output: Output) -> None:
        super().__init__()
        self.model = model
        self.output = output

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.model(image)
        return logits if self.output == "logits" else logits.softmax(1)


def export_model(
    checkpoint: Path,
    path: Path,
    *,
    kind: Format = "onnx",
    size: tuple[int, int] | None = None,
    output: Output = "probs",
    dtype: Dtype = "uint8",
) -> Exported:
    """Export the network of a model store for use without wss.

    The file is only written if its output agrees with that of the network. It contains only the network, without
    test-time scales, flip, window and walk, and without the choice of a pipeline to keep only the largest region of
    foreground.

    An ONNX or TorchScript file takes RGB images (B,3,H,W) with values in 0..255 and returns float32 (B,K,H,W) at the
    size of the images; it includes the normalisation. A file of plain tensors is ``{"state_dict": tensors by name,
    "wss": metadata as JSON}``. ``torch.load(..., weights_only=True)`` reads it, and ``wss train --weights`` takes the
    backbone from it. A safetensors file holds the same tensors. All files contain the metadata: ONNX in
    ``metadata_props``, TorchScript in the extra file ``wss.json``, safetensors under ``wss`` in ``__metadata__``.

    Args:
        checkpoint: Store that ``wss train`` wrote.
        path: The file to write.
        kind: Format of the file.
        size: Height and width of the images; the file then takes one image at a time. None takes batches of any size.
        output: Probabilities or logits.
        dtype: Dtype of the images; TorchScript takes both.

    Raises:
        StoreError: The checkpoint is not a model store, or the file cannot be written.
        UsageError: Packages are missing, or this network cannot be exported to this format; the message says what to
            do.
        WssError: The output of the file differs from that of the network.
    """
    store = Store(checkpoint, MODEL)
    model = build_model(store).eval()
    meta = metadata(store, size=size, output=output, dtype=dtype)
    if kind in ("torch", "safetensors"):
        state = {name: value.contiguous() for name, value in model.state_dict().items()}
        if kind == "safetensors":
            from safetensors.torch import save

            write_bytes(path, save(state, {"wss": json.dumps(meta)}))
            return Exported(path, meta, 0.0)
        buffer = io.BytesIO()
        torch.save({"state_dict": state, "wss": json.dumps(meta)}, buffer)
        write_bytes(path, buffer.getvalue())
        return Exported(path, meta, 0.0)
    if any(isinstance(module, CRFLayer) for module in model.modules()):
        raise UsageError(
            f"{checkpoint}: the network of method {store.meta['method']['name']!r} ends with a CRF layer, which cannot "
            f"be exported to {kind}; use --format torch, or export a network that was trained without a CRF layer"
        )
    whole = _Whole(model, output).eval()
    try:
        data, run = (_onnx if kind == "onnx" else _torchscript)(whole, meta, size, dtype)
        difference = _difference(whole, run, size, dtype)
    except WssError:
        raise
    except Exception as error:  # the exporters and runtimes raise errors of many kinds
        raise _refusal(checkpoint, store, kind, size, str(error)) from error
    if not difference <= TOLERANCE:
        raise _refusal(checkpoint, store, kind, size, f"its output differs by {difference:.2g}")
    write_bytes(path, data)
    return Exported(path, meta, difference)


def metadata(store: Store, *, size: tuple[int, int] | None, output: Output, dtype: Dtype) -> dict[str, Any]:
    """Metadata of an exported file: ``classes``, ``palette``, ``background``, ``input``, ``output``, and its origin."""
    network = store.meta["network"]
    batch, height, width = ("B", "H", "W") if size is None else (1, *size)
    return {
        "classes": store.meta["classes"],
        "palette": store.meta["palette"],
        "background": store.meta["background"],
        "input": f"RGB {dtype} ({batch},3,{height},{width}), values 0..255",
        "output": f"{output} float32 ({batch},{len(store.meta['classes'])},{height},{width})",
        "normalisation": {"inside": True, "mean": network["mean"], "std": network["std"]},
        "method": store.meta["method"],
        "network": network,
        "initialisation": store.meta["initialisation"],
        "key": store.key,
        "wss": __version__,
    }


def _onnx(whole: nn.Module, meta: dict[str, Any], size: tuple[int, int] | None, dtype: Dtype) -> tuple[bytes, _Run]:
    try:
        import onnx
        import onnxruntime
    except ModuleNotFoundError as error:
        raise UsageError(
            f"--format onnx needs the package {error.name}: pip install 'wss[onnx]' (the file is checked before it is "
            "kept); or use --format torchscript"
        ) from error
    # Export by tracing: the exporter of torch.export took over thirty times as long on a U-Net and needs onnxscript.
    axes = {} if size else {name: {0: "batch", 2: "height", 3: "width"} for name in ("image", "output")}
    older: dict[str, Any] = {"dynamo": False} if "dynamo" in inspect.signature(torch.onnx.export).parameters else {}
    buffer = io.BytesIO()
    with _quiet():
        torch.onnx.export(
            whole,
            (_images(size or TRACED_SIZE, 1 if size else 2, dtype),),
            buffer,  # type: ignore[arg-type]
            input_names=["image"],
            output_names=["output"],
            dynamic_axes=axes,
            opset_version=OPSET,
            **older,
        )
    model = onnx.load_from_string(buffer.getvalue())
    for name, value in meta.items():
        model.metadata_props.add(key=name, value=value if isinstance(value, str) else json.dumps(value))
    onnx.checker.check_model(model)
    data = model.SerializeToString()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors are reported by our own messages
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return data, lambda images: session.run(None, {"image": images.numpy()})[0]


def _torchscript(
    whole: nn.Module, meta: dict[str, Any], size: tuple[int, int] | None, dtype: Dtype
) -> tuple[bytes, _Run]:
    example = _images(size or TRACED_SIZE, 1 if size else 2, dtype)
    with _quiet(), torch.no_grad():
        traced = torch.jit.trace(whole, example, check_trace=False)  # type: ignore[no-untyped-call]
        buffer = io.BytesIO()
        torch.jit.save(traced, buffer, _extra_files={"wss.json": json.dumps(meta)})
        data = buffer.getvalue()
        loaded = torch.jit.load(io.BytesIO(data), map_location="cpu")  # type: ignore[no-untyped-call]

    def run(images: Tensor) -> NDArray[np.float32]:
        with torch.no_grad(), _quiet():
            result: NDArray[np.float32] = loaded(images).numpy()
        return result

    return data, run


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress tracing warnings and dumps of failed graphs. The exported file is checked at other sizes afterwards."""
    getattr(torch._C, "_jit_set_onnx_log_enabled", lambda enabled: None)(False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _difference(whole: nn.Module, run: _Run, size: tuple[int, int] | None, dtype: Dtype) -> float:
    """Largest difference between the outputs of the file and the network, divided by the largest output if above 1."""
    largest = 0.0
    for batch, checked in [(1, size)] if size else [(n + 1, each) for n, each in enumerate(CHECKED_SIZES)]:
        images = _images(checked, batch, dtype, seed=batch)
        with torch.no_grad():
            expected = whole(images).numpy()
        output = run(images)
        if output.shape != expected.shape:
            raise ValueError(f"expected an output of {expected.shape}, got {output.shape}")
        scale = max(1.0, float(np.abs(expected).max()))
        largest = max(largest, float(np.abs(output - expected).max()) / scale)
    return largest


def _images(size: tuple[int, int], batch: int, dtype: Dtype, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (batch, 3, *size), generator=generator, dtype=torch.uint8)
    return images if dtype == "uint8" else images.float()


def _refusal(checkpoint: Path, store: Store, kind: Format, size: tuple[int, int] | None, reason: str) -> WssError:
    what = f"{store.meta['network']['name']} of method {store.meta['method']['name']!r}"
    reason = reason.strip().split("\n")[0][:200]
    if size is None:
        return UsageError(
            f"{checkpoint}: {what} cannot be exported to {kind} for images of any size ({reason}); "
            "set a size with --size H W"
        )
    return WssError(
        f"{checkpoint}: {what} cannot be exported to {kind} for images of {size[0]}x{size[1]} ({reason}); use another "
        "size or --format torch"
    )
