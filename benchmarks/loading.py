"""Does training wait for data? Times the store, the loader and a training step against each other.

    python benchmarks/loading.py --out benchmarks/results/loading-NAME.json              # generated textures
    python benchmarks/loading.py --data DIR --out benchmarks/results/loading-NAME.json   # photographs in DIR/ccp_half

1. Random access: one image and its scribbles from the HDF5 stores, against decoding the same from JPEG or PNG and a label PNG.
   `store` keeps pixels, `encoded store` the bytes of the JPEG files (`keep: encoded`), whose pixels are read.
2. The loader: augmented, collated batches of 321x321 crops, from the stores and, through the same code, from files.
3. A training step (DeepLab-v3+ with MobileNetV2), and the share of training time spent waiting for the next batch.

All variants run in turn within each repeat, in one process, so that other load on the machine meets all of them; medians
over repeats are reported. CPU time, which other load hardly changes, is given beside wall time and decides the ratios.
Files and stores are in the page cache: this is about decoding, not about disks.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import h5py
import numpy as np
import PIL
import torch
from numpy.typing import NDArray
from PIL import Image

import wss.version
from wss.methods import Batch, PartialCrossEntropy
from wss.networks import NetworkSpec
from wss.scribbles import rasterise, simulate
from wss.store import LABELS, SAMPLES, Store, StoreWriter
from wss.store.codec import encode_image
from wss.store.pictures import picture_file
from wss.training.augment import AugmentParams
from wss.training.batches import EpochBatches, TrainingSet, batches

HEIGHT, WIDTH, CROP, BATCH, CLASSES = 375, 500, 321, 4, 21
LOADER_EPOCHS = 2
WAITING_STEPS = 3
AUGMENTATIONS = {
    "crop and flip": AugmentParams(crop=CROP),
    "everything": AugmentParams(
        crop=CROP,
        scale=(0.5, 2.0),
        rotate_deg=10,
        brightness=0.3,
        contrast=0.3,
        saturation=0.3,
        hue_deg=10,
        blur=0.5,
    ),
}
Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]


def photographs(folder: Path, count: int) -> Iterator[Pair]:
    """Images and masks of WIDTHxHEIGHT: two upright photographs side by side, cut but never resized."""
    paths = [p for p in sorted((folder / "images").glob("*.jpg")) if Image.open(p).height >= HEIGHT]
    for number in range(count):
        left, right = (paths[n % len(paths)] for n in (2 * number, 2 * number + 1))
        images = [np.asarray(Image.open(p).convert("RGB"))[:HEIGHT] for p in (left, right)]
        masks = [np.asarray(Image.open(folder / "masks" / f"{p.stem}.png"))[:HEIGHT] for p in (left, right)]
        yield np.concatenate(images, 1)[:, :WIDTH], np.concatenate(masks, 1)[:, :WIDTH]


def textures(count: int) -> Iterator[Pair]:
    """Generated images and masks: noise whose amplitude grows with its wavelength, as in photographs."""
    for number in range(count):
        rng = np.random.default_rng(number)

        def noise(channels: int, waves: tuple[int, ...], rng: np.random.Generator = rng) -> NDArray[np.float32]:
            total = np.zeros((HEIGHT, WIDTH, channels), np.float32)
            for wave in waves:
                small = rng.normal(size=(HEIGHT // wave + 2, WIDTH // wave + 2, channels)).astype(np.float32)
                total += wave**0.7 * cv2.resize(small, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
            return total

        image = noise(3, (1, 2, 4, 8, 16, 32, 64))
        image = 128 + 45 * image / image.std()
        yield np.clip(image, 0, 255).astype(np.uint8), noise(6, (64, 128)).argmax(2).astype(np.uint8)


class FromStores:
    """Reads samples as the training stage does."""

    def __init__(self, folder: Path, name: str = "samples.h5") -> None:
        self.samples, self.labels = Store(folder / name, SAMPLES), Store(folder / "labels.h5", LABELS)

    def image(self, image_id: str) -> NDArray[np.uint8]:
        return self.samples.get("image", image_id)

    def label(self, image_id: str) -> NDArray[np.uint8]:
        return self.labels.get("labels", image_id)

    def __call__(self, image_id: str) -> tuple[NDArray[np.uint8], dict[str, NDArray[Any]]]:
        return self.image(image_id), {"labels": self.label(image_id)}


class FromFiles:
    """Decodes samples with OpenCV or Pillow."""

    def __init__(self, folder: Path, suffix: str, library: str) -> None:
        self.folder, self.suffix, self.library = folder, suffix, library

    def image(self, image_id: str) -> NDArray[np.uint8]:
        path = self.folder / f"{image_id}{self.suffix}"
        if self.library == "cv2":
            return np.asarray(cv2.imread(str(path), cv2.IMREAD_COLOR_RGB), np.uint8)
        with Image.open(path) as image:
            return np.array(image)

    def label(self, image_id: str) -> NDArray[np.uint8]:
        path = self.folder / f"{image_id}.label.png"
        if self.library == "cv2":
            return np.asarray(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), np.uint8)
        with Image.open(path) as image:
            return np.array(image)

    def __call__(self, image_id: str) -> tuple[NDArray[np.uint8], dict[str, NDArray[Any]]]:
        return self.image(image_id), {"labels": self.label(image_id)}


def write(pairs: Iterator[Pair], folder: Path) -> tuple[list[str], dict[str, float]]:
    """Write the images and their simulated scribbles in every form; returns the ids and the mean KiB per image."""
    samples = StoreWriter(folder / "samples.h5", SAMPLES, {"key": "benchmark"})
    encoded = StoreWriter(folder / "encoded.h5", SAMPLES, {"key": "benchmark"})
    labels = StoreWriter(folder / "labels.h5", LABELS, {"key": "benchmark"})
    ids = []
    for number, (image, mask) in enumerate(pairs):
        ids.append(f"{number:05d}")
        scribbles = rasterise(simulate(mask, number), mask.shape)
        samples.append(ids[-1], {"image": np.ascontiguousarray(image)})
        labels.append(ids[-1], {"labels": scribbles})
        file = folder / f"{ids[-1]}.jpg"
        Image.fromarray(image).save(file, quality=90)
        pixels = np.asarray(Image.open(file))
        encoded.append(ids[-1], {"image": encode_image(pixels, picture_file(pixels, file.read_bytes()))})
        Image.fromarray(image).save(folder / f"{ids[-1]}.png")
        Image.fromarray(scribbles).save(folder / f"{ids[-1]}.label.png")
    for writer in (samples, encoded, labels):
        writer.finish({})
    parts = {
        "store: image": ["samples.h5"],
        "encoded store: image": ["encoded.h5"],
        "store: labels": ["labels.h5"],
        "jpeg": [f"{i}.jpg" for i in ids],
        "png": [f"{i}.png" for i in ids],
        "label png": [f"{i}.label.png" for i in ids],
    }
    sizes = {n: sum((folder / f).stat().st_size for f in files) / len(ids) / 1024 for n, files in parts.items()}
    return ids, sizes


def cpu_s() -> float:
    """CPU time of this process and of its finished children, in seconds."""
    parts = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(part.ru_utime + part.ru_stime for part in parts)


def time_reads(read: Callable[[str], Any], ids: list[str]) -> dict[str, float]:
    """Milliseconds per call; arrays are copied where they are views, so that their bytes are really read."""
    wall, cpu = time.perf_counter(), time.process_time()
    for image_id in ids:
        got = read(image_id)
        for array in (got[0], got[1]["labels"]) if isinstance(got, tuple) else (got,):
            if not array.flags.owndata:
                array.copy()
    seconds = time.perf_counter() - wall, time.process_time() - cpu
    return {"wall_ms": seconds[0] / len(ids) * 1e3, "cpu_ms": seconds[1] / len(ids) * 1e3}


def time_loader(data: TrainingSet, workers: int, device: torch.device, seed: int) -> dict[str, float]:
    """Samples per second after the first batch, seconds until it, and CPU time per sample over all processes."""
    cpu, start = cpu_s(), time.perf_counter()
    sampler = EpochBatches(len(data), BATCH, LOADER_EPOCHS, seed)
    stream = batches(data, sampler, device=device, workers=workers, channels_last=True)
    next(stream)
    first = time.perf_counter()
    count = sum(len(batch.rgb) for batch in stream)
    wall = time.perf_counter() - first
    del stream  # joins the workers, whose CPU time counts from then on
    return {
        "samples_per_s": count / wall,
        "first_batch_s": first - start,
        "cpu_ms": (cpu_s() - cpu) / (count + BATCH) * 1e3,
    }


class Training:
    """One network and the work of a training step, without the optimiser."""

    def __init__(self, device: torch.device, amp: bool) -> None:
        self.device, self.amp = device, amp
        self.method = PartialCrossEntropy()
        torch.manual_seed(0)
        model = self.method.build(NetworkSpec(name="deeplab-v3plus", backbone="mobilenet_v2"), CLASSES)
        self.model = model.to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]

    def step(self, batch: Batch) -> None:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.amp):
            loss = self.method.losses(self.model, batch, ["pce"])["pce"]
        self.model.zero_grad()
        loss.backward()
        loss.item()
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def time_step(self, batch: Batch) -> dict[str, float]:
        """Samples per second and CPU time of one step on a batch that is there already."""
        wall, cpu = time.perf_counter(), time.process_time()
        self.step(batch)
        return {
            "samples_per_s": BATCH / (time.perf_counter() - wall),
            "cpu_ms": (time.process_time() - cpu) / BATCH * 1e3,
        }

    def time_waiting(self, data: TrainingSet, workers: int, seed: int) -> dict[str, float]:
        """Share of the wall time of a few steps, after the first, in which training waits for its next batch."""
        sampler = EpochBatches(len(data), BATCH, LOADER_EPOCHS, seed)
        stream = batches(data, sampler, device=self.device, workers=workers, channels_last=True)
        batch = next(stream)
        start = time.perf_counter()
        waited = 0.0
        for _ in range(WAITING_STEPS):
            self.step(batch)
            asked = time.perf_counter()
            batch = next(stream)
            waited += time.perf_counter() - asked
        return {"waiting_share": waited / (time.perf_counter() - start)}


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Every measurement of every repeat, reduced to medians with the smallest and largest value."""
    pairs = photographs(options.data / "ccp_half", options.images) if options.data else textures(options.images)
    ids, sizes = write(pairs, folder)
    device = torch.device(options.device)
    store, jpeg = FromStores(folder), FromFiles(folder, ".jpg", "cv2")
    encoded = FromStores(folder, "encoded.h5")
    files = {
        f"{form} {library}": FromFiles(folder, suffix, library)
        for form, suffix in (("jpeg", ".jpg"), ("png", ".png"))
        for library in ("cv2", "pillow")
    }
    variants: dict[str, Callable[[int], dict[str, float]]] = {}

    def shuffled(repeat: int) -> list[str]:
        return [ids[n] for n in np.random.default_rng(repeat).permutation(len(ids))]

    for name, reader in {"store": store, "encoded store": encoded, **files}.items():
        variants[f"image / {name}"] = lambda repeat, read=reader.image: time_reads(read, shuffled(repeat))
        variants[f"sample / {name}"] = lambda repeat, read=reader: time_reads(read, shuffled(repeat))
        if not name.startswith("png"):
            label = name.replace("jpeg", "png")
            variants[f"labels / {label}"] = lambda repeat, read=reader.label: time_reads(read, shuffled(repeat))
    training = Training(device, options.amp)
    everything = TrainingSet(ids, store, AUGMENTATIONS["everything"], 0)
    example = next(
        batches(everything, EpochBatches(len(ids), BATCH, 1, 0), device=device, workers=0, channels_last=True)
    )
    variants["step"] = lambda repeat: training.time_step(example)
    for workers in options.workers:
        for name, read in {"store": store, "encoded store": encoded, "files": jpeg}.items():
            for augmentation, params in AUGMENTATIONS.items():
                data = TrainingSet(ids, read, params, 0)
                variants[f"loader / {augmentation} / {workers} / {name}"] = lambda repeat, data=data, workers=workers: (
                    time_loader(data, workers, device, repeat)
                )
            variants[f"waiting / {workers} / {name}"] = lambda repeat, data=data, workers=workers: (
                training.time_waiting(data, workers, repeat)
            )
    training.time_step(example)  # warms up
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in variants}
    for repeat in range(options.repeats):
        for name, variant in variants.items():
            runs[name].append(variant(repeat))
        print(f"repeat {repeat + 1} of {options.repeats}", file=sys.stderr)
    summary = {
        name: {
            quantity: {
                "median": round(median(values), 4),
                "min": round(min(values), 4),
                "max": round(max(values), 4),
            }
            for quantity in rows[0]
            for values in [[row[quantity] for row in rows]]
        }
        for name, rows in runs.items()
    }
    return {"kib_per_image": {n: round(s, 1) for n, s in sizes.items()}, "timings": summary}


def ratios(timings: dict[str, Any], workers: list[int]) -> dict[str, Any]:
    """What the numbers say: how much faster than files, and how much faster than training can use them.

    All but the waiting shares come from CPU times.
    """

    def value(name: str, quantity: str) -> float:
        return float(timings[name][quantity]["median"])

    readers = ("store", "encoded store", "jpeg cv2", "jpeg pillow", "png cv2", "png pillow")
    read = {name: value(f"sample / {name}", "cpu_ms") for name in readers}
    loader: dict[str, Any] = {}
    for augmentation in AUGMENTATIONS:
        for count in workers:
            sources = ("store", "files", "encoded store")
            store, files, encoded = (value(f"loader / {augmentation} / {count} / {s}", "cpu_ms") for s in sources)
            loader[f"{augmentation} / {count}"] = {
                "samples per CPU second from the store": round(1000 / store),
                "files / store": round(files / store, 2),
                "encoded store / store": round(encoded / store, 2),
                "training step / loader from the store": round(value("step", "cpu_ms") / store, 1),
                "training step / loader from the encoded store": round(value("step", "cpu_ms") / encoded, 1),
            }
    return {
        "samples per CPU second, random access": {name: round(1000 / ms) for name, ms in read.items()},
        "random access, files / store": {name: round(ms / read["store"], 2) for name, ms in read.items()},
        "loader, by augmentation and workers": loader,
        "share of training time spent waiting, by workers and source": {
            name.removeprefix("waiting / "): value(name, "waiting_share")
            for name in timings
            if name.startswith("waiting")
        },
    }


def table(result: dict[str, Any]) -> None:
    """Print the medians."""
    for name, quantities in sorted(result["timings"].items()):
        cells = "  ".join(f"{q} {value['median']:9.3f}" for q, value in quantities.items())
        print(f"{name:<42} {cells}")
    print(json.dumps(result["ratios"], indent=1))


def processor() -> str:
    """The processor's name."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder that holds ccp_half; without it, images are generated")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=1, help="of torch; the loader's own code uses one per process")
    parser.add_argument("--device", default="cpu", help="where the training step runs")
    parser.add_argument("--amp", action="store_true", help="autocast the training step to bfloat16")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(0)
    load = os.getloadavg()
    with tempfile.TemporaryDirectory() as folder:
        measured = measure(options, Path(folder))
    device = torch.cuda.get_device_name() if options.device.startswith("cuda") else "cpu"
    places = {"--data": "DIR", "--out": "FILE"}
    arguments = [places.get(before, word) for before, word in itertools.pairwise(sys.argv)]
    result = {
        "command": " ".join(["python", "benchmarks/loading.py", *arguments]),
        "date": date.today().isoformat(),
        "machine": {
            "processor": processor(),
            "cores": len(os.sched_getaffinity(0)),
            "threads": options.threads,
            "device": device,
            "load_average": {"before": [round(x, 1) for x in load], "after": [round(x, 1) for x in os.getloadavg()]},
        },
        "versions": {
            "wss": wss.version.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "opencv": cv2.__version__,
            "pillow": PIL.__version__,
            "h5py": h5py.__version__,
        },
        "settings": {
            "images": f"{options.images} of {WIDTH}x{HEIGHT}: "
            + ("pairs of photographs side by side, cut, not resized" if options.data else "generated textures"),
            "labels": "scribbles simulated from masks",
            "jpeg": "Pillow, quality 90",
            "crop": CROP,
            "batch": BATCH,
            "epochs per loader run": LOADER_EPOCHS,
            "steps per waiting run": WAITING_STEPS,
            "augmentations": {name: params.model_dump(mode="json") for name, params in AUGMENTATIONS.items()},
            "waiting runs": "augmentation 'everything'",
            "network": f"deeplab-v3plus, mobilenet_v2, {CLASSES} classes" + (", bfloat16" if options.amp else ""),
        },
        "notes": [
            "medians over repeats, variants in turn; cpu_ms is CPU time per sample, for loaders summed over all processes",
            "other processes may have used the machine (see load_average): wall times then are too long, CPU times hardly",
            "files and stores were in the page cache; kib_per_image says what a cold start has to read",
        ],
        **measured,
        "ratios": ratios(measured["timings"], options.workers),
    }
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(result, indent=1) + "\n")
    table(result)


if __name__ == "__main__":
    main()
