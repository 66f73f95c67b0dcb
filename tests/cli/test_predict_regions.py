"""The largest region of foreground in `wss predict`: as the network's pipeline decides, or as asked.

The network is replaced by one that finds the class ``organ`` where the image is bright, so that every region is known.
"""

import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
import tifffile
from commands import QUICK, artifact
from PIL import Image

from tests.datasets.volume_files import AFFINE, save
from wss.datasets.images import read_label
from wss.predictor import Predictor
from wss.store import Store
from wss.viz import overlay

SHORT = [*QUICK, "--set", "train.network.widths=[4,8]", "--set", "train.augment.crop=16"]
SHAPE = (20, 24)
ORGAN = (slice(4, 14), slice(4, 14))
END = (slice(8, 10), slice(8, 10))
ISLAND, OTHER = (slice(16, 19), slice(16, 22)), (slice(16, 19), slice(2, 8))
GEO = [(33550, 12, 3, (10.0, 10.0, 0.0), True), (33922, 12, 6, (0.0, 0.0, 0.0, 500.0, 900.0, 0.0), True)]
PALETTE = np.array([[0, 0, 0], [128, 0, 0]], np.uint8)


@pytest.fixture(autouse=True)
def _bright_is_organ(monkeypatch):
    def whole(self, image):
        organ = (image[..., 0] > 128).astype(np.float32)
        return np.stack([1 - organ, organ])

    monkeypatch.setattr(Predictor, "_whole", whole)


def _slice(*areas):
    values = np.full(SHAPE, 40, np.uint8)
    for area in areas:
        values[area] = 200
    return values


def _volume(islands=True):
    """Four slices: the organ in the first three, and islands in the last three.

    In the third the island is larger than the organ's end, and in the last there is an island alone.
    """
    island, other = [ISLAND] * islands, [OTHER] * islands
    return [_slice(ORGAN), _slice(ORGAN, *island), _slice(END, *island), _slice(*other)]


KEPT = np.stack([s > 128 for s in _volume(islands=False)])
ALL = np.stack([s > 128 for s in _volume()])


def _scribble(on_island):
    scribble = np.full(SHAPE, 255, np.uint8)
    scribble[1, 2:20], scribble[8, 5:12] = 0, 1
    if on_island:
        scribble[17, 17:20] = 1
    return scribble


def write_scans(root, on_island=False, val=True, masks=True):
    """A data set of kind nifti. Scribbles touch the organ in one slice, and islands if so asked."""
    for name in ("v0", "v1", "v2")[: 3 if val else 2]:
        scribble = np.full((*SHAPE, 4), 255, np.uint8)
        scribble[..., 1] = _scribble(on_island)
        if on_island:
            scribble[17, 3:6, 3] = 1
        save(root / "images" / f"{name}.nii.gz", np.stack(_volume(), -1))
        if masks:
            save(root / "masks" / f"{name}.nii.gz", KEPT.transpose(1, 2, 0).astype(np.uint8))
        save(root / "scribbles" / f"{name}.nii.gz", scribble)
    (root / "classes.txt").write_text("background\norgan\n")
    (root / "train.txt").write_text("v0\nv1\n")
    (root / "val.txt").write_text("v2\n" if val else "")


def write_slices(root):
    """A data set of kind folder whose images are slices of volumes."""
    for part in ("images", "masks", "scribbles"):
        (root / part).mkdir(parents=True)
    for name in ("patient001_frame01", "patient002_frame01"):
        for number, (image, mask) in enumerate(zip(_volume(), _volume(islands=False), strict=True)):
            file = f"{name}_slice_{number:02d}.png"
            Image.fromarray(image).save(root / "images" / file)
            Image.fromarray((mask > 128).astype(np.uint8)).save(root / "masks" / file)
            if number < 3:
                Image.fromarray(_scribble(False)).save(root / "scribbles" / file)
    (root / "classes.txt").write_text("background\norgan\n")
    (root / "val.txt").write_text("".join(f"patient002_frame01_slice_{n:02d}\n" for n in range(4)))


def train(wss, kind, root, method="dmpls-scans"):
    assert wss("init", "--kind", kind, "--root", root, "--force").code == 0
    result = wss("train", "--method", method, "--jobs", 1, *SHORT)
    assert result.code == 0, result.err


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory):
    """Workspaces by the data set's options; copied by ``scans``."""
    return {}


@pytest.fixture
def scans(wss, tmp_path, monkeypatch, trained_once, tmp_path_factory):
    """Trains on scans, once for each kind of them; the current folder becomes the workspace, with the data set in ``scans``."""

    def make(**options):
        key = tuple(sorted(options.items()))
        if key not in trained_once:
            folder = tmp_path_factory.mktemp("trained")
            write_scans(folder / "scans", **options)
            monkeypatch.chdir(folder)
            train(wss, "nifti", "scans")
            trained_once[key] = folder
        shutil.copytree(trained_once[key], tmp_path / "work")
        monkeypatch.chdir(tmp_path / "work")
        return tmp_path / "work"

    return make


def _found(path):
    return np.asarray(nibabel.load(path).dataobj).transpose(2, 0, 1)


def _predict(wss, *arguments):
    result = wss("predict", *arguments)
    assert result.code == 0, result.err
    return result


def test_volumes_keep_what_the_pipeline_keeps(scans, wss):
    work = scans()
    assert not (work / "artifacts" / "largest-region").exists()
    result = _predict(wss, "scans/images/v0.nii.gz", "-o", "out", "--probs")
    assert (
        "predict: only the largest region of each volume or image is kept, as the pipeline decided on training images; "
        "--all-regions keeps all" in result.said
    )
    np.testing.assert_array_equal(_found("out/v0.nii.gz"), KEPT)
    np.testing.assert_array_equal(np.load("out/v0_slice_003_probs.npy")[1], ALL[3])
    for number, image in enumerate(_volume()):
        drawn = np.array(Image.open(f"out/v0_slice_{number:03d}_overlay.png"))
        rgb = np.repeat(image[..., None], 3, -1)
        palette = np.array(Store(artifact(work, "train")).meta["palette"], np.uint8)
        np.testing.assert_array_equal(drawn, overlay(rgb, KEPT[number].astype(np.uint8), palette, unpainted=0))
    again = _predict(wss, "-o", "split", "--json", "--no-overlays")
    assert again.json["largest_region"] is True
    store = Store(artifact(work, "largest-region"))
    np.testing.assert_array_equal(_found("split/v2.nii.gz"), np.stack([store.get("labels", i) for i in store.ids]))
    np.testing.assert_array_equal(_found("split/v2.nii.gz"), KEPT)


def test_evaluate_scores_the_masks_that_predict_writes(scans, wss):
    scans()
    result = wss("evaluate", "--json")
    assert result.code == 0, result.err
    assert result.json["largest_region"]["applied"] is True and result.json["miou"] == 1
    result = wss("evaluate", "--set", "largest-region.when=auto", "--trimap", "2")
    assert "+ largest region" in result.out and "within 2 px" in result.out


def test_all_regions_stay_when_asked(scans, wss):
    work = scans()
    result = _predict(wss, "scans/images/v0.nii.gz", "-o", "out", "--all-regions", "--no-overlays", "--json")
    np.testing.assert_array_equal(_found("out/v0.nii.gz"), ALL)
    assert "predict: all regions are kept" in result.said
    assert result.json["largest_region"] is False
    assert not (work / "artifacts" / "predict").exists()


def test_the_decision_against_it_holds_too(scans, wss):
    scans(on_island=True)
    result = _predict(wss, "scans/images/v0.nii.gz", "-o", "out", "--no-overlays")
    assert (
        "predict: all regions are kept, as the pipeline decided on training images; --largest-region keeps only the largest"
        in result.said
    )
    np.testing.assert_array_equal(_found("out/v0.nii.gz"), ALL)
    _predict(wss, "scans/images/v0.nii.gz", "-o", "one", "--no-overlays", "--largest-region")
    np.testing.assert_array_equal(_found("one/v0.nii.gz"), KEPT)


@pytest.mark.parametrize("masks", [True, False])
def test_without_held_out_images_training_images_decide(scans, wss, masks):
    work = scans(val=False, masks=masks)
    refused = wss("run", "dmpls-scans", "--jobs", 1, *SHORT, "--dry-run").code != 0
    assert refused == masks  # scores of training images are none of held-out ones
    result = _predict(wss, "scans/images/v0.nii.gz", "-o", "out", "--no-overlays")
    assert "as the pipeline decided on training images" in result.said
    np.testing.assert_array_equal(_found("out/v0.nii.gz"), KEPT)
    assert set(Store(artifact(work, "largest-region")).ids) == {f"v{v}_slice_{n:03d}" for v in (0, 1) for n in range(4)}


def test_a_pipeline_that_cannot_decide_keeps_all(scans, wss):
    work = scans(val=False)
    changes = work / "pipeline.yaml"
    changes.write_text("extends: dmpls-scans\nstages:\n  - id: predict-train\n    params: {split: test}\n")
    assert wss("train", "--method", "pipeline.yaml", "--jobs", 1, *SHORT).code == 0
    result = _predict(wss, "scans/images/v0.nii.gz", "-o", "out", "--no-overlays")
    assert "predict: all regions are kept, because the pipeline cannot decide here" in result.said
    assert "--largest-region keeps only the largest" in result.said
    np.testing.assert_array_equal(_found("out/v0.nii.gz"), ALL)


def test_always_needs_no_decision(scans, wss):
    work = scans(on_island=True)
    settings = ("--set", "largest-region.when=always")
    assert wss("train", "--method", "dmpls-scans", "--jobs", 1, *SHORT, *settings).code == 0
    result = _predict(wss, "scans/images/v0.nii.gz", "-o", "out", "--no-overlays")
    assert "as by the pipeline (largest-region.when=always); --all-regions keeps all" in result.said
    np.testing.assert_array_equal(_found("out/v0.nii.gz"), KEPT)
    assert not (work / "artifacts" / "predict").exists()


def test_a_network_alone_keeps_all_unless_asked(scans, wss):
    network = artifact(scans(), "train")
    given = ("scans/images/v0.nii.gz", "--checkpoint", network, "--no-overlays", "-o")
    result = _predict(wss, *given, "out")
    assert "predict: all regions are kept, as a network alone does not tell" in result.said
    np.testing.assert_array_equal(_found("out/v0.nii.gz"), ALL)
    assert (
        "predict: only the largest region of each volume or image is kept"
        in _predict(wss, *given, "one", "--largest-region").said
    )
    np.testing.assert_array_equal(_found("one/v0.nii.gz"), KEPT)
    assert "keeping only the largest region (stage largest-region) is not part" in wss("export", "-f", "torch").said


def test_voxels_without_data_stay_255_and_connect_nothing(scans, wss):
    """A bridge between the organ and an island that has no data does not make them one region, here and in the stage."""
    work = scans()
    values = np.stack(_volume(), -1).astype(np.float32)
    values[9:17, 14:17, 1] = 200
    joined = values.copy()
    values[14, 14:17, 1] = np.nan
    save(work / "gap.nii.gz", values, AFFINE)
    save(work / "joined.nii.gz", joined, AFFINE)
    Path("new").mkdir()
    for name in ("gap", "joined"):
        shutil.move(work / f"{name}.nii.gz", f"new/{name}.nii.gz")
    reading = ("--set", "read.stretch=[0,255]")
    _predict(wss, "new", "-o", "out", "--no-overlays", "--largest-region", *reading)
    found = _found("out/gap.nii.gz")
    np.testing.assert_array_equal(found == 255, np.isnan(values).transpose(2, 0, 1))
    assert found[1, 9, 15] == 1 and found[1, 16, 15] == 0 and not found[1][ISLAND].any()
    assert _found("out/joined.nii.gz")[1][ISLAND].all()


def test_images_by_themselves_and_files_written_in_blocks(scans, wss, monkeypatch):
    scans()
    Path("new").mkdir()
    image = _slice(ORGAN, ISLAND)
    Image.fromarray(image).save("new/a.png")
    tifffile.imwrite("new/b.tif", image, photometric="minisblack", extratags=GEO)
    reading = ("--set", "read.stretch=full")
    _predict(wss, "new", "-o", "out", *reading)
    for name in ("a.png", "b.png", "b.tif"):
        np.testing.assert_array_equal(read_label(Path("out") / name), KEPT[0])
    drawn = np.array(Image.open("out/a_overlay.png"))
    assert (drawn[ISLAND] == 200).all() and (drawn[ORGAN] != 200).any()
    monkeypatch.setattr("wss.cli.segmentation.MAX_PIXELS", 300)
    result = _predict(wss, "new/b.tif", "-o", "large", *reading)
    assert "b: predicted in blocks, so that all its regions are kept" in result.said
    np.testing.assert_array_equal(read_label(Path("large/b.tif")), image > 128)


def test_slices_in_folders_are_volumes(wss, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_slices(tmp_path / "slices")
    train(wss, "folder", "slices")
    _predict(wss, "-o", "out")
    _predict(wss, "slices/images", "-o", "files", "--no-overlays")
    for number, image in enumerate(_volume()):
        name = f"patient002_frame01_slice_{number:02d}"
        np.testing.assert_array_equal(read_label(Path(f"out/{name}.png")), KEPT[number])
        drawn = np.array(Image.open(f"out/{name}_overlay.png"))
        palette = np.array(Store(artifact(tmp_path, "train")).meta["palette"], np.uint8)
        rgb = np.repeat(image[..., None], 3, -1)
        np.testing.assert_array_equal(drawn, overlay(rgb, KEPT[number].astype(np.uint8), palette, unpainted=0))
    # files are images by themselves
    np.testing.assert_array_equal(read_label(Path("files/patient002_frame01_slice_03.png")), ALL[3])
    np.testing.assert_array_equal(read_label(Path("files/patient002_frame01_slice_02.png")), ALL[2] & ~KEPT[2])
    np.testing.assert_array_equal(read_label(Path("files/patient002_frame01_slice_01.png")), KEPT[1])


def test_a_volume_that_cannot_be_read_holds_no_other_up(scans, wss, monkeypatch):
    from wss.cli import volume_predictions
    from wss.errors import DataError

    scans()
    read = volume_predictions._read

    def failing(path, axis, channel, number, options):
        if path.name == "v0.nii.gz" and number == 2:
            raise DataError("v0.nii.gz: damaged")
        return read(path, axis, channel, number, options)

    monkeypatch.setattr(volume_predictions, "_read", failing)
    result = wss("predict", "scans/images", "-o", "out", "--no-overlays")
    assert result.code == 1 and "v0.nii.gz: damaged" in result.said
    assert not Path("out/v0.nii.gz").exists()
    np.testing.assert_array_equal(_found("out/v1.nii.gz"), KEPT)


def test_without_background_it_is_refused_before_training(wss, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_slices(tmp_path / "slices")
    (tmp_path / "slices/classes.txt").write_text("land\nwater\n")
    assert wss("init", "--kind", "folder", "--root", "slices").code == 0
    refused = wss("predict", "-o", "out", "--largest-region")
    assert refused.code == 2
    assert "--largest-region needs a background class, and this data set has none" in refused.said
    assert not (tmp_path / "artifacts").exists()
    train(wss, "folder", "slices")
    result = _predict(wss, "-o", "out", "--no-overlays")
    assert "predict: all regions are kept, because the data set has no background class" in result.said
    network = artifact(tmp_path, "train")
    refused = wss("predict", "slices/images", "--checkpoint", network, "-o", "out", "--largest-region")
    assert refused.code == 2
