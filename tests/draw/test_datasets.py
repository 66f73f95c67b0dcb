import numpy as np
import pytest
from draw_client import halves, make_folder, stroke
from PIL import Image

from wss.datasets import open_source
from wss.datasets.check import check
from wss.draw.painting import paint
from wss.draw.project import open_project
from wss.errors import DataError, UsageError
from wss.pipeline.workspace import Workspace
from wss.store.atomic import write_text

SHAPE = (48, 64)
LEFT, RIGHT = stroke("l", 0, (4, 4), (8, 40)), stroke("r", 1, (50, 4), (56, 40))
BOX = {"id": "b", "kind": "box", "class": 1, "x0": 30, "y0": 5, "x1": 60.4, "y1": 40}


def test_a_folder_of_pictures_becomes_a_data_set_without_any_step(page, folder):
    before = (folder / "a.png").read_bytes()
    page.draw(page.image(), LEFT, RIGHT, BOX)
    page.change(page.image("b"), {"op": "tags", "tags": [1]})
    page.change(page.image("c"), {"op": "tags", "tags": []})
    page.studio.dataset.complete()
    source = open_source("folder", folder)
    assert source.catalogue.classes == ("background", "leaf")
    assert source.catalogue.splits["train"] == ("a", "b", "c")
    sample = source.read("a")
    np.testing.assert_array_equal(sample.scribble, paint([LEFT, RIGHT], SHAPE))
    assert sample.boxes.tolist() == [[1, 30, 5, 60, 39]]
    assert source.read("b").tags == (1,) and source.read("c").tags == ()
    assert [f for f in check(source, jobs=1) if f.severity == "error"] == []
    assert (folder / "a.png").read_bytes() == before and not (folder / "images").exists()


def test_a_folder_with_images_or_its_images_is_the_same(tmp_path, open_page):
    make_folder(tmp_path / "set/images")
    for given in (tmp_path / "set", tmp_path / "set/images"):
        project = open_project(given, None)
        assert project.root == (tmp_path / "set").resolve() and project.names == ("a", "b", "c")


def test_files_follow_the_drawing(page, folder):
    image, path = page.image(), folder / "scribbles/a.png"
    page.draw(image, LEFT)
    page.studio.dataset.write()
    first = path.read_bytes()
    page.draw(image, RIGHT)
    page.studio.dataset.write()
    assert path.read_bytes() != first
    page.change(image, {"op": "remove", "ids": ["l", "r"]})
    page.studio.dataset.write()
    assert not path.exists()
    page.draw(image, BOX)
    page.studio.dataset.complete()
    assert not path.exists() and "a.png,leaf,30,5,60,39" in (folder / "boxes.csv").read_text()
    page.change(image, {"op": "undo"})
    page.studio.dataset.complete()
    assert not (folder / "boxes.csv").exists()


def test_files_that_a_killed_server_left_behind_are_made_at_the_next_start(page, folder, open_page):
    page.draw(page.image(), LEFT)
    page.studio.dataset.write()
    page.draw(page.image(), RIGHT)
    page.studio.close()
    (folder / "scribbles/a.png").unlink()
    again = open_page(folder)
    assert again.studio.dataset.behind() == ["a"]
    again.studio.close()  # ends with everything written
    np.testing.assert_array_equal(np.array(Image.open(folder / "scribbles/a.png")), paint([LEFT, RIGHT], SHAPE))


def test_annotated_images_are_train_and_those_with_truth_val(page, folder):
    page.draw(page.image("a"), LEFT, RIGHT)
    page.draw(page.image("b"), LEFT, RIGHT)
    page.post(f"/api/images/{page.image('b')}/truth", {"base": 1, "source": "annotation"})
    page.studio.dataset.complete()
    splits = open_source("folder", folder).catalogue.splits
    assert splits == {"train": ("a",), "val": ("b",), "test": ("c",)}


def test_lists_that_were_there_stay(folder, open_page):
    (folder / "train.txt").write_text("a\n")
    (folder / "val.txt").write_text("b\n")
    page = open_page(folder)
    page.classes("leaf")
    page.draw(page.image("c"), LEFT)
    page.studio.dataset.complete()
    assert page.get("/api/project")["splits_fixed"]
    assert (folder / "train.txt").read_text() == "a\n" and not (folder / "test.txt").exists()
    assert "lists of its splits" in page.post(f"/api/images/{page.image('c')}/split", {"split": "train"}, 409)["error"]


def test_scribbles_that_somebody_drew_are_never_touched(folder, open_page):
    (folder / "scribbles").mkdir()
    (folder / "scribbles/a.txt").write_text("1,2,2,40,2\n")
    (folder / "classes.txt").write_text("background\nleaf\n")
    page = open_page(folder)
    page.draw(page.image(), LEFT)
    root = page.studio.dataset.complete()
    assert root == folder / "drawn"
    assert (folder / "scribbles/a.txt").read_text() == "1,2,2,40,2\n" and len(
        list((folder / "scribbles").iterdir())
    ) == 1
    sample = open_source("folder", root).read("a")
    assert sample.scribble[2, 20] == 1 and sample.scribble[20, 6] == 0
    np.testing.assert_array_equal(sample.image, halves(split=24))
    assert (root / "images/a.png").is_symlink()


def test_classes_of_a_data_set_keep_their_names_and_more_can_be_added(folder, open_page):
    (folder / "scribbles").mkdir()
    (folder / "scribbles/a.txt").write_text("1,2,2,40,2\n")
    (folder / "classes.txt").write_text("background\nleaf\n")
    page = open_page(folder)
    known = page.get("/api/project")
    assert known["classes_fixed"] == 2
    renamed = [known["classes"][0], known["classes"][1] | {"name": "other"}]
    page.post("/api/classes", {"revision": known["classes_revision"], "classes": renamed}, 400, "PUT")
    page.classes("stem")
    assert open_page(folder).get("/api/project")["classes"][2]["name"] == "stem"
    assert (folder / "classes.txt").read_text() == "background\nleaf\n"


def test_a_class_list_of_another_kind_is_not_rewritten(folder, open_page):
    (folder / "classes.yaml").write_text("classes: [background, leaf]\n")
    page = open_page(folder)
    known = page.get("/api/project")
    items = [*known["classes"], {"index": None, "name": "new", "color": "#000000", "pattern": 0}]
    body = {"revision": known["classes_revision"], "classes": items}
    assert "no classes.txt" in page.post("/api/classes", body, 400, "PUT")["error"]
    assert not (folder / "classes.txt").exists()


class TestWorkspace:
    @pytest.fixture
    def sample(self, tmp_path, open_page):
        """A workspace on the generated sample, which has no files at all."""
        text = "dataset: {kind: sample, train: 2, val: 1, height: 32, width: 40}\n"
        write_text(tmp_path / "work/wss.yaml", text)
        return open_page(workspace=tmp_path / "work")

    def test_drawings_lie_over_the_data_sets_scribbles(self, sample, tmp_path):
        image = sample.image("train-0000")
        assert sample.get(f"/api/images/{image}")["width"] == 40
        base = sample.studio.labels.base("train-0000")
        sample.draw(image, stroke("s", 3, (2, 2), (38, 30), width=6))
        root = sample.studio.dataset.complete()
        source = open_source(Workspace(root / "workspace").dataset())
        assert root == tmp_path / "work/drawn"
        drawn = paint([stroke("s", 3, (2, 2), (38, 30), width=6)], (32, 40))
        np.testing.assert_array_equal(source.read("train-0000").scribble, np.where(drawn == 255, base, drawn))
        assert source.catalogue.splits["val"] == ("val-0000",) and source.read("val-0000").mask is not None
        assert len(source.catalogue.classes) == 7

    def test_its_truth_is_not_replaced(self, sample):
        image = sample.image("val-0000")
        assert sample.get(f"/api/images/{image}")["has_truth"]
        body = {"base": 0, "source": "annotation"}
        assert "has a mask of this image" in sample.post(f"/api/images/{image}/truth", body, 409)["error"]


def test_volumes_are_drawn_on_slice_by_slice(tmp_path, open_page):
    nibabel = pytest.importorskip("nibabel")
    values = np.random.default_rng(0).integers(0, 1000, (20, 24, 3), dtype=np.int16)
    (tmp_path / "scans/images").mkdir(parents=True)
    nibabel.save(nibabel.Nifti1Image(values, np.diag([1, 1, 5, 1])), tmp_path / "scans/images/p.nii.gz")
    page = open_page(tmp_path / "scans")
    page.classes("heart")
    images = page.get("/api/project")["images"]
    assert [(i["volume"]["slice"], i["volume"]["of"]) for i in images] == [(0, 3), (1, 3), (2, 3)]
    page.draw(images[1]["id"], stroke("s", 1, (3, 3), (9, 9)))
    answer = page.post("/api/export", {"format": "nifti", "what": "scribbles"})
    import gzip
    import io
    import zipfile

    archive = zipfile.ZipFile(io.BytesIO(answer.content))
    found = nibabel.Nifti1Image.from_bytes(gzip.decompress(archive.read("p.nii.gz")))
    labels = np.asarray(found.dataobj)
    assert labels.shape == (20, 24, 3) and (labels[..., [0, 2]] == 255).all() and (labels[..., 1] == 1).any()
    source = open_source("folder", page.studio.dataset.complete())
    assert list(source.catalogue.splits["train"]) == [page.studio.project.names[1]]


def test_folders_that_cannot_be_drawn_on_are_refused_with_a_remedy(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no such folder"):
        open_project(tmp_path / "nothing", None)
    with pytest.raises(DataError, match="no image files"):
        open_project(tmp_path / "empty", None)
    assert not list((tmp_path / "empty").iterdir())
    write_text(tmp_path / "empty/wss.yaml", "dataset: {kind: sample}\n")
    with pytest.raises(DataError, match="it is a workspace: `wss draw -w"):
        open_project(tmp_path / "empty", None)
    assert [path.name for path in (tmp_path / "empty").iterdir()] == ["wss.yaml"]
    with pytest.raises(UsageError, match="-w"):
        open_project(None, None)
    with pytest.raises(UsageError, match="-w"):
        open_project(tmp_path, tmp_path)
    with pytest.raises(UsageError, match="wss init"):
        open_project(None, tmp_path)
