"""Images that are kept as files: nothing that is made of them changes."""

import h5py
import numpy as np
import pytest
import yaml
from PIL import Image

from wss.datasets import DatasetSpec, open_source
from wss.pipeline.run import run_pipeline
from wss.pipeline.spec import load_pipeline
from wss.pipeline.workspace import Workspace
from wss.stages.stage import Context
from wss.store.codec import CODINGS

SIZE = (48, 64)
PIPELINE = {
    "title": "Short",
    "stages": [
        {"stage": "samples"},
        {"stage": "prepare", "inputs": {"samples": "samples"}},
        {
            "stage": "train",
            "inputs": {"samples": "samples", "labels": "prepare"},
            "params": {
                "method": {"name": "pce"},
                "network": {"name": "unet"},
                "batch_size": 2,
                "phases": [{"steps": 2, "terms": {"pce": 1}}],
            },
        },
        {"stage": "predict", "inputs": {"samples": "samples", "model": "train"}},
        {"stage": "evaluate", "inputs": {"samples": "samples", "predictions": "predict"}},
    ],
}


@pytest.fixture
def data(tmp_path):
    """JPEG, PNG, grey JPEG, a turned JPEG and one of 16 bits, with masks and scribbles."""
    root = tmp_path / "data"
    for part in ("images", "masks", "scribbles"):
        (root / part).mkdir(parents=True)
    y, x = np.indices(SIZE)
    names = ["a.jpg", "b.png", "grey.jpg", "turned.jpg", "deep.png"]
    for number, name in enumerate(names):
        waves = [np.sin(y / (5 + n + number)) + np.cos(x / (9 - n)) + 2 for n in range(3)]
        image = np.rint(np.stack(waves, -1) * 63).astype(np.uint8)
        mask = (image[..., 0] > 128).astype(np.uint8)
        exif = Image.Exif()
        if name == "turned.jpg":
            exif[0x0112] = 6
            mask = np.rot90(mask, -1)
        if name == "grey.jpg":
            image = image[..., 0]
        if name == "deep.png":
            image = image[..., 0].astype(np.uint16) * 257
        Image.fromarray(image).save(root / "images" / name, **({"exif": exif} if name.endswith("jpg") else {}))
        stem = name.partition(".")[0]
        Image.fromarray(mask).save(root / f"masks/{stem}.png")
        scribble = np.full_like(mask, 255)
        scribble[20:24, ::3] = mask[20:24, ::3]
        Image.fromarray(scribble).save(root / f"scribbles/{stem}.png")
    (root / "classes.txt").write_text("ground\nthing\n")
    (root / "val.txt").write_text("b\ngrey\n")
    return root


def _run(folder, data, jobs=1, **options):
    path = folder / "short.yaml"
    folder.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(PIPELINE))
    dataset = DatasetSpec(kind="folder", root=data, **options)
    pipeline = load_pipeline(path, {}, {"dataset": dataset.model_dump()})
    return {n: o.store for n, o in run_pipeline(pipeline, Workspace(folder), Context(jobs=jobs)).items()}


def _codings(store):
    with h5py.File(store.path) as file:
        return {i: CODINGS[n] for i, n in zip(store.ids, file["image/coding"], strict=True)}


def test_pixels_scores_and_keys_stay(tmp_path, data):
    plain, coded = _run(tmp_path / "plain", data), _run(tmp_path / "coded", data, jobs=2, keep="encoded")
    assert plain["samples"].key != coded["samples"].key
    assert set(_codings(plain["samples"]).values()) == {"raw", "grey"}
    assert set(_codings(coded["samples"]).values()) == {"encoded"}
    assert coded["samples"].path.stat().st_size < 0.6 * plain["samples"].path.stat().st_size
    assert plain["samples"].digest == coded["samples"].digest
    for name in ("prepare", "train", "predict", "evaluate"):
        assert plain[name].key == coded[name].key
        assert plain[name].digest == coded[name].digest
    source = open_source("folder", data)
    for store in (plain["samples"], coded["samples"]):
        assert store.verify()
        for image_id in store.ids:
            np.testing.assert_array_equal(store.get("image", image_id), source.read(image_id).image)


def test_files_are_kept_as_they_are_where_they_hold_the_pixels(tmp_path, data):
    store = _run(tmp_path / "work", data, keep="encoded")["samples"]
    with h5py.File(store.path) as file:
        group = file["image"]
        kept = {
            i: group["data"][start : start + length].tobytes()
            for i, start, length in zip(store.ids, group["offset"], group["length"], strict=True)
        }
    for name in ("a.jpg", "grey.jpg", "b.png"):
        assert kept[name.partition(".")[0]] == (data / "images" / name).read_bytes()
    for name in ("turned", "deep"):
        assert kept[name].startswith(b"\x89PNG")
