"""Stores of every version ever written still open, or are refused with the command that makes them anew."""

import dataclasses
import shutil

import golden
import h5py
import numpy as np
import pytest
import torch

from wss.cli.main import ENTRIES
from wss.errors import StoreError
from wss.store import Journal, Store
from wss.store.checkpoint import read_checkpoint, write_checkpoint

SCHEMAS = list(golden.SCHEMAS.values())
EVERY = pytest.mark.parametrize("schema", SCHEMAS, ids=[s.name for s in SCHEMAS])


def _current(schema):
    return golden.path_of(schema, schema.version)


def _layout(path):
    """Names, dtypes, shapes and filters in a file, and its attributes."""
    found = {}
    with h5py.File(path) as file:
        found["/"] = sorted(file.attrs)

        def note(name, node):
            if isinstance(node, h5py.Dataset):
                found[name] = (node.dtype.str, node.shape, node.chunks, node.compression, node.shuffle)
            else:
                found[name] = "group"

        file.visititems(note)
    return found


def test_there_is_a_file_for_every_version_of_every_kind():
    expected = {golden.path_of(s, version) for s in SCHEMAS for version in range(1, s.version + 1)}
    assert expected == set(golden.FOLDER.glob("*.h5"))
    assert set(golden.FULL) == set(golden.SCHEMAS)
    assert sum(path.stat().st_size for path in golden.FOLDER.iterdir()) < 200_000


READ = [(schema, version) for schema in SCHEMAS for version in range(schema.oldest, schema.version + 1)]


@pytest.mark.parametrize(("schema", "version"), READ, ids=[f"{s.name}-{v}" for s, v in READ])
def test_values_come_back(schema, version):
    store = Store(golden.path_of(schema, version), schema)
    assert store.verify()
    assert store.ids == (["full", "bare"] if golden.FULL[schema.name] else [])
    for image_id in store.ids:
        expected = golden.items(schema, image_id)
        for name in schema.items:
            assert store.has(name, image_id) == (name in expected)
        for name, array in expected.items():
            found = store.get(name, image_id)
            assert found.dtype == array.dtype
            np.testing.assert_array_equal(found, array)
    for name, array in golden.ARRAYS.get(schema.name, {}).items():
        np.testing.assert_array_equal(store.array(name), array)
    if schema.name == "model":
        _assert_tree(store.tree("state"))
    assert store.meta.items() >= golden.META.items()
    assert store.log == golden.LOG
    assert store.params == {"seed": 7}
    assert store.inputs["samples"][0]["stage"] == "samples"
    assert store.attributes["duration_s"] == 1.5


def _assert_tree(found):
    assert list(found) == list(golden.TREE)
    assert found["nested"] == golden.TREE["nested"]
    for name in ("weights", "half", "step"):
        assert found[name].dtype == golden.TREE[name].dtype
        assert torch.equal(found[name], golden.TREE[name])


@EVERY
def test_today_s_writer_writes_the_same(schema, tmp_path):
    """A changed layout, item or digest needs a new version, and a golden file of it."""
    path = tmp_path / "x.h5"
    golden.write(path, schema)
    assert _layout(path) == _layout(_current(schema))
    assert Store(path).digest == Store(_current(schema)).digest


@EVERY
def test_items_that_were_added_since_are_absent(schema):
    store = Store(_current(schema), dataclasses.replace(schema, items={**schema.items, "since": "deflate"}))
    for image_id in store.ids:
        assert not store.has("since", image_id)
        with pytest.raises(StoreError, match="has no since"):
            store.get("since", image_id)


@EVERY
@pytest.mark.parametrize("later", [False, True], ids=["older", "newer"])
def test_another_version_is_refused_with_the_command_that_rebuilds(schema, later, tmp_path):
    path = tmp_path / "x.h5"
    version = schema.version + 1 if later else schema.oldest - 1
    if golden.path_of(schema, version).exists():
        shutil.copy(golden.path_of(schema, version), path)
    else:
        shutil.copy(_current(schema), path)
        with h5py.File(path, "r+") as file:
            file.attrs["schema_version"] = version
    with pytest.raises(StoreError) as caught:
        Store(path, schema)
    words = f"x.h5: {schema.name} store of version {version}, this wss reads version {schema.version}"
    assert words in str(caught.value)
    assert f"rebuild it with `{schema.rebuild}`" in str(caught.value)
    Store(path)  # `wss verify` and `wss gc` look at it all the same


@EVERY
def test_versions_that_are_read_have_one_digest_and_one_key(schema):
    digests = {Store(golden.path_of(schema, v)).digest for v in range(schema.oldest, schema.version + 1)}
    assert len(digests) == 1
    assert schema.oldest <= schema.version


def test_the_commands_that_rebuild_exist():
    assert {schema.rebuild.removeprefix("wss ") for schema in SCHEMAS} <= set(ENTRIES)


def test_unfinished_work_continues(tmp_path):
    path = tmp_path / "journal.partial"
    shutil.copy(golden.FOLDER / "journal-1.bin", path)
    with Journal(path) as journal:
        assert journal.names == ["b", "a"]
        for name, array in golden.FULL["samples"].items():
            np.testing.assert_array_equal(journal.read("a")[name].array, array)
    golden.write_journal(tmp_path / "new.partial")
    with Journal(path) as journal, Journal(tmp_path / "new.partial") as new:
        assert list(new.headers()) == list(journal.headers())
    _assert_tree(read_checkpoint(golden.FOLDER / "checkpoint-1.bin"))
    write_checkpoint(tmp_path / "checkpoint", golden.TREE)
    assert _layout(tmp_path / "checkpoint") == _layout(golden.FOLDER / "checkpoint-1.bin")
