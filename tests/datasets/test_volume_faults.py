"""NIfTI files that are refused or told, lists of volumes, and written masks."""

import gzip
import sys

import nibabel
import numpy as np
import pytest
from volume_cases import codes

from tests.datasets.volume_files import AFFINE, save, series, volumes
from wss.datasets import open_source, volume_file
from wss.datasets.check import check
from wss.datasets.volume_file import open_volume
from wss.datasets.volume_masks import write_volume_mask
from wss.errors import DataError, UsageError


@pytest.mark.parametrize("damage", ["short", "short gz", "checksum", "text", "empty", "pair", "colours", "complex"])
def test_damaged_and_unread_files_are_refused_with_the_reason(tmp_path, damage):
    volumes(tmp_path, 2)
    path = tmp_path / "images" / "v0.nii.gz"
    data = path.read_bytes()
    reason = "cannot be read|ends after"
    if damage == "short":
        path.unlink()
        path = tmp_path / "images" / "v0.nii"
        path.write_bytes(gzip.decompress(data)[:-100])
        reason = r"ends after 5660 of 5760 bytes"
    elif damage == "short gz":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "checksum":
        path.write_bytes(data[:-8] + bytes([data[-8] ^ 1]) + data[-7:])
        reason = "CRC"
    elif damage == "text":
        path.write_bytes(b"not a volume" * 100)
        reason = "is no NIfTI file"
    elif damage == "empty":
        path.write_bytes(b"")
        reason = "the file is empty"
    elif damage == "pair":
        raw = bytearray(gzip.decompress(data))
        raw[344:348] = b"ni1\0"
        path.write_bytes(gzip.compress(bytes(raw)))
        reason = "header of a pair"
    elif damage == "colours":
        colours = np.zeros((20, 24, 6), [("R", "u1"), ("G", "u1"), ("B", "u1")])
        nibabel.save(nibabel.Nifti1Image(colours, AFFINE), path)
        reason = "holds colours"
    else:
        nibabel.save(nibabel.Nifti1Image(np.zeros((20, 24, 6), np.complex64), AFFINE), path)
        reason = "complex64"
    source = open_source("nifti", tmp_path)
    with pytest.raises(DataError, match=rf"{path.name}: .*({reason})"):
        source.read("v0_slice_000")
    found = check(source)
    assert any(f.severity == "error" and f.file == path for f in found)
    assert source.read("v1_slice_003").mask is not None  # others are read


def test_packed_volume_is_unpacked_once_for_all_its_slices(tmp_path, monkeypatch):
    volumes(tmp_path, 3)
    loads = []
    whole = volume_file._Arrays.get

    def counted(self, key, load):
        return whole(self, key, lambda: (loads.append(key[0].parent.name + key[0].name), load())[1])

    monkeypatch.setattr(volume_file._Arrays, "get", counted)
    monkeypatch.setattr(volume_file, "_arrays", volume_file._Arrays())
    source = open_source("nifti", tmp_path)
    for image_id in (i for n in range(3) for i in source.catalogue.volumes[f"v{n}"].ids):
        source.read(image_id)
    assert len(loads) == len(set(loads)) == 9
    assert len(volume_file._arrays._kept) <= 6


def test_a_changed_file_is_read_anew(tmp_path):
    mask = volumes(tmp_path, 2)
    source = open_source("nifti", tmp_path)
    before = source.fingerprint()
    assert source.read("v0_slice_002").mask.any()
    save(tmp_path / "masks" / "v0.nii.gz", mask * 0)
    assert not source.read("v0_slice_002").mask.any()
    assert open_source("nifti", tmp_path).fingerprint() != before


def test_volumes_are_never_divided(tmp_path):
    volumes(tmp_path, 10)
    source = open_source("nifti", tmp_path)
    splits = source.catalogue.splits
    assert (len(splits["train"]), len(splits["val"])) == (8 * 6, 2 * 6)
    for volume in source.catalogue.volumes.values():
        assert sum(set(volume.ids) <= set(ids) for ids in splits.values()) == 1
        assert sum(bool(set(volume.ids) & set(ids)) for ids in splits.values()) == 1


def test_volumes_of_one_patient_stay_together(tmp_path):
    volumes(tmp_path, 10)
    for n in range(10):
        for part in ("images", "masks", "scribbles"):
            (tmp_path / part / f"v{n}.nii.gz").rename(tmp_path / part / f"patient{n // 2:03d}_frame{n:02d}.nii.gz")
    splits = open_source("nifti", tmp_path).catalogue.splits
    patients = {name: {i.split("_")[0] for i in ids} for name, ids in splits.items()}
    assert not patients["train"] & patients["val"]
    assert len(patients["val"]) == 1
    with pytest.raises(UsageError, match=r"needs the named group"):
        open_source("nifti", tmp_path, group_pattern="patient")


def test_lists_name_volumes_with_or_without_ending(tmp_path):
    volumes(tmp_path, 4)
    (tmp_path / "train.txt").write_text("v0\nv1.nii.gz\n")
    (tmp_path / "val.txt").write_text("v2\n")
    source = open_source("nifti", tmp_path)
    assert {i[:2] for i in source.catalogue.splits["train"]} == {"v0", "v1"}
    assert len(source.catalogue.splits["val"]) == 6
    assert ("warning", "unlisted") in codes(source)
    (tmp_path / "val.txt").write_text("v2\nv1\n")
    assert ("error", "volume-overlap") in codes(open_source("nifti", tmp_path))
    (tmp_path / "val.txt").write_text("v9\nv2_slice_001\n")
    with pytest.raises(DataError, match=r"val.txt: lists v9, v2_slice_001, but there is no such volume"):
        open_source("nifti", tmp_path)


def test_blank_slices_are_not_the_same_picture(tmp_path):
    volumes(tmp_path, 4)
    for n in range(4):
        path = tmp_path / "images" / f"v{n}.nii.gz"
        values = np.asarray(nibabel.load(path).dataobj).copy()
        values[:, :, 0] = -100
        save(path, values)
    source = open_source("nifti", tmp_path)
    assert not {c for c in codes(source) if c[1] in ("same-image", "duplicate-image")}
    path.write_bytes((tmp_path / "images" / "v0.nii.gz").read_bytes())
    assert {c for c in codes(source) if c[1] in ("same-image", "duplicate-image")}  # a copied volume is told


def test_pixdim_that_contradicts_the_affine_is_told(tmp_path):
    volumes(tmp_path, 2)
    path = tmp_path / "images" / "v0.nii.gz"
    image = nibabel.load(path)
    values, header = np.asarray(image.dataobj), image.header.copy()
    image = nibabel.Nifti1Image(values, AFFINE, header)
    image.header["pixdim"][3] = 1
    path.write_bytes(gzip.compress(image.to_bytes()))
    source = open_source("nifti", tmp_path, axis=2)
    assert source.catalogue.volumes["v0"].spacing_mm == (1, 1.5, 1.25)
    assert ("warning", "volume-spacing") in codes(source)
    given = open_source("nifti", tmp_path, axis=2, spacing_mm=[6, 1.5, 1.25])
    assert given.catalogue.volumes["v0"].spacing_mm == (6, 1.5, 1.25)


def test_options_that_mean_nothing_here_are_refused(tmp_path):
    volumes(tmp_path, 2)
    for options in ({"page": 0}, {"rgb_labels": True}, {"axis": 3}, {"spacing_mm": [1, 2]}):
        with pytest.raises(UsageError):
            open_source("nifti", tmp_path, **options)


@pytest.mark.parametrize(("kind", "package"), [("nifti", "nibabel"), ("dicom", "pydicom")])
def test_missing_package_names_the_command(tmp_path, monkeypatch, kind, package):
    volumes(tmp_path, 2)
    series(tmp_path / "dicom" / "images" / "s", np.zeros((3, 4, 5), np.int16))
    (tmp_path / "dicom" / "classes.txt").write_text("background\norgan\n")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UsageError, match=rf"{package}.*pip install 'wss\[volumes\]'"):
        open_source(kind, tmp_path if kind == "nifti" else tmp_path / "dicom")


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("two", [False, True], ids=["nifti1", "nifti2"])
def test_written_mask_is_in_the_place_of_its_image(tmp_path, axis, two):
    rng = np.random.default_rng(2)
    save(
        tmp_path / "a.nii", rng.integers(0, 99, (3, 4, 5)).astype(np.int16), slope=0.5, inter=3, two=two, units="micron"
    )
    labels = rng.integers(0, 3, (3, 4, 5)).astype(np.uint8)
    labels[0, 0, 0] = 255
    volume = open_volume(tmp_path / "a.nii")
    slices = [np.take(labels, n, axis) for n in range(labels.shape[axis])]
    write_volume_mask(tmp_path / "m.nii.gz", volume, axis, slices, np.zeros((3, 3), np.uint8))
    image, mask = nibabel.load(tmp_path / "a.nii"), nibabel.load(tmp_path / "m.nii.gz")
    np.testing.assert_array_equal(mask.get_fdata(), labels)
    assert mask.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(mask.affine, image.affine)
    for field in ("sform_code", "qform_code", "pixdim"):
        np.testing.assert_array_equal(mask.header[field], image.header[field])
    assert mask.header.get_xyzt_units() == image.header.get_xyzt_units()
    assert type(mask) is type(image)
