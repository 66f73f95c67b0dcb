"""DICOM series are read as they are stored, or refused with the reason."""

import io

import numpy as np
import pydicom
import pytest
import tifffile
from PIL import Image
from volume_cases import codes, stored

from tests.datasets.volume_files import dicom_slice, save, series
from wss.datasets import open_source
from wss.datasets.check import check
from wss.datasets.dicom import DicomSeries
from wss.datasets.volume_file import open_volume
from wss.errors import DataError

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
