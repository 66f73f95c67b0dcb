"""How close the lattice comes to the Gaussian on photographs: W S and W S / W 1 against sums over all pixels.

    python benchmarks/bilateral_accuracy.py --data DIR --out benchmarks/results/bilateral-accuracy.json

Photographs keep their size. DIR has `ccp_half/images` and `ccp_half/masks`, and `voc12_scribblesup_samples/JPEGImages` with
`SegmentationClass`. S are three kinds of segments: the photograph's masks, softened (sigma 3 pixels); soft maps that follow
its colours with noise in every pixel, as a random forest gives; and smooth probabilities that know nothing of it. For
each photograph the exact sums are worked out, in float64, at pixels drawn at random. Errors are |ours - exact| / |exact|
over these pixels and all segments: `normalised` of W S / W 1, `raw` of W S, `scaled` of W S times the factor that fits best.
`asymmetry` is |x'Wy - y'Wx| / sqrt(x'Wx y'Wy), the largest over all pairs x, y of segments. `itself` is the share of pixels whose
W 1 is below 2: they see more of themselves than of all others together, so that W S / W 1 is near S whatever the lattice
does; the error at these pixels alone is given too.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from datetime import date
from pathlib import Path
from statistics import mean
from typing import Any

import cv2
import numpy as np
import torch
from timing import processor
from torch import Tensor
from torch.nn.functional import interpolate

import wss.version
from wss.ops import BilateralFilter
from wss.ops.bilateral import Mode

SIGMAS = ((15.0, 100.0), (13.0, 80.0), (15.0, 40.0))
MODES: tuple[Mode, ...] = ("symmetric", "compat", "accurate")
KINDS = ("masks", "forest", "smooth")


def photographs(data: Path, count: int) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Name, (H,W,3) RGB and (H,W) labels of `count` photographs of CCP, spread over it, and of every one of VOC."""
    street = sorted((data / "ccp_half" / "images").iterdir())
    pairs = [(path, data / "ccp_half" / "masks") for path in street[:: max(len(street) // count, 1)][:count]]
    voc = data / "voc12_scribblesup_samples"
    pairs += [(path, voc / "SegmentationClass") for path in sorted((voc / "JPEGImages").iterdir())]
    found = []
    for path, masks in pairs:
        labels = cv2.imread(str(masks / f"{path.stem}.png"), cv2.IMREAD_UNCHANGED)
        found.append(
            (path.stem, cv2.imread(str(path))[..., ::-1].copy(), labels if labels.ndim == 2 else labels[..., 0])
        )
    return found


def segments(image: np.ndarray, labels: np.ndarray, seed: int) -> dict[str, Tensor]:
    """Kind -> (K,H,W) probabilities."""
    rng = np.random.default_rng(seed)
    height, width = labels.shape
    hard = np.stack([labels == c for c in np.unique(labels)], 2).astype(np.float32)
    masks = torch.from_numpy(cv2.GaussianBlur(hard, (0, 0), 3).reshape(height, width, -1).transpose(2, 0, 1))
    prototypes = image.reshape(-1, 3)[rng.integers(0, height * width, 6)].astype(np.float64)
    distance = ((image[None].astype(np.float64) - prototypes[:, None, None]) ** 2).sum(-1)
    forest = torch.from_numpy(-distance / (2 * 40**2) + rng.normal(0, 1, distance.shape)).softmax(0)
    coarse = torch.from_numpy(rng.normal(0, 3, (1, 6, 7, 7)))
    smooth = interpolate(coarse, (height, width), mode="bicubic")[0].softmax(0)
    return {"masks": masks, "forest": forest.float(), "smooth": smooth.float()}


def exact_rows(image: np.ndarray, x: Tensor, rows: np.ndarray, sigma_rgb: float, sigma_xy: float) -> Tensor:
    """(len(rows), C) of W x in float64."""
    height, width = image.shape[:2]
    y, z = np.mgrid[:height, :width]
    features = np.concatenate([np.stack([z, y], 2) / sigma_xy, image / sigma_rgb], 2).reshape(-1, 5)
    points = torch.from_numpy(features - features.mean(0))
    half = 0.5 * points.square().sum(1)
    source = x.reshape(x.shape[0], -1).double().T.contiguous()
    parts = [
        torch.exp(points[r] @ points.T - half[r, None] - half[None]) @ source for r in torch.from_numpy(rows).split(64)
    ]
    return torch.cat(parts)


def relative(ours: Tensor, exact: Tensor) -> float:
    return float((ours - exact).norm() / exact.norm())


def measure(
    image: np.ndarray, x: dict[str, Tensor], rows: np.ndarray, sigma_rgb: float, sigma_xy: float
) -> dict[str, Any]:
    together = torch.cat([*x.values(), torch.ones(1, *image.shape[:2])])
    exact = exact_rows(image, together, rows, sigma_rgb, sigma_xy)
    truth, mass = exact[:, :-1], exact[:, -1:]
    itself = (mass < 2).squeeze(1)
    images = torch.from_numpy(image.transpose(2, 0, 1)[None].astype(np.float32))
    record: dict[str, Any] = {"mass_median": float(mass.median()), "itself": float(itself.double().mean())}
    for mode in MODES:
        bilateral = BilateralFilter(images, sigma_rgb, sigma_xy, mode=mode)
        everywhere = bilateral.filter(together[None])[0].flatten(1).T.double()
        ours = everywhere[rows]
        filtered, ours_mass = ours[:, :-1], ours[:, -1:]
        normalised, wanted = filtered / ours_mass, truth / mass
        scale = float((filtered * truth).sum() / filtered.square().sum())
        pairs = together.flatten(1).double() @ everywhere
        scales = pairs.diagonal().sqrt()
        split = np.cumsum([v.shape[0] for v in x.values()])[:-1].tolist()
        record[mode] = {
            "normalised": relative(normalised, wanted),
            **{
                f"normalised, {kind}": relative(o, w)
                for kind, o, w in zip(x, normalised.tensor_split(split, 1), wanted.tensor_split(split, 1), strict=True)
            },
            "raw": relative(filtered, truth),
            "scaled": relative(scale * filtered, truth),
            "mass_ratio": float(ours_mass.sum() / mass.sum()),
            "asymmetry": float(
                ((pairs - pairs.T).abs() / (scales[:, None] * scales)).nan_to_num(0).max()
            ),  # absent classes
        }
        if bool(itself.any()):
            record[mode]["normalised, itself"] = relative(normalised[itself], wanted[itself])
    return record


def main() -> None:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("WSS_DATA"), help="folder with the photographs")
    parser.add_argument("--images", type=int, default=8, help="photographs of CCP, beside the six of VOC")
    parser.add_argument(
        "--rows", type=int, default=2000, help="pixels per photograph at which exact sums are worked out"
    )
    parser.add_argument("--out", type=Path, help="JSON file to write")
    options = parser.parse_args()
    if options.data is None:
        parser.error("name the folder with the photographs by --data or WSS_DATA")
    torch.set_num_threads(1)
    results: list[dict[str, Any]] = []
    for number, (name, image, labels) in enumerate(photographs(options.data, options.images)):
        rows = np.random.default_rng(number).choice(labels.size, min(options.rows, labels.size), replace=False)
        soft = segments(image, labels, number)
        for sigma_rgb, sigma_xy in SIGMAS:
            record = measure(image, soft, rows, sigma_rgb, sigma_xy)
            results.append(
                {"photograph": name, "size": list(labels.shape), "sigma_rgb": sigma_rgb, "sigma_xy": sigma_xy, **record}
            )
            print(
                f"{name:12s} {labels.shape[0]:4d}x{labels.shape[1]:<4d} {sigma_rgb:3.0f}/{sigma_xy:<4.0f} "
                f"W 1 {record['mass_median']:7.0f} itself {record['itself']:.3f}  "
                + "  ".join(
                    f"{mode[:3]} {100 * record[mode]['normalised']:5.2f} % raw {record[mode]['raw']:.2f}"
                    f" scaled {record[mode]['scaled']:.3f} {record[mode]['asymmetry']:.0e}"
                    for mode in MODES
                ),
                flush=True,
            )
    summary: dict[str, Any] = {}
    for sigma_rgb, sigma_xy in SIGMAS:
        chosen = [r for r in results if (r["sigma_rgb"], r["sigma_xy"]) == (sigma_rgb, sigma_xy)]
        for mode in MODES:
            keys = [k for k in chosen[0][mode] if k != "normalised, itself"]
            summary[f"{sigma_rgb:g}/{sigma_xy:g}, {mode}"] = {
                k: {"mean": mean(r[mode][k] for r in chosen), "worst": max(r[mode][k] for r in chosen)} for k in keys
            }
            row = summary[f"{sigma_rgb:g}/{sigma_xy:g}, {mode}"]
            print(
                f"{sigma_rgb:g}/{sigma_xy:g} {mode:10s}",
                "  ".join(f"{k} {v['mean']:.4f} ({v['worst']:.4f})" for k, v in row.items()),
            )
    if options.out is None:
        return
    record = {
        "command": f"python benchmarks/bilateral_accuracy.py --data DIR --images {options.images} --rows {options.rows}",
        "processor": processor(),
        "date": date.today().isoformat(),
        "versions": {
            "wss": wss.version.__version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "rows": options.rows,
        "summary": summary,
        "results": results,
    }
    options.out.write_text(json.dumps(_rounded(record), indent=1) + "\n")


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items()}
    return [_rounded(v) for v in value] if isinstance(value, list) else value


if __name__ == "__main__":
    main()
