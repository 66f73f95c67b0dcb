import h5py
import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from wss.datasets.edge_maps import find_edge_maps, read_edge_map
from wss.errors import DataError

SIZE = (3, 4)
STRENGTHS = np.arange(12).reshape(SIZE) / 11


def doubled(values):
    """A contour map of double size whose pixels below and to the right of crossings hold the values."""
    contours = np.full((2 * SIZE[0] + 1, 2 * SIZE[1] + 1), 0.5)
    contours[2::2, 2::2] = values
    return contours


@pytest.mark.parametrize(("dtype", "largest"), [(np.uint8, 255), (np.uint16, 65535)])
def test_grey_png(tmp_path, dtype, largest):
    stored = np.rint(STRENGTHS * largest).astype(dtype)
    Image.fromarray(stored).save(tmp_path / "a.png")
    assert np.array_equal(read_edge_map(tmp_path / "a.png", SIZE), stored / largest)


def test_one_bit_and_grey_as_rgb(tmp_path):
    Image.fromarray(STRENGTHS > 0.5).save(tmp_path / "a.png")
    assert np.array_equal(read_edge_map(tmp_path / "a.png", SIZE), STRENGTHS > 0.5)
    grey = np.rint(STRENGTHS * 255).astype(np.uint8)
    Image.fromarray(np.stack([grey] * 3, -1)).save(tmp_path / "b.png")
    assert np.array_equal(read_edge_map(tmp_path / "b.png", SIZE), grey / 255)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_contour_map_of_double_size(tmp_path, dtype):
    savemat(tmp_path / "a.mat", {"ucm2": doubled(STRENGTHS).astype(dtype), "other": 1})
    assert np.array_equal(read_edge_map(tmp_path / "a.mat", SIZE), STRENGTHS.astype(dtype))


def test_integers_are_divided_by_the_largest_of_their_type(tmp_path):
    stored = np.rint(doubled(STRENGTHS) * 255).astype(np.uint8)
    savemat(tmp_path / "a.mat", {"ucm2": stored})
    assert np.array_equal(read_edge_map(tmp_path / "a.mat", SIZE), stored[2::2, 2::2] / 255)
    savemat(tmp_path / "b.mat", {"ucm2": doubled(STRENGTHS) > 0.5})
    assert np.array_equal(read_edge_map(tmp_path / "b.mat", SIZE), STRENGTHS > 0.5)


def write_new_version(path, values):
    """MATLAB's version 7.3: HDF5 behind a header of 512 bytes, arrays transposed."""
    with h5py.File(path, "w", userblock_size=512) as file:
        file["ucm2"] = values.T
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")


def test_version_7_3(tmp_path):
    write_new_version(tmp_path / "a.mat", doubled(STRENGTHS))
    assert np.array_equal(read_edge_map(tmp_path / "a.mat", SIZE), STRENGTHS)
    write_new_version(tmp_path / "b.mat", doubled(STRENGTHS).astype(np.uint8))
    with pytest.raises(DataError, match=r"b.mat: ucm2 is uint8 .* -v7"):
        read_edge_map(tmp_path / "b.mat", SIZE)


def test_faulty_contour_maps_are_refused(tmp_path):
    path = tmp_path / "a.mat"
    for values, message in (
        ({"ucm2": STRENGTHS}, "expected ucm2 of double size, 7x9 .* got 3x4"),
        ({"ucm": doubled(STRENGTHS)}, "expected the variable ucm2, it holds ucm"),
        ({"ucm2": doubled(STRENGTHS * 200)}, r"expected strengths in \[0,1\], got 0 to 200"),
        ({"ucm2": doubled(STRENGTHS * np.nan)}, "expected strengths"),
        ({"ucm2": "text"}, "ucm2 is"),
    ):
        savemat(path, values)
        with pytest.raises(DataError, match=message):
            read_edge_map(path, SIZE)
    path.write_bytes(b"no MATLAB file at all" * 20)
    with pytest.raises(DataError, match=r"a.mat: not a readable MATLAB file"):
        read_edge_map(path, SIZE)
    with pytest.raises(DataError, match="no such file"):
        read_edge_map(tmp_path / "b.mat", SIZE)


def test_faulty_pngs_are_refused(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(np.zeros((4, 3), np.uint8)).save(path)
    with pytest.raises(DataError, match=r"expected 3x4 .* got 4x3"):
        read_edge_map(path, SIZE)
    Image.fromarray(np.arange(36, dtype=np.uint8).reshape(3, 4, 3)).save(path)
    with pytest.raises(DataError, match="grey PNG"):
        read_edge_map(path, SIZE)
    Image.fromarray(np.zeros(SIZE, np.uint8)).save(path, format="jpeg")
    with pytest.raises(DataError, match="grey PNG"):
        read_edge_map(path, SIZE)


def test_maps_are_found_by_name(tmp_path):
    for name in ("b.png", "a.mat", "c.png", ".d.png"):
        (tmp_path / name).touch()
    assert find_edge_maps(tmp_path, "val", ["a", "b"]) == [tmp_path / "a.mat", tmp_path / "b.png"]
    with pytest.raises(DataError, match=r"no map of 2 of the 3 images of split 'val', for example d.png or d.mat"):
        find_edge_maps(tmp_path, "val", ["a", "d", "e"])
    (tmp_path / "a.png").touch()
    assert find_edge_maps(tmp_path, "val", ["b"])
    with pytest.raises(DataError, match="a has more than one map"):
        find_edge_maps(tmp_path, "val", ["a"])
    with pytest.raises(DataError, match="no such folder"):
        find_edge_maps(tmp_path / "nothing", "val", ["a"])


def test_maps_below_a_folder_of_the_split(tmp_path):
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "a.mat").touch()
    assert find_edge_maps(tmp_path, "test", ["a"]) == [tmp_path / "test" / "a.mat"]
