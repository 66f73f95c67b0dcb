"""Volumes from ``wss init`` to ``wss evaluate``, and their predictions as volumes."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
import tifffile
from commands import QUICK

from tests.datasets.volume_files import AFFINE, save, series, volumes
from wss.metrics import dice_volume, hd95


@pytest.fixture
def scans(tmp_path, monkeypatch):
    volumes(tmp_path / "scans", 3)
    (tmp_path / "scans" / "train.txt").write_text("v0\n")
    (tmp_path / "scans" / "val.txt").write_text("v1\nv2\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "scans"


def trained(wss, kind, root, *options):
    result = wss("init", "--kind", kind, "--root", root, "-w", "work", *options)
    assert result.code == 0, result.err
    checked = wss("data", "check", "-w", "work")
    assert checked.code == 0, checked.out
    run = wss("run", "pce", "-w", "work", "--jobs", 1, *QUICK)
    assert run.code == 0, run.err
    return result


def test_nifti_from_init_to_evaluate(scans, wss):
    said = trained(wss, "nifti", scans).said
    assert "slices are along axis 2" in said
    assert "6 mm apart" in said
    record = wss("evaluate", "-w", "work", "--json").json
    record = record[0] if isinstance(record, list) else record
    result = wss("predict", "-w", "work", "-o", "out")
    assert result.code == 0, result.err
    dice, distance = [], []
    for name in ("v1", "v2"):
        image, mask = nibabel.load(scans / "images" / f"{name}.nii.gz"), nibabel.load(f"out/{name}.nii.gz")
        np.testing.assert_array_equal(mask.affine, image.affine)
        assert mask.header.get_zooms() == image.header.get_zooms()
        assert mask.shape == image.shape
        assert Path(f"out/{name}_slice_003_overlay.png").exists()
        assert not Path(f"out/{name}_slice_003.png").exists()
        truth = nibabel.load(scans / "masks" / f"{name}.nii.gz").get_fdata().transpose(2, 0, 1).astype(np.uint8)
        found = mask.get_fdata().transpose(2, 0, 1).astype(np.uint8)
        dice.append(dice_volume(truth, found, 1))
        distance.append(hd95(truth, found, 1, (6.0, 1.5, 1.25)))
        assert distance[-1] != hd95(truth, found, 1, (1.0, 1.0, 1.0))
    assert record["dice_per_class"]["organ"] == pytest.approx(np.mean(dice))
    assert record["hd95_per_class"]["organ"] == pytest.approx(np.mean(distance))


def test_files_and_folders_of_volumes_are_cut_as_the_training_ones(scans, wss, tmp_path):
    trained(wss, "nifti", scans, "-o", "axis=1")
    assert wss("predict", "-w", "work", "-o", "split", "--no-overlays").code == 0
    result = wss("predict", scans / "images", "-w", "work", "-o", "files", "--no-overlays")
    assert result.code == 0, result.err
    assert "72 images -> 3 files" in result.out
    wanted = nibabel.load("split/v2.nii.gz").get_fdata()
    np.testing.assert_array_equal(nibabel.load("files/v2.nii.gz").get_fdata(), wanted)
    checkpoint = next(Path("work/artifacts/train").glob("*.h5"))
    one = scans / "images" / "v2.nii.gz"
    assert wss("predict", one, "--checkpoint", checkpoint, "-o", "one", "--no-overlays").code == 0
    np.testing.assert_array_equal(nibabel.load("one/v2.nii.gz").get_fdata(), wanted)


def test_voxels_without_data_are_255_in_predictions_of_files_and_of_the_split(scans, wss):
    path = scans / "images" / "v1.nii.gz"
    values = nibabel.load(path).get_fdata().astype(np.float32)
    values[2:4, 3:9, 2:4] = np.nan
    save(path, values)
    trained(wss, "nifti", scans)
    assert wss("predict", "-w", "work", "-o", "split", "--no-overlays").code == 0
    assert wss("predict", path, "-w", "work", "-o", "file", "--no-overlays").code == 0
    for folder in ("split", "file"):
        found = np.asarray(nibabel.load(f"{folder}/v1.nii.gz").dataobj)
        np.testing.assert_array_equal(found == 255, np.isnan(values))


def test_volume_that_cannot_be_read_is_left_out_and_told_once(scans, wss):
    trained(wss, "nifti", scans)
    whole = (scans / "images" / "v1.nii.gz").read_bytes()
    for name, data in (("a", whole), ("b", whole[:-200]), ("c", b"text" * 200)):
        Path("new").mkdir(exist_ok=True)
        Path(f"new/{name}.nii.gz").write_bytes(data)
    Path("new/d.nrrd").write_bytes(b"NRRD0005\n")
    result = wss("predict", "new", "-w", "work", "-o", "out", "--no-overlays")
    assert result.code == 1
    assert "1 files left out: new/d.nrrd is an NRRD file, which is not read; save it as NIfTI" in " ".join(
        result.said.split()
    )
    named = wss("predict", "new/d.nrrd", "-w", "work", "-o", "out")
    assert named.code == 1
    assert "NRRD file, which is not read; save it as NIfTI" in " ".join(named.said.split())
    assert Path("out/a.nii.gz").exists()
    assert not list(Path("out").glob("b*"))
    assert result.said.count("b.nii.gz:") == result.said.count("c.nii.gz:") == 1


def test_mask_never_replaces_its_volume(scans, wss):
    trained(wss, "nifti", scans)
    Path("new").mkdir()
    save(Path("new/a.nii.gz"), np.zeros((8, 9, 3), np.int16))
    before = Path("new/a.nii.gz").read_bytes()
    result = wss("predict", "new/a.nii.gz", "-w", "work", "-o", "new")
    assert result.code == 2
    assert "would be replaced" in result.said
    assert Path("new/a.nii.gz").read_bytes() == before
    assert wss("predict", "-w", "work", "-o", scans / "images").code == 2


def test_dicom_series_become_stacks(wss, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    mask = np.zeros((4, 20, 24), np.uint8)
    mask[1:3, 5:15, 6:18] = 1
    for n in range(3):
        series(
            tmp_path / "ct" / "images" / f"s{n}",
            (mask * np.int16(400) + rng.integers(0, 99, mask.shape)).astype(np.int16),
        )
        (tmp_path / "ct" / "masks").mkdir(exist_ok=True)
        tifffile.imwrite(tmp_path / "ct" / "masks" / f"s{n}.tif", mask, photometric="minisblack")
    (tmp_path / "ct" / "classes.txt").write_text("background\norgan\n")
    trained(wss, "dicom", tmp_path / "ct")
    assert wss("predict", "-w", "work", "-o", "out", "--no-overlays").code == 0
    (name,) = (p.stem for p in Path("out").glob("*.tif"))
    labels = tifffile.imread(f"out/{name}.tif")
    assert labels.shape == mask.shape
    assert wss("predict", tmp_path / "ct" / "images" / name, "-w", "work", "-o", "one", "--no-overlays").code == 0
    np.testing.assert_array_equal(tifffile.imread(f"one/{name}.tif"), labels)
    assert wss("predict", tmp_path / "ct" / "images", "-w", "work", "-o", "all", "--no-overlays").code == 0
    assert len(list(Path("all").glob("*.tif"))) == 3
    record = wss("evaluate", "-w", "work", "--json").json
    record = record[0] if isinstance(record, list) else record
    found = hd95(mask, labels, 1, (3.0, 0.75, 0.5))
    assert record["hd95_per_class"]["organ"] == pytest.approx(found)


def test_stacks_become_stacks(wss, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    mask = np.zeros((4, 20, 24), np.uint8)
    mask[1:3, 5:15, 6:18] = 1
    for part in ("images", "masks"):
        (tmp_path / "cells" / part).mkdir(parents=True)
    for n in range(3):
        values = (mask * 100 + rng.integers(0, 99, mask.shape)).astype(np.uint8)
        tifffile.imwrite(tmp_path / "cells" / "images" / f"s{n}.tif", values, photometric="minisblack")
        tifffile.imwrite(tmp_path / "cells" / "masks" / f"s{n}.tif", mask, photometric="minisblack")
    (tmp_path / "cells" / "classes.txt").write_text("background\norgan\n")
    trained(wss, "stack", tmp_path / "cells")
    assert wss("predict", "-w", "work", "-o", "out", "--no-overlays").code == 0
    (path,) = Path("out").glob("*.tif")
    result = wss("predict", tmp_path / "cells" / "images", "-w", "work", "-o", "all", "--no-overlays")
    assert result.code == 0, result.err
    np.testing.assert_array_equal(tifffile.imread(Path("all") / path.name), tifffile.imread(path))


def test_volumes_after_a_network_of_pictures_say_how_they_are_cut(cells, wss):
    assert wss("run", "pce", "--jobs", 1, *QUICK).code == 0
    save(Path("new/a.nii.gz"), np.zeros((16, 18, 3), np.int16), AFFINE)
    result = wss("predict", "new/a.nii.gz", "-o", "out", "--no-overlays")
    assert result.code == 0, result.err
    assert "cut along axis 2" in result.said
    assert nibabel.load("out/a.nii.gz").shape == (16, 18, 3)
