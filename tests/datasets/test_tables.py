"""Image tags and boxes from tables, and annotation files by a pattern of names."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from wss.cli.main import app
from wss.datasets import open_source
from wss.datasets.check import check
from wss.datasets.source import Catalogue
from wss.errors import DataError, UsageError
from wss.pipeline.run import run_pipeline
from wss.pipeline.spec import load_pipeline, shipped_pipelines
from wss.pipeline.workspace import Workspace
from wss.stages.prepare import PrepareParams, drawn, labelled
from wss.stages.stage import Context

CLASSES = "background\ncat\nred fox\n"


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "set"
    (root / "images").mkdir(parents=True)
    for number in range(4):
        image = np.random.default_rng(number).integers(0, 256, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(image).save(root / f"images/i{number}.png")
    (root / "classes.txt").write_text(CLASSES)
    return root


def _prepared(root, folder, annotation):
    dataset = {"kind": "folder", "root": str(root)}
    pipeline = load_pipeline(shipped_pipelines()["pce"], {"prepare": {"annotation": annotation}}, {"dataset": dataset})
    outcomes = run_pipeline(pipeline.up_to("prepare"), Workspace(folder), Context())
    return outcomes["prepare"].store


PAIRS = "i0,cat\ni1,red fox\ni2,cat\ni2,red fox\ni3,\n"


@pytest.mark.parametrize(
    "text",
    [
        PAIRS,
        "image,class\n" + PAIRS,
        "\ufeffImage,Label\r\n" + PAIRS.replace("\n", "\r\n"),
        "i0.png,cat\nimages/i1.png,red fox\nimages\\i2.PNG,red fox;cat\ni3,\n",
        '"i0";"cat"\n"i1";"red fox"\ni2;cat|red fox\ni3;\n',
        "i0\tcat\ni1\tred fox\n\ni2\tcat; red fox\ni3\t\n",
        "image,cat,red fox\ni0,1,0\ni1,0,1\ni2,1,1.0\ni3,0,false\n",
        "filename;red fox;cat\ni0;0;1\ni1;1;0\ni2;1;1\ni3;0;0\n",
    ],
)
def test_tags_of_every_form(root, text):
    (root / "tags.csv").write_text(text, encoding="utf-8")
    source = open_source("folder", root)
    assert {i: source.read(i).tags for i in ("i0", "i1", "i2", "i3")} == {
        "i0": (1,),
        "i1": (2,),
        "i2": (1, 2),
        "i3": (),
    }
    assert source.catalogue.untagged == frozenset()
    assert [f.code for f in source.notes] == ["tags"]


def test_names_of_one_word_may_be_separated_by_spaces(root):
    (root / "classes.txt").write_text("background\ncat\nfox\n")
    (root / "own.csv").write_text("i0,cat fox\ni1,fox\n")
    source = open_source("folder", root, tags="own.csv")
    assert source.read("i0").tags == (1, 2)
    assert source.read("i3").tags is None
    assert source.catalogue.untagged == {"i2", "i3"}
    found = {f.code: f for f in check(source)}["no-tags"]
    assert found.severity == "warning" and found.count == 2 and "such as i2" in found.message


def test_an_image_called_image(root):
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(root / "images/image.png")
    (root / "tags.csv").write_text("image,cat\ni0,red fox\n")
    assert open_source("folder", root).read("image").tags == (1,)
    (root / "tags.csv").write_text("image,class\nimage,red fox\n")
    assert open_source("folder", root).read("image").tags == (2,)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("i0,dog\n", "line 1 has the class name 'dog'"),
        ("image,class\ni0,cat\ni1,dog\n", "line 3 has the class name 'dog'"),
        ("image,cat,dog\ni0,1,0\n", "the header has the class name 'dog'"),
        ("image,cat,red fox\ni0,1\n", "line 2: expected 0 or 1 for each of the 2 classes"),
        ("image,cat,red fox\ni0,1,2\n", "line 2: expected 0 or 1"),
        ("image,cat,red fox\ni0,1,\n", "line 2: expected 0 or 1"),
        ("image,cat,red fox\ni0,1,0\ni0,0,0\n", "line 3: image 'i0' is there twice"),
        ("i0,cat,red fox\n", "line 1: 3 columns"),
        ("image\ni0\n", "line 1: one column"),
        ("i0 cat\n", "line 1: one column"),
        (",cat\n", "line 1: no image is named"),
        ("\n\n", "holds no row"),
        ('i0,"cat\n', "cannot be read"),
        (b"i0,\xff\n", "cannot be read"),
    ],
)
def test_damaged_tables_of_tags_name_file_and_line(root, text, message):
    (root / "tags.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=r"tags\.csv") as caught:
        open_source("folder", root)
    assert message in str(caught.value)


def test_rows_without_image_are_told(root):
    (root / "tags.csv").write_text("i0,cat\nI1,cat\nnobody,cat\n")
    found = {f.code: f for f in check(open_source("folder", root))}
    assert found["orphan"].image_id == "nobody" and found["case-mismatch"].image_id == "I1"
    with pytest.raises(DataError, match="no such table"):
        open_source("folder", root, tags="other.csv")


BOXES = "i0,cat,1,2,10,12\ni0,red fox,4.6,0,29,19\ni1,,,,,\n"


@pytest.mark.parametrize(
    "text",
    [
        BOXES,
        "image,class,x0,y0,x1,y1\n" + BOXES,
        "filename;label;ymin;xmin;ymax;xmax;who\ni0;cat;2;1;12;10;me\ni0.png;red fox;0;4.6;19;29;me\ni1;;;;;;\n",
    ],
)
def test_boxes_of_every_form(root, text):
    (root / "boxes.csv").write_text(text)
    source = open_source("folder", root)
    assert source.read("i0").boxes.tolist() == [[1, 1, 2, 10, 12], [2, 5, 0, 29, 19]]
    assert source.read("i1").boxes.shape == (0, 5)
    assert source.read("i2").boxes is None
    assert source.catalogue.unboxed == {"i2", "i3"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("i0,dog,1,2,3,4\n", "line 1 has the class name 'dog'"),
        ("i0,cat,1,2,3\n", "line 1: 5 columns"),
        ("i0,cat,1,2,x,4\n", "line 1: expected a number of pixels, got 'x'"),
        ("i0,cat,1,2,nan,4\n", "expected a number"),
        ("i0,cat,5,2,4,4\n", "a box from (5, 2) to (4, 4); write the upper left corner first"),
        ("image,class,x,y,width,height\ni0,cat,1,2,3,4\n", "has 0 columns called x0 or xmin"),
    ],
)
def test_damaged_tables_of_boxes_name_file_and_line(root, text, message):
    (root / "boxes.csv").write_text(text)
    with pytest.raises(DataError, match=r"boxes\.csv") as caught:
        open_source("folder", root)
    assert message in str(caught.value)


def test_boxes_outside_of_the_image_are_found_by_the_check(root):
    (root / "boxes.csv").write_text("i0,cat,1,2,80,12\n")
    found = {f.code: f for f in check(open_source("folder", root))}
    assert found["box-outside"].image_id == "i0"


def test_the_fingerprint_follows_the_tables(root):
    bare = open_source("folder", root).fingerprint()
    (root / "tags.csv").write_text("i0,cat\n")
    first = open_source("folder", root).fingerprint()
    (root / "tags.csv").write_text("i0,red fox\n")
    assert len({bare, first, open_source("folder", root).fingerprint()}) == 3


def test_labels_come_from_the_tables(root, tmp_path):
    (root / "tags.csv").write_text(PAIRS.removesuffix("i3,\n"))
    (root / "boxes.csv").write_text(BOXES)
    tags = _prepared(root, tmp_path / "w", "tag")
    assert {i: tags.get("tags", i).tolist() for i in tags.ids if tags.has("tags", i)} == {
        "i0": [1, 1, 0],
        "i1": [1, 0, 1],
        "i2": [1, 1, 1],
    }
    assert not tags.meta["simulated"]
    boxes = _prepared(root, tmp_path / "w", "box")
    assert boxes.get("boxes", "i0").tolist() == [[1, 1, 2, 10, 12], [2, 5, 0, 29, 19]]
    labels = np.zeros((20, 30), np.uint8)
    labels[2:13, 1:11] = 255
    labels[0:20, 5:30] = 255
    np.testing.assert_array_equal(boxes.get("labels", "i0"), labels)
    assert boxes.get("tags", "i0").tolist() == [1, 1, 1]
    assert not boxes.get("labels", "i1").any()
    assert not boxes.has("boxes", "i2") and (boxes.get("labels", "i2") == 255).all()


def test_written_tags_win_over_masks(root, tmp_path):
    (root / "masks").mkdir()
    for number in (0, 1):
        Image.fromarray(np.full((20, 30), 2, np.uint8)).save(root / f"masks/i{number}.png")
    (root / "tags.csv").write_text("i0,cat\n")
    store = _prepared(root, tmp_path / "w", "tag")
    assert store.get("tags", "i0").tolist() == [1, 1, 0]
    assert store.get("tags", "i1").tolist() == [1, 0, 1]


def test_what_can_be_labelled_is_counted_from_the_tables(root):
    (root / "tags.csv").write_text("i0,cat\ni2,cat\n")
    (root / "boxes.csv").write_text("i1,cat,1,1,2,2\n")
    catalogue = open_source("folder", root).catalogue
    ids = catalogue.splits["train"]
    assert labelled(PrepareParams(annotation="tag"), ids, catalogue) == ["i0", "i1", "i2"]
    assert labelled(PrepareParams(annotation="box"), ids, catalogue) == ["i1"]
    assert not drawn(PrepareParams(annotation="box"), catalogue)
    assert labelled(PrepareParams(annotation="scribble"), ids, catalogue) == []
    masked = Catalogue("folder", ("a",), np.zeros((1, 3), np.uint8), {"train": ids}, unboxed=frozenset(ids))
    assert drawn(PrepareParams(annotation="box"), masked)


def test_tags_alone_are_enough_and_nothing_is_refused_before_it_runs(root, tmp_path):
    run = CliRunner()
    work = str(tmp_path / "w")
    assert run.invoke(app, ["init", "-k", "folder", "-r", str(root), "-w", work]).exit_code == 0
    refused = run.invoke(app, ["prepare", "--annotation", "tag", "-w", work, "-j", "1"])
    assert refused.exit_code == 1
    assert "tags.csv" in str(refused.exception) + refused.output
    (root / "tags.csv").write_text(PAIRS)
    told = run.invoke(app, ["prepare", "--annotation", "tag", "-w", work, "-j", "1"])
    assert told.exit_code == 0 and "4 images, 4 with tags" in told.output
    refused = run.invoke(app, ["prepare", "--annotation", "box", "-w", work, "-j", "1"])
    assert refused.exit_code == 1 and "boxes.csv" in str(refused.exception) + refused.output
    facts = run.invoke(app, ["data", "info", "-w", work])
    assert "images tagged" in facts.output


# patterns


def _mask(path, value=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((20, 30), value, np.uint8)).save(path)


@pytest.mark.parametrize(
    ("pattern", "file"),
    [
        ("{name}_mask.png", "masks/i1_mask.png"),
        ("{name}_mask", "masks/i1_mask.tif"),
        ("seg_{name}.png", "masks/seg_i1.png"),
        ("truth/{name}_mask.png", "truth/i1_mask.png"),
        ("images/{name}_mask.png", "images/i1_mask.png"),
        ("truth/{name}/mask.png", "truth/i1/mask.png"),
        ("truth/{name}/{name}[a].png", "truth/i1/i1[a].png"),
    ],
)
def test_masks_by_a_pattern(root, pattern, file):
    _mask(root / file)
    source = open_source("folder", root, mask_pattern=pattern)
    assert set(source.entries) == {"i0", "i1", "i2", "i3"}
    assert (source.read("i1").mask == 1).all() and source.read("i0").mask is None
    assert "orphan" not in {f.code for f in source.notes}


def test_masks_among_the_images_are_told(root):
    _mask(root / "images/i1_mask.png")
    codes = {f.code for f in open_source("folder", root, mask_pattern="images/{name}_mask.png").notes}
    assert "annotation-beside-image" in codes


def test_scribbles_by_a_pattern_and_files_without_image(root):
    (root / "scribbles").mkdir()
    (root / "scribbles/i2-lines.txt").write_text("1,3,4,9,4\n")
    (root / "scribbles/other-lines.txt").write_text("1,3,4,9,4\n")
    source = open_source("folder", root, scribble_pattern="{name}-lines")
    assert [s.label for s in source.read("i2").strokes] == [1]
    assert [f.image_id for f in source.notes if f.code == "orphan"] == ["other"]


@pytest.mark.parametrize("pattern", ["mask.png", "../{name}.png", "/{name}.png"])
def test_patterns_that_cannot_be(root, pattern):
    with pytest.raises(UsageError, match="mask_pattern"):
        open_source("folder", root, mask_pattern=pattern)


def test_a_pattern_that_matches_nothing_shows_what_is_there(root):
    _mask(root / "masks/i1-gt.png")
    with pytest.raises(DataError, match=r"an image is called 'i0', and there is i1-gt\.png in"):
        open_source("folder", root, mask_pattern="{name}_mask.png")
    with pytest.raises(DataError, match="no folder"):
        open_source("folder", root, mask_pattern="truth/{name}_mask.png")
    with pytest.raises(DataError, match="nothing else"):  # images are not their own masks
        open_source("folder", root, mask_pattern="images/{name}.png")


def test_patterns_on_the_command_line(root, tmp_path):
    _mask(root / "masks/i1_mask.png")
    work = tmp_path / "w"
    given = ["-o", "mask_pattern={name}_mask.png", "-o", "volume_pattern=null"]
    result = CliRunner().invoke(app, ["init", "-k", "folder", "-r", str(root), "-w", str(work), *given])
    assert result.exit_code == 0, result.output
    source = open_source(Workspace(work).dataset())
    assert (source.read("i1").mask == 1).all()
    assert source.options.volume_pattern is None
