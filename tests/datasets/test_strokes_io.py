"""Scribbles in XML and text, well-formed, malformed and hostile."""

from __future__ import annotations

import numpy as np
import pytest

from wss.datasets import strokes_io
from wss.datasets.finding import FileProblem
from wss.datasets.strokes_io import format_polylines, format_xml, outside, read_polylines, read_xml
from wss.errors import DataError
from wss.scribbles.strokes import Stroke

LABELS = {"background": 0, "cat": 1}

DISTRIBUTED = """<annotation>
  <folder>JPEGImages</folder>
  <filename>2007_000032.jpg</filename>
  <size><width>50</width><height>40</height><depth>3</depth></size>
  <polygon>
    <point><X>3</X><Y>4</Y></point><point><X>5</X><Y>6</Y></point>
    <tag>cat</tag>
  </polygon>
  <polygon><tag> background </tag><point><X>50</X><Y>-2</Y></point></polygon>
  <polygon><tag>cat</tag></polygon>
</annotation>
"""


def test_xml_as_distributed(tmp_path):
    (tmp_path / "a.xml").write_text(DISTRIBUTED)
    first, second = read_xml(tmp_path / "a.xml", LABELS, width=5)
    assert (first.label, first.width, first.points.tolist()) == (1, 5, [[3, 4], [5, 6]])
    assert first.points.dtype == np.float64
    assert (second.label, second.points.tolist()) == (0, [[50, -2]])


def test_unknown_class_names_the_name(tmp_path):
    (tmp_path / "a.xml").write_text(DISTRIBUTED.replace(">cat<", ">dog<"))
    with pytest.raises(FileProblem, match=r"polygon 1 has the class name 'dog'.*background, cat") as caught:
        read_xml(tmp_path / "a.xml", LABELS)
    assert caught.value.code == "unknown-class"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<annotation>",
        '<?xml version="1.0" encoding="uyf-8"?><annotation/>',
        DISTRIBUTED.replace("<X>3</X>", ""),
        DISTRIBUTED.replace("<X>3</X>", "<X>nan</X>"),
        DISTRIBUTED.replace("<X>3</X>", "<X>1e999</X>"),
        DISTRIBUTED.replace("<X>3</X>", "<X>three</X>"),
    ],
)
def test_malformed_xml(tmp_path, text):
    (tmp_path / "a.xml").write_text(text)
    with pytest.raises(DataError, match=r"a\.xml"):
        read_xml(tmp_path / "a.xml", LABELS)


def test_entities_are_not_expanded(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("cat")
    bombs = [
        '<!DOCTYPE a [<!ENTITY b "cat">]><a><polygon><tag>&b;</tag><point><X>1</X><Y>1</Y></point></polygon></a>',
        f'<!DOCTYPE a [<!ENTITY b SYSTEM "{secret.as_uri()}">]>'
        "<a><polygon><tag>&b;</tag><point><X>1</X><Y>1</Y></point></polygon></a>",
        '<!DOCTYPE a SYSTEM "http://localhost/x.dtd"><a/>',
    ]
    for text in bombs:
        (tmp_path / "a.xml").write_text(text)
        with pytest.raises(DataError, match="plain XML"):
            read_xml(tmp_path / "a.xml", LABELS)


def test_oversized_files_are_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(strokes_io, "MAX_BYTES", 10)
    (tmp_path / "a.txt").write_text("1,2,3,4,5,6,7\n")
    with pytest.raises(DataError, match="more than the limit of 10"):
        read_polylines(tmp_path / "a.txt")


def test_polylines(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"15,74,195,74,196.5\r\n\r\n0, 1,2,\r\n")
    first, second = read_polylines(tmp_path / "a.txt")
    assert (first.label, first.width, first.points.tolist()) == (15, 3, [[74, 195], [74, 196.5]])
    assert (second.label, second.points.tolist()) == (0, [[1, 2]])
    (tmp_path / "empty.txt").write_text("\n")
    assert read_polylines(tmp_path / "empty.txt") == ()


@pytest.mark.parametrize("line", ["1", "1,2", "1,2,3,4", "1.5,2,3", "-1,2,3", "255,2,3", "cat,1,2", "1,2,inf", "1;2;3"])
def test_malformed_polylines(tmp_path, line):
    (tmp_path / "a.txt").write_text(f"0,1,1\n{line}\n")
    with pytest.raises(DataError, match=r"a\.txt: (line|item) 2"):
        read_polylines(tmp_path / "a.txt")


def test_binary_text_file(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\xfd")
    with pytest.raises(DataError, match="not a text file"):
        read_polylines(tmp_path / "a.txt")


def test_round_trips(tmp_path):
    strokes = (Stroke(1, np.array([[0.0, 1.0], [2.25, 3.0]]), 3), Stroke(0, np.array([[7.0, 9.0]]), 3))
    (tmp_path / "a.xml").write_text(format_xml("a", (20, 30), strokes, ("background", "cat")), encoding="utf-8")
    (tmp_path / "a.txt").write_text(format_polylines(strokes))
    for read in (read_xml(tmp_path / "a.xml", LABELS), read_polylines(tmp_path / "a.txt")):
        assert [s.label for s in read] == [1, 0]
        for got, wanted in zip(read, strokes, strict=True):
            np.testing.assert_array_equal(got.points, wanted.points)


def test_class_names_are_escaped(tmp_path):
    name = "<cat> & 'dog'"
    text = format_xml("a", (2, 2), [Stroke(0, np.zeros((1, 2)))], (name,))
    (tmp_path / "a.xml").write_text(text, encoding="utf-8")
    assert read_xml(tmp_path / "a.xml", {name: 0})[0].label == 0


def test_outside():
    strokes = [Stroke(0, np.array([[0.0, 0.0], [9.0, 4.0], [10.0, 4.0], [9.0, 5.0], [-1.0, 2.0], [9.4, 4.4]]))]
    assert outside(strokes, (5, 10)).tolist() == [[10, 4], [9, 5], [-1, 2]]
    assert outside([], (5, 10)).shape == (0, 2)
