"""TIFF stacks, pages, and files beside volumes."""

import unicodedata

import nibabel
import numpy as np
import pytest
import tifffile
from volume_cases import codes

from tests.datasets.volume_files import save, volumes
from wss.datasets import open_source, volume_file
from wss.datasets.check import check
from wss.datasets.images import PixelOptions
from wss.datasets.volume_file import open_volume
from wss.datasets.volume_masks import write_volume_mask
from wss.errors import DataError


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
