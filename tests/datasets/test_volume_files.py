"""Volumes against the libraries that define their formats: values, axes, spacing, splits, and what is refused."""

import gzip
import io
import pickle
import sys
import unicodedata

import nibabel
import numpy as np
import pydicom
import pytest
import tifffile
from PIL import Image

from tests.datasets.volume_files import AFFINE, dicom_slice, save, series, volumes
from wss.datasets import open_source, volume_file
from wss.datasets.check import check
from wss.datasets.dicom import DicomSeries
from wss.datasets.images import PixelOptions
from wss.datasets.volume_file import open_volume
from wss.datasets.volume_masks import write_volume_mask
from wss.errors import DataError, UsageError


def codes(source):
    return {(f.severity, f.code) for f in check(source)}


# --- NIfTI -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("two", [False, True], ids=["nifti1", "nifti2"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.uint16, np.int32, np.int64, np.float32, np.float64])
def test_nifti_slices_are_what_nibabel_reads(tmp_path, ending, order, two, dtype):
    rng = np.random.default_rng(1)
    values = (rng.random((3, 5, 4)) * 100).astype(dtype)
    path = tmp_path / f"a{ending}"
    save(path, values, two=two, order=order)
    truth = np.asarray(nibabel.load(path).dataobj)
    np.testing.assert_array_equal(truth, values)
    volume = open_volume(path)
    for axis in range(3):
        for number in range(values.shape[axis]):
            found = volume.raster(axis, number).values
            assert found.dtype == dtype
            np.testing.assert_array_equal(found, np.take(truth, number, axis))


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize(("slope", "inter"), [(0.5, -10), (2, 0), (1, 1000), (-1, 3), (0, 7), (np.nan, 5)])
def test_nifti_scaling_is_that_of_nibabel(tmp_path, ending, slope, inter):
    values = np.arange(60, dtype=np.int16).reshape(3, 5, 4)
    path = tmp_path / f"a{ending}"
    save(path, values, slope=slope, inter=inter)
    truth = nibabel.load(path).get_fdata()
    np.testing.assert_allclose(open_volume(path).raster(1, 2).values, truth[:, 2])


def test_file_that_is_packed_without_saying_so_is_read(tmp_path):
    save(tmp_path / "a.nii.gz", np.arange(60, dtype=np.int16).reshape(3, 5, 4))
    (tmp_path / "a.nii.gz").rename(tmp_path / "a.nii")
    assert open_volume(tmp_path / "a.nii").raster(2, 1).values[0, 0] == 1


@pytest.mark.parametrize(
    ("units", "factor"), [("mm", 1), ("meter", 1000), ("micron", 0.001), ("unknown", 1)], ids=lambda value: str(value)
)
def test_spacing_is_in_millimetres(tmp_path, units, factor):
    save(tmp_path / "a.nii", np.zeros((3, 4, 5), np.uint8), units=units)
    grid = open_volume(tmp_path / "a.nii").grid
    np.testing.assert_allclose(grid.spacing_mm, np.array([1.5, 1.25, 6]) * factor)
    np.testing.assert_allclose(np.array(grid.affine)[:3], AFFINE[:3] * factor)


def test_slices_are_along_the_axis_with_the_largest_spacing(tmp_path):
    for name, spacing, axis in (
        ("a", (5, 1, 1), 0),
        ("b", (1, 5, 1), 1),
        ("c", (1, 1, 1), 2),
        ("d", (1, 2, 2), 2),
        ("e", (1.0001, 1, 1), 2),
    ):
        root = tmp_path / name
        volumes(root, 2, (7, 8, 9), np.diag([*spacing, 1.0]))
        source = open_source("nifti", root)
        assert source.axis == axis, spacing
        volume = source.catalogue.volumes["v0"]
        assert len(volume.ids) == (7, 8, 9)[axis]
        rest = [s for a, s in enumerate(spacing) if a != axis]
        np.testing.assert_allclose(volume.spacing_mm, [spacing[axis], *rest], rtol=1e-6)
        assert any(f"along axis {axis}" in f.message for f in source.notes if f.code == "slice-axis")


def test_volumes_of_different_axes_are_refused_until_one_is_chosen(tmp_path):
    volumes(tmp_path, 2)
    save(tmp_path / "images" / "w.nii.gz", np.zeros((7, 8, 9), np.int16), np.diag([5, 1, 1, 1.0]))
    with pytest.raises(DataError, match=r"v0: axis 2.*w: axis 0.*-o axis=2"):
        open_source("nifti", tmp_path)
    assert open_source("nifti", tmp_path, axis=1).axis == 1


def test_a_slice_has_image_mask_and_scribble_in_the_order_of_the_file(tmp_path):
    mask = volumes(tmp_path, 3)
    source = open_source("nifti", tmp_path)
    values = np.asarray(nibabel.load(tmp_path / "images" / "v1.nii.gz").dataobj).astype(float)
    low, high = np.percentile(values, (0.5, 99.5))
    for number in range(6):
        sample = source.read(f"v1_slice_{number:03d}")
        np.testing.assert_array_equal(sample.mask, mask[:, :, number])
        wanted = np.rint(np.clip((values[:, :, number] - low) / (high - low) * 255, 0, 255))
        np.testing.assert_array_equal(sample.image, np.repeat(wanted[..., None], 3, -1))
        assert sample.scribble[8, 8] == mask[8, 8, number]
        assert sample.scribble[19, 23] == 255
    again = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(again.read("v1_slice_003").image, source.read("v1_slice_003").image)


def test_brightness_is_that_of_the_volume_and_not_of_the_slice(tmp_path):
    volumes(tmp_path, 2)
    values = np.zeros((20, 24, 6), np.int16)
    values[:, :, 5] = 1000
    values[:, 12:, :5] = 500
    save(tmp_path / "images" / "v0.nii.gz", values)
    source = open_source("nifti", tmp_path)
    dark, bright = (source.read(f"v0_slice_00{n}").image for n in (1, 5))
    assert (dark.max(), bright.min()) == (128, 255)
    fixed = open_source("nifti", tmp_path, stretch=[0, 500])
    assert fixed.read("v0_slice_001").image.max() == 255
    full = open_source("nifti", tmp_path, stretch="full")
    assert full.read("v0_slice_001").image[0, 0, 0] == 128


def test_bytes_keep_their_range(tmp_path):
    volumes(tmp_path, 2)
    values = np.full((20, 24, 6), 7, np.uint8)
    values[0] = 9
    for n in range(2):
        save(tmp_path / "images" / f"v{n}.nii.gz", values)
    assert set(np.unique(open_source("nifti", tmp_path).read("v0_slice_001").image)) == {7, 9}


def test_nan_and_nodata_are_no_data(tmp_path):
    mask = volumes(tmp_path, 2)
    values = np.asarray(nibabel.load(tmp_path / "images" / "v0.nii.gz").dataobj).astype(np.float32)
    values[5:8, 6:8, 2], values[10, 10, 2] = np.nan, -9999
    save(tmp_path / "images" / "v0.nii.gz", values)
    sample = open_source("nifti", tmp_path, nodata=-9999).read("v0_slice_002")
    empty = np.isnan(values[:, :, 2]) | (values[:, :, 2] == -9999)
    np.testing.assert_array_equal(sample.valid, ~empty)
    np.testing.assert_array_equal(sample.mask, np.where(empty, 255, mask[:, :, 2]))
    assert sample.image[~empty].max() == 255  # -9999 is outside the percentiles
    assert np.median(sample.image[5:15, 6:18][~empty[5:15, 6:18]]) > 150


@pytest.mark.parametrize("how", ["float32", "float64", "int64", "scaled", "nearly", "ignored", "nan"])
def test_whole_numbers_of_any_type_are_labels(tmp_path, how):
    mask = volumes(tmp_path, 2)
    path = tmp_path / "masks" / "v0.nii.gz"
    options = {}
    wanted = mask[:, :, 2].copy()
    if how == "scaled":  # as SPM and FSL write: 0 and 255, and the factor that makes them 0 and 1
        save(path, (mask * 255).astype(np.uint8), slope=1 / 255)
    elif how == "nearly":
        save(path, mask.astype(np.float32) * np.float32(0.99999))
    elif how == "ignored":
        save(path, np.where(mask == 1, -1000, 0).astype(np.int16))
        options, wanted = {"ignore": [-1000]}, np.where(wanted == 1, 255, 0)
    elif how == "nan":
        values = mask.astype(np.float32)
        values[0, :, 2] = np.nan
        save(path, values)
        wanted[0] = 255
    else:
        save(path, mask.astype(how))
    source = open_source("nifti", tmp_path, **options)
    np.testing.assert_array_equal(source.read("v0_slice_002").mask, wanted)


def test_scribbles_of_itk_snap_have_0_for_unpainted(tmp_path):
    volumes(tmp_path, 2)
    wanted = open_source("nifti", tmp_path).read("v0_slice_002").scribble
    for n in range(2):
        path = tmp_path / "scribbles" / f"v{n}.nii.gz"
        values = np.asarray(nibabel.load(path).dataobj)
        save(path, np.where(values == 255, 0, values + 1).astype(np.uint16))
    source = open_source("nifti", tmp_path, scribble_values={0: 255, 1: 0, 2: 1})
    np.testing.assert_array_equal(source.read("v0_slice_002").scribble, wanted)


@pytest.mark.parametrize("value", [0.5, -1, 256, np.inf])
def test_what_is_no_label_is_refused(tmp_path, value):
    mask = volumes(tmp_path, 2)
    values = mask.astype(np.float32)
    values[3, 4, 2] = value
    save(tmp_path / "masks" / "v0.nii.gz", values)
    source = open_source("nifti", tmp_path)
    with pytest.raises(DataError, match=r"v0.nii.gz: expected (whole numbers|labels from 0 to 255)"):
        source.read("v0_slice_002")
    assert ("error", "label-range") in codes(source)


def test_mask_of_another_affine_is_refused_and_the_remedy_works(tmp_path):
    mask = volumes(tmp_path, 2)
    path = tmp_path / "masks" / "v0.nii.gz"
    save(path, mask, np.diag([1.5, 1.25, 6, 1]))
    source = open_source("nifti", tmp_path)
    with pytest.raises(DataError) as caught:
        source.read("v0_slice_001")
    assert "[1.5 0 0 0]" in str(caught.value)
    assert "[-1.5 0 0 40]" in str(caught.value)
    assert ("error", "volume-affine") in codes(source)
    image = nibabel.load(tmp_path / "images" / "v0.nii.gz")
    nibabel.save(nibabel.Nifti1Image(mask, image.affine), path)  # the remedy
    np.testing.assert_array_equal(source.read("v0_slice_001").mask, mask[:, :, 1])
    assert not [c for c in codes(source) if c[0] == "error"]


def test_mirrored_mask_is_refused_though_it_has_the_same_shape(tmp_path):
    mask = volumes(tmp_path, 2)
    image = nibabel.Nifti1Image(mask, AFFINE)
    nibabel.save(nibabel.as_closest_canonical(image), tmp_path / "masks" / "v0.nii.gz")
    with pytest.raises(DataError, match="affine"):
        open_source("nifti", tmp_path).read("v0_slice_001")


def test_rounding_of_an_affine_is_no_difference(tmp_path):
    mask = volumes(tmp_path, 2)
    image = nibabel.Nifti1Image(mask, None)
    turned = AFFINE.copy()
    turned[:3, :3] = AFFINE[:3, :3] * (1 + 1e-6)
    image.set_qform(turned, 1)
    image.set_sform(None, 0)
    nibabel.save(image, tmp_path / "masks" / "v0.nii.gz")
    np.testing.assert_array_equal(open_source("nifti", tmp_path).read("v0_slice_002").mask, mask[:, :, 2])


def test_mask_without_affine_is_taken_and_told(tmp_path):
    mask = volumes(tmp_path, 2)
    image = nibabel.Nifti1Image(mask, None)
    nibabel.save(image, tmp_path / "masks" / "v0.nii.gz")
    source = open_source("nifti", tmp_path)
    np.testing.assert_array_equal(source.read("v0_slice_002").mask, mask[:, :, 2])
    assert ("warning", "no-affine") in codes(source)


def test_mask_of_another_shape_is_refused(tmp_path):
    mask = volumes(tmp_path, 2)
    save(tmp_path / "masks" / "v0.nii.gz", mask[:, :, :5])
    source = open_source("nifti", tmp_path)
    with pytest.raises(DataError, match=r"20x24x5 voxels, its image v0.nii.gz has 20x24x6"):
        source.read("v0_slice_001")
    assert ("error", "volume-shape") in codes(source)
    save(tmp_path / "masks" / "v0.nii.gz", mask.transpose(1, 0, 2))
    with pytest.raises(DataError, match="the axes are in another order"):
        source.read("v0_slice_001")


def test_four_dimensions_are_refused_until_a_channel_is_chosen(tmp_path):
    volumes(tmp_path, 2)
    values = np.arange(20 * 24 * 6 * 3, dtype=np.int16).reshape(20, 24, 6, 3)
    for n in range(2):
        save(tmp_path / "images" / f"v{n}.nii.gz", values)
        nibabel.save(nibabel.load(tmp_path / "images" / f"v{n}.nii.gz"), tmp_path / "plain.nii")
    with pytest.raises(DataError, match=r"holds 3 volumes \(20x24x6x3.*0 to 2 with the option channel"):
        open_source("nifti", tmp_path).read("v0_slice_000")
    source = open_source("nifti", tmp_path, channel=2, stretch=[0, 255])
    assert source.read("v0_slice_004").mask.shape == (20, 24)
    for path in (tmp_path / "images" / "v0.nii.gz", tmp_path / "plain.nii"):
        np.testing.assert_array_equal(open_volume(path, 2).raster(2, 4).values, values[:, :, 4, 2])
    with pytest.raises(DataError, match="has no channel 3"):
        open_source("nifti", tmp_path, channel=3).read("v0_slice_000")


@pytest.mark.parametrize("how", ["extension", "qform", "trailing", "int8", "late"])
def test_unusual_headers_are_read_as_nibabel_reads_them(tmp_path, how):
    values = np.random.default_rng(7).integers(-100, 100, (4, 5, 6)).astype(np.int8 if how == "int8" else np.int16)
    image = nibabel.Nifti1Image(values[..., None, None] if how == "trailing" else values, AFFINE)
    if how == "extension":
        image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"x" * 1000))
    if how == "qform":
        turned = AFFINE @ np.array([[0, -1, 0, 3], [1, 0, 0, 2], [0, 0, 1, 1], [0, 0, 0, 1.0]])
        image = nibabel.Nifti1Image(values, None)
        image.set_qform(turned, 1)
    if how == "late":
        image.header.set_data_offset(4096)
    nibabel.save(image, tmp_path / "a.nii.gz")
    truth, volume = nibabel.load(tmp_path / "a.nii.gz"), open_volume(tmp_path / "a.nii.gz")
    np.testing.assert_allclose(volume.grid.affine, truth.affine)
    np.testing.assert_allclose(volume.grid.spacing_mm, truth.header.get_zooms()[:3])
    for number in range(5):
        np.testing.assert_array_equal(volume.raster(1, number).values, np.squeeze(truth.get_fdata())[:, number])


def test_two_dimensions_are_one_slice(tmp_path):
    save(tmp_path / "a.nii", np.arange(12, dtype=np.int16).reshape(3, 4))
    volume = open_volume(tmp_path / "a.nii")
    assert volume.grid.shape == (3, 4, 1)
    np.testing.assert_array_equal(volume.raster(2, 0).values, np.arange(12).reshape(3, 4))


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


# --- DICOM -----------------------------------------------------------------------------------------------------------

CT = np.arange(5 * 4 * 6, dtype=np.int16).reshape(5, 4, 6) - 50


def dicom_set(root, **tags):
    for n in range(2):
        series(root / "images" / f"s{n}", np.roll(CT, n, 2), **tags)
    (root / "classes.txt").write_text("background\norgan\n")


def test_series_is_sorted_by_position_and_rescaled(tmp_path):
    series(tmp_path / "s", CT, order=[3, 0, 4, 1, 2], RescaleSlope=2, RescaleIntercept=-1024)
    volume = open_volume(tmp_path / "s")
    assert volume.grid.shape == (5, 4, 6)
    assert volume.grid.spacing_mm == (3, 0.75, 0.5)
    for number in range(5):
        found = volume.raster(0, number).values
        assert found.dtype == np.int32
        np.testing.assert_array_equal(found, CT[number].astype(int) * 2 - 1024)
    series(tmp_path / "t", CT, RescaleSlope="0.25", RescaleIntercept="0.5")
    np.testing.assert_array_equal(open_volume(tmp_path / "t").raster(0, 2).values, CT[2] * 0.25 + 0.5)


def test_oblique_series_is_sorted_along_its_normal(tmp_path):
    angle = np.deg2rad(30)
    across, down = np.array([np.cos(angle), 0, -np.sin(angle)]), np.array([0, 1.0, 0])
    normal = np.cross(across, down)
    for place, number in enumerate([2, 0, 1]):
        position = np.array([5, 6, 7]) + normal * 4 * number
        dicom_slice(tmp_path / "s" / f"{place}.dcm", CT[number], position, orientation=(*across, *down))
    volume = open_volume(tmp_path / "s")
    np.testing.assert_array_equal(volume.raster(0, 2).values, CT[2])
    np.testing.assert_allclose(volume.grid.spacing_mm, (4, 0.75, 0.5))
    place = np.array(volume.grid.affine) @ [1, 2, 3, 1]
    wanted = np.array([5, 6, 7]) + normal * 4 + down * 0.75 * 2 + across * 0.5 * 3
    np.testing.assert_allclose(place[:3], wanted * [-1, -1, 1])


def test_masks_of_a_series_are_stacks_series_or_nifti_in_its_place(tmp_path):
    dicom_set(tmp_path)
    labels = (CT % 2).astype(np.uint8)
    source = open_source("dicom", tmp_path)
    assert source.catalogue.volumes["s0"].spacing_mm == (3, 0.75, 0.5)
    folder = tmp_path / "masks"
    folder.mkdir()
    tifffile.imwrite(folder / "s0.tif", labels, photometric="minisblack")
    series(folder / "s1", labels.astype(np.int16), order=[4, 3, 2, 1, 0])
    source = open_source("dicom", tmp_path)
    for name in ("s0", "s1"):
        np.testing.assert_array_equal(
            np.stack([source.read(i).mask for i in source.catalogue.volumes[name].ids]), labels
        )
    assert not [c for c in codes(source) if c[0] == "error"]
    (folder / "s0.tif").unlink()
    affine = np.array(source.volume("s0").grid.affine)[:, [2, 1, 0, 3]]
    np.testing.assert_allclose(affine, [[-0.5, 0, 0, 20], [0, -0.75, 0, 30], [0, 0, 3, 10], [0, 0, 0, 1]])
    save(folder / "s0.nii.gz", labels.transpose(2, 1, 0), affine)  # columns, rows, slices, as ITK writes
    source = open_source("dicom", tmp_path)
    np.testing.assert_array_equal(source.read("s0_slice_003").mask, labels[3])
    save(folder / "s0.nii.gz", labels.transpose(2, 1, 0)[:, ::-1], np.diag([-0.5, 0.75, 3, 1]))
    with pytest.raises(DataError, match="affine"):
        open_source("dicom", tmp_path).read("s0_slice_003")


def test_missing_slice_is_an_error_until_the_spacing_is_given(tmp_path):
    dicom_set(tmp_path)
    (tmp_path / "images" / "s0" / "s02.dcm").unlink()
    source = open_source("dicom", tmp_path)
    with pytest.raises(DataError, match=r"slices 1 and 2 \(s01.dcm, s03.dcm\) are 6 mm apart, others 3 mm"):
        source.read("s0_slice_000")
    assert ("error", "missing-slices") in codes(source)
    given = open_source("dicom", tmp_path, spacing_mm=[3, 0.75, 0.5])
    assert given.read("s0_slice_000").image.shape == (4, 6, 3)
    assert ("warning", "missing-slices") in codes(given)
    assert not [c for c in codes(given) if c[0] == "error"]


def test_slices_of_different_sizes_are_reported(tmp_path):
    dicom_set(tmp_path)
    dicom_slice(tmp_path / "images" / "s0" / "s02.dcm", CT[2][:3], (-20, -30, 16))
    assert ("error", "volume-sizes") in codes(open_source("dicom", tmp_path))


def edited(folder, edit):
    """Change every file of a series; ``edit`` takes the data set and its place in the order of names."""
    for place, path in enumerate(sorted(folder.iterdir())):
        dataset = pydicom.dcmread(path)
        edit(dataset, place)
        dataset.save_as(path)


def stored(folder):
    volume = open_volume(folder)
    return np.stack([volume.raster(0, number).values for number in range(volume.grid.shape[0])])


def test_slices_of_unequal_pixel_spacing_are_refused(tmp_path):
    series(tmp_path / "s", CT)
    edited(tmp_path / "s", lambda d, n: setattr(d, "PixelSpacing", [0.75, 0.5 + (n == 2)]))
    with pytest.raises(DataError, match=r"s02.dcm: has the PixelSpacing \(0.75, 1.5\), s00.dcm .* \(0.75, 0.5\)"):
        open_volume(tmp_path / "s")


def test_floating_point_pixels_are_not_rounded(tmp_path):
    series(tmp_path / "s", CT)
    values = np.linspace(-1, 1, CT[0].size, dtype=np.float32).reshape(CT[0].shape)

    def edit(dataset, _):
        for name in ("PixelData", "BitsStored", "HighBit", "PixelRepresentation"):
            delattr(dataset, name)
        dataset.BitsAllocated, dataset.FloatPixelData = 32, values.tobytes()

    edited(tmp_path / "s", edit)
    np.testing.assert_array_equal(stored(tmp_path / "s"), np.stack([values] * len(CT)))


def test_table_of_the_modality_is_applied(tmp_path):
    def edit(dataset, _):
        table = pydicom.Dataset()
        table.LUTDescriptor, table.ModalityLUTType = [3, 0, 16], "HU"
        table.add_new("LUTData", "US", [700, 30, 9])
        dataset.ModalityLUTSequence = [table]
        dataset.add_new("PixelPaddingValue", "US", 2)

    kept = np.array([[[0, 1], [2, 5]]] * 2, np.uint16)
    series(tmp_path / "s", kept)
    edited(tmp_path / "s", edit)
    np.testing.assert_array_equal(stored(tmp_path / "s"), [[[700, 30], [np.nan, 9]]] * 2)


@pytest.mark.parametrize("vr", ["US", "SS"])
def test_padding_is_found_in_signed_pixels_however_it_is_written(tmp_path, vr):
    values = np.full((2, 3, 4), -700, np.int16)
    values[:, 0] = -2000
    series(tmp_path / "s", values, RescaleSlope=2, RescaleIntercept=5)
    padding = 63536 if vr == "US" else -2000
    edited(tmp_path / "s", lambda d, _: d.add_new("PixelPaddingValue", vr, padding))
    raster = open_volume(tmp_path / "s").raster(0, 1)
    np.testing.assert_array_equal(raster.values == raster.nodata, values[1] == -2000)


def test_empty_slope_is_none(tmp_path):
    series(tmp_path / "s", CT)
    edited(tmp_path / "s", lambda d, _: (setattr(d, "RescaleSlope", None), setattr(d, "RescaleIntercept", None)))
    np.testing.assert_array_equal(stored(tmp_path / "s"), CT)


def test_full_stretch_is_the_range_of_the_stored_bits(tmp_path):
    values = np.array([[[0, 2048, 4095]]] * 2, np.uint16)
    for n in range(2):
        tags = {"BitsStored": 12, "HighBit": 11, "RescaleSlope": 1, "RescaleIntercept": -1024}
        series(tmp_path / "images" / f"s{n}", values, **tags)
        save(tmp_path / "n" / "images" / f"s{n}.nii", np.array([[[-32768, 0, 32767]]] * 2, np.int16), slope=0.5)
    for kind, root in (("dicom", tmp_path), ("nifti", tmp_path / "n")):
        (root / "classes.txt").write_text("background\norgan\n")
        axis = {"axis": 0} if kind == "nifti" else {}
        source = open_source(kind, root, stretch="full", **axis)
        assert source.read("s0_slice_000").image[0, :, 0].tolist() == [0, 128, 255], kind


def test_files_of_dicom_with_any_ending_are_slices_and_folders_are_told(tmp_path):
    series(tmp_path / "s", CT)
    (tmp_path / "s" / "s01.dcm").rename(tmp_path / "s" / "s01.img")
    (tmp_path / "s" / "notes.txt").write_text("of a patient")
    series(tmp_path / "s" / "more", CT)
    np.testing.assert_array_equal(stored(tmp_path / "s"), CT)
    told = {remark.code: remark.message for remark in open_volume(tmp_path / "s").remarks}
    assert "notes.txt" in told["not-dicom"]
    assert "'more'" in told["dicom-folders"]


@pytest.mark.parametrize("frames", [1, 4])
def test_segmentation_objects_are_refused_with_what_to_do(tmp_path, frames):
    series(tmp_path / "s", CT)

    def edit(dataset, _):
        dataset.SOPClassUID = pydicom.uid.SegmentationStorage
        dataset.NumberOfFrames, dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = frames, 1, 1, 0
        dataset.PixelData = bytes(2 * CT[0].size)

    edited(tmp_path / "s", edit)
    with pytest.raises(DataError, match=r"is a DICOM segmentation \(SEG\), which is not read; save it as NIfTI"):
        open_volume(tmp_path / "s")


@pytest.mark.parametrize(
    ("syntax", "flag", "lossy"),
    [
        ("JPEGBaseline8Bit", None, True),
        ("JPEG2000", None, True),
        ("JPEG2000", "00", False),
        ("JPEG2000Lossless", None, False),
    ],
)
def test_masks_of_lossy_transfer_syntaxes_are_refused(tmp_path, syntax, flag, lossy):
    dicom_set(tmp_path)
    mask = (CT > 100).astype(np.uint16)
    series(tmp_path / "masks" / "s0", mask)

    def edit(dataset, _):
        values = dataset.pixel_array.astype(np.uint8)
        dataset.BitsAllocated = dataset.BitsStored = 8
        dataset.HighBit = 7
        data = io.BytesIO()
        kind = "JPEG" if syntax == "JPEGBaseline8Bit" else "JPEG2000"
        Image.fromarray(values).save(data, kind, **({"no_jp2": True} if kind == "JPEG2000" else {}))
        dataset.PixelData = pydicom.encaps.encapsulate([data.getvalue()])
        dataset["PixelData"].is_undefined_length = True
        dataset.file_meta.TransferSyntaxUID = getattr(pydicom.uid, syntax)
        if flag is not None:
            dataset.LossyImageCompression = flag

    edited(tmp_path / "masks" / "s0", edit)
    source = open_source("dicom", tmp_path)
    if lossy:
        with pytest.raises(DataError, match="lossy"):
            source.read("s0_slice_001")
    else:
        np.testing.assert_array_equal(source.read("s0_slice_001").mask, mask[1])


def without_positions(dataset, _):
    del dataset.ImagePositionPatient


def test_same_numbers_or_gaps_without_positions_are_refused(tmp_path):
    dicom_set(tmp_path)
    edited(tmp_path / "images" / "s0", without_positions)
    edited(tmp_path / "images" / "s0", lambda d, n: setattr(d, "InstanceNumber", n + (n > 1)))
    source = open_source("dicom", tmp_path)
    with pytest.raises(DataError, match="InstanceNumber goes from 1 to 3"):
        source.read("s0_slice_000")
    edited(tmp_path / "images" / "s0", lambda d, n: setattr(d, "InstanceNumber", max(n, 1)))
    with pytest.raises(DataError, match="have the same InstanceNumber 1"):
        open_volume(tmp_path / "images" / "s0")


def test_mask_series_without_positions_must_have_the_order_of_the_image(tmp_path):
    dicom_set(tmp_path)
    mask = (CT > 100).astype(np.uint16)
    series(tmp_path / "masks" / "s0", mask)
    edited(tmp_path / "masks" / "s0", without_positions)
    source = open_source("dicom", tmp_path)
    np.testing.assert_array_equal(source.read("s0_slice_001").mask, mask[1])
    assert ("warning", "dicom-position") in codes(source)
    edited(tmp_path / "images" / "s0", lambda d, _: setattr(d, "InstanceNumber", 9 - d.InstanceNumber))
    with pytest.raises(DataError, match=r"masks/s0: the slices of s0 are in the order of ImagePositionPatient"):
        open_source("dicom", tmp_path).read("s0_slice_001")


def test_several_images_at_a_position_need_a_channel(tmp_path):
    for number in range(3):
        for time in range(2):
            path = tmp_path / "s" / f"{time}{number}"  # no ending
            dicom_slice(path, CT[number] + 100 * time, (0, 0, number), number=1 + 3 * time + number)
    with pytest.raises(DataError, match="holds 2 volumes"):
        open_volume(tmp_path / "s")
    np.testing.assert_array_equal(open_volume(tmp_path / "s", 1).raster(0, 2).values, CT[2] + 100)
    (tmp_path / "s" / "11").unlink()
    with pytest.raises(DataError, match="are at one position"):
        open_volume(tmp_path / "s")


def test_what_is_no_series_is_refused(tmp_path):
    series(tmp_path / "two", CT)
    dicom_slice(tmp_path / "two" / "x.dcm", CT[0], (0, 0, 90), series="1.2.4", SeriesNumber=7)
    with pytest.raises(DataError, match="files of 2 series"):
        open_volume(tmp_path / "two")
    series(tmp_path / "scout", CT)
    dicom_slice(tmp_path / "scout" / "x.dcm", CT[0], (0, 0, 90), orientation=(0, 1, 0, 0, 0, 1))
    with pytest.raises(DataError, match=r"x.dcm: lies in another plane"):
        open_volume(tmp_path / "scout")
    series(tmp_path / "frames", CT[:1], NumberOfFrames=4)
    with pytest.raises(DataError, match="4 frames"):
        open_volume(tmp_path / "frames")
    series(tmp_path / "colours", CT[:1], SamplesPerPixel=3, PhotometricInterpretation="RGB")
    with pytest.raises(DataError, match="colours of the kind RGB"):
        open_volume(tmp_path / "colours")
    series(tmp_path / "text", CT)
    (tmp_path / "text" / "a.dcm").write_text("not DICOM" * 100)
    with pytest.raises(DataError, match=r"a.dcm: is no DICOM file"):
        open_volume(tmp_path / "text")
    (tmp_path / "text" / "a.dcm").rename(tmp_path / "text" / "notes.txt")
    assert [r.code for r in open_volume(tmp_path / "text").remarks] == ["not-dicom"]


def test_series_without_positions_is_in_the_order_of_its_numbers(tmp_path):
    for place, number in enumerate([2, 0, 1]):
        dicom_slice(tmp_path / "s" / f"{place}.dcm", CT[number], None, number=number + 1, SliceThickness=5)
    volume = open_volume(tmp_path / "s")
    np.testing.assert_array_equal(volume.raster(0, 0).values, CT[0])
    assert volume.grid.spacing_mm == (5, 0.75, 0.5)
    assert [r.code for r in volume.remarks] == ["dicom-position"]


def test_padding_is_no_data_and_monochrome1_is_turned(tmp_path):
    values = CT.astype(np.int16)
    values[:, 0] = -2000
    series(tmp_path / "images" / "s0", values, PixelPaddingValue=-2000, PhotometricInterpretation="MONOCHROME1")
    (tmp_path / "classes.txt").write_text("background\norgan\n")
    source = open_source("dicom", tmp_path, stretch=[-50, 69])
    sample = source.read("s0_slice_004")
    np.testing.assert_array_equal(sample.valid[:, 0], [False, True, True, True])
    np.testing.assert_array_equal(sample.image[1:, :, 0], 255 - np.rint((CT[4, 1:] + 50) / 119 * 255))


def test_compression_without_a_decoder_is_refused_with_its_name(tmp_path):
    series(tmp_path / "s", CT)
    path = tmp_path / "s" / "s00.dcm"
    data = pydicom.dcmread(path)
    data.file_meta.TransferSyntaxUID = pydicom.uid.JPEGLSLossless
    data.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8\xff\xd9"])
    data["PixelData"].VR = "OB"
    data.save_as(path)
    with pytest.raises(DataError, match=r"s00.dcm: .*JPEG-LS"):
        open_volume(tmp_path / "s").raster(0, 0)


def test_folder_without_series_says_what_is_wanted(tmp_path):
    (tmp_path / "classes.txt").write_text("background\norgan\n")
    series(tmp_path / "images", CT)
    with pytest.raises(DataError, match="is itself a DICOM series"):
        open_source("dicom", tmp_path)


def test_masks_with_a_lossy_compression_are_refused(tmp_path):
    dicom_set(tmp_path)
    series(tmp_path / "masks" / "s0", np.zeros((5, 4, 6), np.int16), LossyImageCompression="01")
    with pytest.raises(DataError, match="lossy"):
        open_source("dicom", tmp_path).read("s0_slice_000")


def test_fingerprint_counts_every_file_of_a_series(tmp_path):
    dicom_set(tmp_path)
    series(tmp_path / "masks" / "s0", np.zeros((5, 4, 6), np.int16))
    source = open_source("dicom", tmp_path)
    files = {path for i in source.catalogue.volumes["s0"].ids for path in source.files(i)}
    assert len(files) == 10
    before = source.fingerprint()
    dicom_slice(tmp_path / "masks" / "s0" / "s04.dcm", np.ones((4, 6), np.int16), (-20, -30, 22), number=5)
    assert open_source("dicom", tmp_path).fingerprint() != before


def test_gap_in_numbered_slices_of_pictures_is_told(tmp_path):
    (tmp_path / "images").mkdir()
    rng = np.random.default_rng(0)
    for number in (0, 1, 2, 4):
        path = tmp_path / "images" / f"patient001_frame01_slice_{number}.png"
        Image.fromarray(rng.integers(0, 255, (8, 9, 3)).astype(np.uint8)).save(path)
    (tmp_path / "classes.txt").write_text("background\norgan\n")
    (found,) = (f for f in check(open_source("folder", tmp_path)) if f.code == "missing-slices")
    assert "'patient001_frame01_slice_2' and 'patient001_frame01_slice_4'" in found.message
    (tmp_path / "images" / "patient001_frame01_slice_1.png").unlink()  # 0, 2, 4
    assert not [f for f in check(open_source("folder", tmp_path)) if f.code == "missing-slices"]


def test_index_of_a_medium_is_skipped(tmp_path):
    series(tmp_path / "s", CT)
    (tmp_path / "s" / "DICOMDIR").write_bytes(b"x")
    (tmp_path / "s" / "._s00.dcm").write_bytes(b"x")
    assert len(DicomSeries(tmp_path / "s").files) == 5


# --- TIFF stacks -----------------------------------------------------------------------------------------------------


def stack_set(root, values, **options):
    (root / "images").mkdir()
    (root / "masks").mkdir()
    tifffile.imwrite(root / "images" / "a.tif", values, **options)
    tifffile.imwrite(root / "masks" / "a.tiff", (values % 2).astype(np.uint8), photometric="minisblack")
    (root / "classes.txt").write_text("background\norgan\n")


@pytest.mark.parametrize(
    ("how", "spacing"),
    [
        ({"photometric": "minisblack"}, None),
        ({"photometric": "minisblack", "compression": "deflate", "tile": (16, 16)}, None),
        (
            {"imagej": True, "resolution": (2, 4), "metadata": {"spacing": 3.0, "unit": "um", "axes": "ZYX"}},
            (0.003, 0.00025, 0.0005),
        ),
        (
            {
                "ome": True,
                "metadata": {
                    "axes": "ZYX",
                    "PhysicalSizeX": 0.5,
                    "PhysicalSizeY": 0.25,
                    "PhysicalSizeZ": 3,
                    "PhysicalSizeZUnit": "mm",
                },
            },
            (3, 0.00025, 0.0005),
        ),
    ],
    ids=["pages", "tiles", "imagej", "ome"],
)
def test_pages_are_slices(tmp_path, how, spacing):
    values = np.random.default_rng(3).integers(0, 4000, (5, 17, 19)).astype(np.uint16)
    stack_set(tmp_path, values, **how)
    source = open_source("stack", tmp_path)
    volume = source.catalogue.volumes["a"]
    assert len(volume.ids) == 5
    assert volume.spacing_mm == (None if spacing is None else pytest.approx(spacing))
    low, high = np.percentile(values, (0.5, 99.5))
    for number, image_id in enumerate(volume.ids):
        sample = source.read(image_id)
        np.testing.assert_array_equal(sample.mask, values[number] % 2)
        wanted = np.rint(np.clip((values[number] - low) / (high - low) * 255, 0, 255))
        np.testing.assert_array_equal(sample.image[..., 1], wanted)
    assert not [c for c in codes(source) if c[0] == "error"]


def test_colours_of_a_stack_are_kept(tmp_path):
    values = np.random.default_rng(4).integers(0, 256, (3, 8, 9, 3)).astype(np.uint8)
    (tmp_path / "images").mkdir()
    tifffile.imwrite(tmp_path / "images" / "a.tif", values, photometric="rgb")
    (tmp_path / "classes.txt").write_text("background\norgan\n")
    source = open_source("stack", tmp_path)
    np.testing.assert_array_equal(source.read("a_slice_001").image, values[1])


def test_channels_of_imagej_are_bands_and_times_need_a_channel(tmp_path):
    values = np.random.default_rng(5).integers(0, 256, (2, 4, 3, 8, 9)).astype(np.uint8)
    (tmp_path / "images").mkdir()
    tifffile.imwrite(tmp_path / "images" / "a.tif", values, imagej=True, metadata={"axes": "TZCYX"})
    (tmp_path / "classes.txt").write_text("background\norgan\n")
    with pytest.raises(DataError, match=r"holds 2 volumes \(2 T x 4 Z pages"):
        open_source("stack", tmp_path).read("a_slice_000")
    source = open_source("stack", tmp_path, channel=1, bands=[3])
    assert len(source.catalogue.volumes["a"].ids) == 4
    np.testing.assert_array_equal(source.read("a_slice_002").image[..., 0], values[1, 2, 2])


def test_mask_with_fewer_pages_is_refused(tmp_path):
    stack_set(tmp_path, np.random.default_rng(3).integers(0, 4000, (5, 17, 19)).astype(np.uint16))
    tifffile.imwrite(tmp_path / "masks" / "a.tiff", np.zeros((4, 17, 19), np.uint8), photometric="minisblack")
    source = open_source("stack", tmp_path)
    with pytest.raises(DataError, match=r"4x17x19 voxels, its image a.tif has 5x17x19"):
        source.read("a_slice_000")
    assert ("error", "volume-shape") in codes(source)


def test_written_stack_has_the_labels_and_colours(tmp_path):
    stack_set(tmp_path, np.zeros((3, 17, 19), np.uint16), photometric="minisblack")
    labels = np.random.default_rng(6).integers(0, 2, (3, 17, 19)).astype(np.uint8)
    palette = np.array([[0, 0, 0], [200, 100, 50]], np.uint8)
    write_volume_mask(tmp_path / "m.tif", open_volume(tmp_path / "images" / "a.tif"), 0, list(labels), palette)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "m.tif"), labels)
    assert open_volume(tmp_path / "m.tif").grid.shape == (3, 17, 19)


def test_percentiles_of_long_volumes_come_from_slices_all_along(tmp_path):
    values = np.repeat(np.arange(200, dtype=np.int16), 16).reshape(200, 4, 4)
    save(tmp_path / "a.nii", values)
    ((low, high),) = volume_file.volume_ranges(open_volume(tmp_path / "a.nii"), 0, PixelOptions())
    assert low < 3
    assert high > 196


# --- files beside volumes, names -------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [".hdr", ".nrrd", ".mha", ".mgz", ".dcm"])
def test_volumes_of_other_formats_are_named_with_a_remedy(tmp_path, ending):
    volumes(tmp_path, 2)
    for folder in ("images", "masks"):
        (tmp_path / folder / f"w{ending}").write_bytes(b"x")
        (tmp_path / folder / "w.json").write_text("{}")
    found = [f for f in check(open_source("nifti", tmp_path)) if f.code == "not-read"]
    assert [(f.severity, f.count) for f in found] == [("warning", 2), ("note", 2)]
    assert "which is not read" in found[0].message
    for path in (tmp_path / "images").glob("*.nii.gz"):
        path.unlink()
    with pytest.raises(DataError, match=rf"w{ending}: is .*which is not read; (save it as|put the files)"):
        open_source("nifti", tmp_path)


def test_remedy_for_a_pair_of_files_works(tmp_path):
    volumes(tmp_path, 2)
    image = nibabel.load(tmp_path / "images" / "v0.nii.gz")
    values = np.asarray(image.dataobj)
    pair = tmp_path / "images" / "v0.hdr"
    nibabel.save(nibabel.Nifti1Pair(values, image.affine), pair)
    (tmp_path / "images" / "v0.nii.gz").unlink()
    assert ("warning", "not-read") in codes(open_source("nifti", tmp_path))
    nibabel.save(nibabel.load(pair), tmp_path / "images" / "v0.nii.gz")
    for path in (pair, pair.with_suffix(".img")):
        path.unlink()
    source = open_source("nifti", tmp_path)
    assert "not-read" not in {code for _, code in codes(source)}
    np.testing.assert_array_equal(open_volume(tmp_path / "images" / "v0.nii.gz").raster(2, 1).values, values[:, :, 1])
    assert source.read("v0_slice_002").mask is not None


def test_names_match_in_either_unicode_form(tmp_path):
    volumes(tmp_path, 2)
    for folder, form in (("images", "NFC"), ("masks", "NFD"), ("scribbles", "NFD")):
        name = unicodedata.normalize(form, "Zo\u00eb")
        (tmp_path / folder / "v0.nii.gz").rename(tmp_path / folder / f"{name}.nii.gz")
    (tmp_path / "train.txt").write_text(unicodedata.normalize("NFD", "Zo\u00eb"))
    source = open_source("nifti", tmp_path)
    sample = source.read("Zo\u00eb_slice_002")
    assert sample.mask is not None
    assert sample.scribble is not None


@pytest.mark.parametrize(
    ("place", "value", "reason"), [(70, b"\x01\0", "type that is not read"), (116, b"\0\0\xc0\x7f", "scale")]
)
def test_headers_that_nibabel_refuses_are_named(tmp_path, place, value, reason):
    save(tmp_path / "a.nii", np.zeros((3, 4, 5), np.int16))
    data = bytearray((tmp_path / "a.nii").read_bytes())
    data[112:116] = np.float32(2).tobytes()
    data[place : place + len(value)] = value
    (tmp_path / "a.nii").write_bytes(data)
    with pytest.raises(DataError, match=reason) as caught:
        open_volume(tmp_path / "a.nii")
    assert "download" not in str(caught.value)


# --- pages of stacks -------------------------------------------------------------------------------------------------

PAGES = np.arange(2 * 3 * 4 * 5, dtype=np.uint8).reshape(2, 3, 4, 5)


@pytest.mark.parametrize("axes", ["TZYX", "ZTYX"])
def test_slices_are_z_whichever_of_z_and_t_runs_faster(tmp_path, axes):
    stored = PAGES if axes == "TZYX" else PAGES.transpose(1, 0, 2, 3)
    tifffile.imwrite(tmp_path / "a.ome.tif", stored, ome=True, metadata={"axes": axes})
    volume = open_volume(tmp_path / "a.ome.tif", 1)
    assert volume.grid.shape == (3, 4, 5)
    np.testing.assert_array_equal([volume.raster(0, n).values for n in range(3)], PAGES[1])


def write_pages(path, *tags):
    with tifffile.TiffWriter(path) as file:
        for values, extra in zip(PAGES[0], tags, strict=True):
            file.write(values, photometric="minisblack", metadata=None, extratags=list(extra))


def test_each_page_is_turned_by_its_own_orientation(tmp_path):
    write_pages(tmp_path / "a.tif", (), [(274, 3, 1, 3, True)], ())
    volume = open_volume(tmp_path / "a.tif")
    found = [volume.raster(0, n).values for n in range(3)]
    np.testing.assert_array_equal(found, [PAGES[0, 0], PAGES[0, 1, ::-1, ::-1], PAGES[0, 2]])
    write_pages(tmp_path / "b.tif", (), [(274, 3, 1, 6, True)], ())
    with pytest.raises(DataError, match=r"b.tif: page 1 is turned otherwise than the first: 4x5 pixels"):
        open_volume(tmp_path / "b.tif").raster(0, 1)


def test_each_page_has_its_own_value_without_data(tmp_path):
    write_pages(tmp_path / "a.tif", (), [(42113, 2, 2, "7", True)], ())
    volume = open_volume(tmp_path / "a.tif")
    assert [volume.raster(0, n).nodata for n in range(3)] == [None, 7, None]


def test_one_of_several_files_of_an_ome_tiff_is_refused(tmp_path):
    ids = ["urn:uuid:00000000-0000-0000-0000-00000000000a", "urn:uuid:00000000-0000-0000-0000-00000000000b"]
    planes = "".join(
        f'<TiffData IFD="0" FirstZ="{z}" PlaneCount="1"><UUID FileName="f{z}.ome.tif">{ids[z]}</UUID></TiffData>'
        for z in (0, 1)
    )
    for z in (0, 1):
        text = (
            '<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
            f'UUID="{ids[z]}"><Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" SizeX="5" SizeY="4" '
            f'SizeZ="2" SizeC="1" SizeT="1"><Channel ID="Channel:0:0"/>{planes}</Pixels></Image></OME>'
        )
        tifffile.imwrite(
            tmp_path / f"f{z}.ome.tif", PAGES[0, z], photometric="minisblack", metadata=None, description=text
        )
    for _ in range(2):  # with the other file, and without
        with pytest.raises(DataError, match="one of several files of an OME-TIFF"):
            open_volume(tmp_path / "f0.ome.tif")
        (tmp_path / "f1.ome.tif").unlink(missing_ok=True)
