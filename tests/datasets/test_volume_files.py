"""Volumes against the libraries that define their formats: values, axes, spacing, splits, and what is refused."""

import pickle

import nibabel
import numpy as np
import pytest
from volume_cases import codes

from tests.datasets.volume_files import AFFINE, save, volumes
from wss.datasets import open_source
from wss.datasets.volume_file import open_volume
from wss.errors import DataError


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
