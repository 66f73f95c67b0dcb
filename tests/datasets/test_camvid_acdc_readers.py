"""Readers of CamVid and ACDC, and what all readers share."""

from __future__ import annotations

import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import h5py
import numpy as np
import pytest
from reader_cases import SHAPE, context, folder, labels, voc, write_image, write_label, write_lines  # noqa: F401 - fixtures

from wss.datasets import DatasetSpec, open_source
from wss.errors import DataError, UsageError
from wss.params import validate

# camvid


@pytest.fixture
def camvid(tmp_path: Path) -> Path:
    root = tmp_path / "CamVid"
    for number, split in enumerate(("train", "val")):
        write_image(root / split / f"f{number}.png", number)
        write_label(root / f"{split}annot" / f"f{number}.png", labels(number, 12))
    return root


def test_camvid(camvid):
    write_lines(camvid / "train.txt", ["/SegNet/CamVid/train/f0.png /SegNet/CamVid/trainannot/f0.png"])
    source = open_source("camvid", camvid)
    assert dict(source.catalogue.splits) == {"train": ("f0",), "val": ("f1",)}
    assert source.catalogue.background is None and len(source.catalogue.classes) == 11
    mask = source.read("f0").mask
    np.testing.assert_array_equal(mask, np.where(labels(0, 12) == 11, 255, labels(0, 12)))
    assert (labels(0, 12) == 11).any() and mask[0, 0] == 255
    write_image(camvid / "test/t.png", 5)
    write_label(camvid / "trainscribble/f0.png", labels(3, 11))
    source = open_source("camvid", camvid)
    assert list(source.catalogue.splits) == ["train", "val", "test"]
    np.testing.assert_array_equal(source.read("f0").scribble, labels(3, 11))
    write_label(camvid / "drawn/f0.png", labels(4, 11))
    drawn = open_source("camvid", camvid, scribbles="drawn")
    np.testing.assert_array_equal(drawn.read("f0").scribble, labels(4, 11))
    assert drawn.read("f1").scribble is None and drawn.notes == []
    write_image(camvid / "test/f0.png", 5)
    with pytest.raises(DataError, match="same name"):
        open_source("camvid", camvid)


# acdc


def write_slice(path: Path, seed: int, shape: tuple[int, ...] = SHAPE, **more: np.ndarray) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    arrays = {
        "image": rng.random(shape, dtype=np.float32),
        "label": rng.integers(0, 4, shape, dtype=np.uint8),
        "scribble": rng.integers(0, 5, shape, dtype=np.uint16),
        **more,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            file.create_dataset(name, data=values, compression="gzip")
    return arrays


@pytest.fixture
def acdc(tmp_path: Path) -> Path:
    root = tmp_path / "ACDC"
    for patient in range(1, 6):
        for number in (10, 2):
            name = f"patient{patient:03d}_frame01_slice_{number}.h5"
            write_slice(root / "ACDC_training_slices" / name, 10 * patient + number)
    return root


def test_acdc_slices(acdc):
    source = open_source("acdc", acdc)
    arrays = write_slice(acdc / "copy.h5", 12)
    sample = source.read("patient001_frame01_slice_2")
    np.testing.assert_array_equal(sample.image, np.repeat(np.rint(arrays["image"] * 255)[..., None], 3, 2))
    assert sample.image.dtype == np.uint8
    np.testing.assert_array_equal(sample.mask, arrays["label"])
    np.testing.assert_array_equal(sample.scribble, np.where(arrays["scribble"] == 4, 255, arrays["scribble"]))
    assert (sample.scribble == 255).any() and sample.scribble.dtype == np.uint8
    volumes = source.catalogue.volumes
    assert volumes["patient003_frame01"].ids == ("patient003_frame01_slice_2", "patient003_frame01_slice_10")
    val = source.catalogue.splits["val"]
    assert len(val) == 2 and len({i[:10] for i in val}) == 1  # one of five patients, whole
    assert len(source.catalogue.splits["train"]) == 8
    assert len(source.files(val[0])) == 1


def test_acdc_volumes(acdc):
    arrays = write_slice(acdc / "ACDC_training_volumes/patient009_frame02.h5", 1, (3, *SHAPE))
    write_slice(acdc / "ACDC_training_volumes/patient001_frame01.h5", 2, (2, *SHAPE))  # its slices are there already
    source = open_source("acdc", acdc)
    ids = tuple(f"patient009_frame02_slice_{n}" for n in range(3))
    assert source.catalogue.volumes["patient009_frame02"].ids == ids
    assert len(source.catalogue.volumes["patient001_frame01"].ids) == 2
    sample = pickle.loads(pickle.dumps(source)).read(ids[2])
    np.testing.assert_array_equal(sample.mask, arrays["label"][2])
    np.testing.assert_array_equal(sample.image[..., 0], np.rint(arrays["image"][2] * 255))
    assert "patient009_frame02_slice_3" not in source.entries


def test_acdc_lists_name_slices_volumes_or_patients(acdc):
    write_lines(acdc / "val.txt", ["patient002", "patient001_frame01_slice_2.h5"])
    write_lines(acdc / "train.txt", ["patient003_frame01", "patient0", "gone"])
    source = open_source("acdc", acdc)
    assert source.catalogue.splits["val"] == (
        "patient002_frame01_slice_2",
        "patient002_frame01_slice_10",
        "patient001_frame01_slice_2",
    )
    assert source.catalogue.splits["train"] == ("patient003_frame01_slice_2", "patient003_frame01_slice_10")
    assert [f.image_id for f in source.notes if f.code == "missing-file"] == ["patient0", "gone"]


def test_acdc_without_annotations(acdc):
    path = acdc / "ACDC_training_slices/patient001_frame01_slice_2.h5"
    with h5py.File(path, "a") as file:
        del file["scribble"], file["label"]
    sample = open_source("acdc", acdc).read("patient001_frame01_slice_2")
    assert sample.mask is None and sample.scribble is None


def test_damaged_hdf5(acdc):
    source = open_source("acdc", acdc)
    path = acdc / "ACDC_training_slices/patient001_frame01_slice_2.h5"
    content = path.read_bytes()
    for damaged in (content[: len(content) // 2], b"", b"no HDF5"):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"patient001_frame01_slice_2\.h5.*again"):
            source.read("patient001_frame01_slice_2")
    path.unlink()
    with pytest.raises(DataError, match="no such file"):
        source.read("patient001_frame01_slice_2")
    write_slice(path, 0, image=np.full(SHAPE, np.nan, np.float32))
    with pytest.raises(DataError, match="not finite"):
        source.read("patient001_frame01_slice_2")
    write_slice(path, 0, label=np.full(SHAPE, 300))
    with pytest.raises(DataError, match="no labels from 0 to 255"):
        source.read("patient001_frame01_slice_2")
    write_slice(path, 0, label=np.full(SHAPE, 4))
    with pytest.raises(DataError, match="holds label 4, but the 4 classes"):
        source.read("patient001_frame01_slice_2")
    with h5py.File(path, "w") as file:
        file["label"] = np.zeros(SHAPE, np.uint8)
    with pytest.raises(DataError, match="no array 'image'"):
        source.read("patient001_frame01_slice_2")


def test_hdf5_links_and_strings_are_not_followed(acdc, tmp_path):
    write_slice(tmp_path / "secret.h5", 0)
    path = acdc / "ACDC_training_slices/patient001_frame01_slice_2.h5"
    with h5py.File(path, "w") as file:
        file["image"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "image")
    with pytest.raises(DataError, match="no array 'image'"):
        open_source("acdc", acdc).read("patient001_frame01_slice_2")
    with h5py.File(path, "w") as file:
        file["image"] = "text"
    with pytest.raises(DataError, match="not an array of numbers"):
        open_source("acdc", acdc).read("patient001_frame01_slice_2")


def test_empty_acdc_folder(tmp_path):
    with pytest.raises(DataError, match="no files like patient001"):
        open_source("acdc", tmp_path)


# all of them


def test_open_source_refuses_what_it_does_not_know(folder):
    with pytest.raises(UsageError, match="did you mean 'folder'"):
        open_source("folders", folder)
    with pytest.raises(UsageError, match="did you mean 'masks'"):
        open_source("folder", folder, mask="x")
    with pytest.raises(UsageError, match="scribble_width"):
        open_source("folder", folder, scribble_width=0)
    with pytest.raises(UsageError, match="did you mean 'seed'"):
        open_source("sample", sead=1)
    with pytest.raises(UsageError, match="needs a root"):
        open_source("voc")
    with pytest.raises(DataError, match="no such folder"):
        open_source("voc", folder / "nowhere")


def test_specification_takes_options_flat_or_nested(folder):
    flat = validate(DatasetSpec, {"kind": "folder", "root": str(folder), "val_fraction": 0.5}, "wss.yaml")
    nested = validate(DatasetSpec, {"kind": "folder", "root": folder, "options": {"val_fraction": 0.5}}, "wss.yaml")
    assert flat == nested and flat.options == {"val_fraction": 0.5}
    assert DatasetSpec.model_validate_json(flat.model_dump_json()) == flat
    assert len(open_source(flat).catalogue.splits["val"]) == 5
    with pytest.raises(UsageError, match="val_fraction"):
        open_source(DatasetSpec(kind="folder", root=folder, options={"val_fractions": 1}))
    assert open_source(DatasetSpec(kind="sample", options={"train": 3, "val": 1})).catalogue.splits["val"]


@pytest.mark.parametrize("kind", ["voc", "context", "folder", "camvid", "acdc"])
def test_sources_are_light_to_pickle_and_fingerprints_follow_content(request, kind, tmp_path):
    root = request.getfixturevalue(kind)
    source = open_source(kind, root)
    copy = pickle.loads(pickle.dumps(source))
    assert len(pickle.dumps(source)) < 2000
    assert copy.catalogue.splits == source.catalogue.splits
    image_id = source.catalogue.splits["train"][0]
    np.testing.assert_array_equal(copy.read(image_id).image, source.read(image_id).image)
    cache = tmp_path / "cache.json"
    before = source.fingerprint(cache)
    assert before == source.fingerprint() == copy.fingerprint(cache) == open_source(kind, root).fingerprint(cache)
    assert before != open_source(kind, root, scribble_width=7).fingerprint(cache)
    path = source.files(image_id)[-1]
    path.write_bytes(path.read_bytes() + b" ")
    assert open_source(kind, root).fingerprint(cache) != before


def test_pickle_notices_new_files(folder):
    pickled = pickle.dumps(open_source("folder", folder))
    pickle.loads(pickled)
    write_image(folder / "images/c99.png", 99)
    newer = open_source("folder", folder)
    assert "c99" in pickle.loads(pickle.dumps(newer)).entries


def test_reading_in_another_process(folder):
    source = open_source("folder", folder)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        sample = pool.submit(source.read, "c4").result()
    np.testing.assert_array_equal(sample.image, source.read("c4").image)
