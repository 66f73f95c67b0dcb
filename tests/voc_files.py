"""Tiny folders of the form of VOC 2012 with SBD and ScribbleSup, of PASCAL-Context, DensePose-COCO and salient objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.io import savemat

from tests.datasets.coco_files import rle, write_annotations
from wss.datasets.cards import colour_map, load_card
from wss.datasets.strokes_io import format_xml
from wss.scribbles.strokes import Stroke

VOID = 255
TRAIN = ("2007_000032", "2007_000039", "2007_000063", "2007_000068")
SBD = ("2008_000002", "2008_000003", "2008_000007", "2008_000009", "2008_000016", "2008_000021")
VAL = ("2007_000033", "2007_000042", "2007_000061", "2007_000123")
SBD_TOO = (TRAIN[1], VAL[0], VAL[2])
"""Images of VOC's own lists that SBD annotates as well."""
SIZES = ((48, 64), (64, 48), (50, 60), (44, 66))
COLOURS = {7: (200, 60, 50), 8: (60, 190, 70), 12: (70, 80, 210), 15: (220, 200, 60)}
PAIRS = ((8, 15), (12, 7), (15, 12), (7, 8), (8, 12))
"""Classes of the two objects of an image, one pair after another: cat, person, dog and car."""


@dataclass(frozen=True)
class Scene:
    """An image with everything that data sets tell about it.

    Attributes:
        image: uint8 (H, W, 3).
        mask: Labels, uint8 (H, W), without void.
        border: Where VOC's masks are void, bool (H, W).
        boxes: Rows ``class, x0, y0, x1, y1``, pixels from 0 and inclusive.
        strokes: Two on the first object and one on the others, two on the background.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    border: NDArray[np.bool_]
    boxes: list[tuple[int, int, int, int, int]]
    strokes: tuple[Stroke, ...]


def scene(number: int, background: int = 0, labels: Sequence[int] | None = None) -> Scene:
    """An ellipse and a rectangle of two classes; every third image has a second rectangle of the ellipse's class.

    Args:
        number: Decides size, classes, places and noise.
        background: Label of the rest.
        labels: Labels in the place of VOC's; their number is that of the classes in ``PAIRS``.
    """
    height, width = SIZES[number % len(SIZES)]
    known = sorted(COLOURS)
    first, second = PAIRS[number % len(PAIRS)]
    shift = number % 4 - 1
    x, y, w, h = 0.29 * width + shift, 0.5 * height - shift, 0.2 * width, 0.3 * height
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    regions = [(first, ((columns - x) / w) ** 2 + ((rows - y) / h) ** 2 <= 1)]
    strokes = [(first, [(x - 0.5 * w, y), (x, y + 2), (x + 0.6 * w, y)]), (first, [(x, y - 0.7 * h), (x, y - 0.3 * h)])]
    blocks = [(second, 0.62, 0.2, 0.92, 0.55)] + ([(first, 0.66, 0.66, 0.9, 0.88)] if number % 3 == 0 else [])
    for label, *sides in blocks:
        left, top, right, bottom = (round(side * size) for side, size in zip(sides, (width, height) * 2, strict=True))
        regions.append((label, (columns >= left) & (columns < right) & (rows >= top) & (rows < bottom)))
        middle = (top + bottom) / 2
        strokes.append((label, [(left + 3, middle), ((left + right) / 2, middle + 1), (right - 4, middle)]))
    mask = np.zeros((height, width), np.uint8)
    border = np.zeros((height, width), bool)
    image = np.full((height, width, 3), (90, 90, 90), np.float64)
    boxes = []
    for label, inside in regions:
        found = inside.astype(np.uint8)
        border |= cv2.morphologyEx(found, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
        mask[inside], image[inside] = label, COLOURS[label]
        across, down = columns[inside], rows[inside]
        boxes.append((label, int(across.min()), int(down.min()), int(across.max()), int(down.max())))
    noise = np.random.default_rng(number).integers(-20, 21, image.shape)
    strokes += [
        (0, [(2, 2), (width / 2, 3), (width - 3, 2)]),
        (0, [(3, height - 3), (width - 4, height - 3)]),
    ]
    table = np.full(256, background, np.uint8)
    table[known] = known if labels is None else labels
    return Scene(
        (image + noise).clip(0, 255).astype(np.uint8),
        table[mask],
        border,
        [(int(table[label]), *box) for label, *box in boxes],
        tuple(Stroke(int(table[label]), np.array(points, np.float64), 3) for label, points in strokes),
    )


def write_voc(root: Path, *, sbd: bool = True) -> Path:
    """VOC 2012: images, masks with void borders, boxes and lists; SBD beside them; scribbles of all images of ``trainaug``.

    Args:
        root: Folder to make.
        sbd: Whether SBD's files are there.
    """
    classes = load_card("voc").classes
    release = root / "benchmark_RELEASE/dataset"
    scribbles = root / "scribble_annotation/pascal_2012"
    lists = root / "ImageSets/Segmentation"
    for folder in (root / "JPEGImages", root / "SegmentationClass", root / "Annotations", lists, scribbles):
        folder.mkdir(parents=True)
    for number, image_id in enumerate((*TRAIN, *SBD, *VAL)):
        made = scene(number)
        Image.fromarray(made.image).save(root / "JPEGImages" / f"{image_id}.jpg", quality=95)
        _write_boxes(root / "Annotations" / f"{image_id}.xml", made, classes)
        if image_id not in SBD:
            _write_mask(root / "SegmentationClass" / f"{image_id}.png", np.where(made.border, VOID, made.mask))
        if image_id not in VAL:
            text = format_xml(f"{image_id}.jpg", made.mask.shape, made.strokes, classes)
            (scribbles / f"{image_id}.xml").write_text(text)
        if sbd and image_id in (*SBD, *SBD_TOO):
            for folder in (release / "img", release / "cls"):
                folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(made.image).save(release / "img" / f"{image_id}.jpg", quality=95)
            present = np.unique(made.mask[made.mask > 0])
            content = {"Segmentation": made.mask, "Boundaries": np.zeros((20, 1)), "CategoriesPresent": present}
            savemat(release / "cls" / f"{image_id}.mat", {"GTcls": content})
    write_list(lists / "train.txt", TRAIN)
    write_list(lists / "val.txt", VAL)
    if sbd:
        write_list(release / "train.txt", (*SBD[:4], SBD_TOO[0], SBD_TOO[1]))
        write_list(release / "val.txt", (*SBD[4:], SBD_TOO[2]))
    return root


def write_context(root: Path) -> Path:
    """PASCAL-Context: masks of 459 classes, lists, and scribbles as label images with VOC's classes first."""
    card = load_card("context")
    names = ("sky", "dog", "wall", "aeroplane")
    scribbles = root / "scribble_annotation/pascal_context"
    for folder in (root / "JPEGImages", root / "trainval", root / "ImageSets/Main", scribbles):
        folder.mkdir(parents=True)
    order = card.orders["voc-first"]
    for number, image_id in enumerate((*TRAIN, *VAL[:2])):
        made = scene(number, labels=[card.classes.index(name) for name in names])
        Image.fromarray(made.image).save(root / "JPEGImages" / f"{image_id}.jpg", quality=95)
        of_459 = np.full(256, 398, np.uint16)  # a class that is none of the 59
        drawn = np.full(made.mask.shape, VOID, np.uint8)
        for label in np.unique(made.mask[made.mask > 0]):
            of_459[label] = card.facts["label_map"][label]
        for stroke in made.strokes:
            points = np.rint(stroke.points).astype(np.int32)
            cv2.polylines(drawn, [points[:, None]], False, order.index(card.classes[stroke.label]))
        savemat(root / "trainval" / f"{image_id}.mat", {"LabelMap": of_459[made.mask]})
        cv2.imwrite(str(scribbles / f"{image_id}.png"), drawn)
    write_list(root / "ImageSets/Main/train.txt", TRAIN)
    write_list(root / "ImageSets/Main/val.txt", VAL[:2])
    return root


def write_densepose(root: Path) -> Path:
    """DensePose-COCO: four training and two validation images of one person each, with six parts."""
    parts = {14: np.s_[:70, 80:176], 1: np.s_[70:160, 60:196], 3: np.s_[70:120, :50], 2: np.s_[70:120, 206:]}
    parts |= {9: np.s_[170:, 60:120], 8: np.s_[170:, 136:196]}
    for split, folder, numbers in (("train", "train2014", range(1, 5)), ("minival", "val2014", range(5, 7))):
        images, people = {}, []
        for number in numbers:
            height, width = SIZES[number % len(SIZES)]
            name = f"COCO_{folder}_{number:012d}.jpg"
            images[number] = (name, (height, width))
            box = [0.15 * width + number % 3, 0.1 * height, 0.6 * width, 0.8 * height]
            people.append(_person(number, box, parts))
            colours = np.full((height, width, 3), (90, 90, 90), np.uint8)
            left, top = round(box[0]), round(box[1])
            across, down = np.arange(round(box[2])), np.arange(round(box[3]))
            for label, place in parts.items():
                grid = np.zeros((256, 256), bool)
                grid[place] = True
                there = grid[np.ix_((down * 256 / box[3]).astype(int), (across * 256 / box[2]).astype(int))]
                window = colours[top : top + len(down), left : left + len(across)]
                window[there] = ((label * 37) % 200 + 40, (label * 91) % 200 + 40, (label * 53) % 200 + 40)
            (root / folder).mkdir(parents=True, exist_ok=True)
            noise = np.random.default_rng(number).integers(0, 20, colours.shape)
            Image.fromarray((colours + noise).clip(0, 255).astype(np.uint8)).save(root / folder / name, quality=95)
        write_annotations(root / f"annotations/densepose_coco_2014_{split}.json", images, people)
    return root


def write_saliency(root: Path) -> Path:
    """Photographs of salient objects and masks of two classes, as a folder: four training and two validation images."""
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for number in range(6):
        made = scene(number)
        Image.fromarray(made.image).save(root / f"images/{number}.jpg", quality=95)
        Image.fromarray((made.mask > 0).astype(np.uint8)).save(root / f"masks/{number}.png")
    write_list(root / "classes.txt", ("background", "salient"))
    write_list(root / "train.txt", ("0", "1", "2", "3"))
    write_list(root / "val.txt", ("4", "5"))
    return root


def write_list(path: Path, ids: Sequence[str]) -> None:
    """One id a line."""
    path.write_text("".join(f"{image_id}\n" for image_id in ids))


def _write_mask(path: Path, labels: NDArray[np.integer]) -> None:
    image = Image.fromarray(labels.astype(np.uint8))
    image.putpalette(colour_map(256).tobytes())
    image.save(path)


def _write_boxes(path: Path, made: Scene, classes: Sequence[str]) -> None:
    """Boxes count from 1 in VOC."""
    tree = ElementTree.Element("annotation")
    for label, *box in made.boxes:
        item = ElementTree.SubElement(tree, "object")
        ElementTree.SubElement(item, "name").text = classes[label]
        corners = ElementTree.SubElement(item, "bndbox")
        for name, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True):
            ElementTree.SubElement(corners, name).text = str(value + 1)
    path.write_text(ElementTree.tostring(tree, encoding="unicode"))


def _person(number: int, box: list[float], parts: dict[int, tuple[slice, slice]]) -> dict[str, object]:
    masks = []
    for label in range(1, 15):
        mask = np.zeros((256, 256), bool)
        if label in parts:
            mask[parts[label]] = True
        masks.append(rle(mask) if label in parts else [])
    x, y, w, h = box
    outline = [[x, y, x + w, y, x + w, y + h, x, y + h]]
    return {"image_id": number, "bbox": box, "segmentation": outline, "dp_masks": masks}
