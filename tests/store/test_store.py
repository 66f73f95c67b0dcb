import json
import multiprocessing
import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from wss.errors import StoreError
from wss.store import LABELS, SAMPLES, Schema, Store, StoreWriter


def _images(count=6):
    rng = np.random.default_rng(0)
    return {f"im{n}": rng.integers(0, 255, (5 + n, 9, 3), dtype=np.uint8) for n in range(count)}


def _attributes():
    return {"key": "k" * 64, "params": "{}", "inputs": "{}", "stage": "samples"}


def _write(path, images, masks=("im1", "im4")):
    writer = StoreWriter(path, SAMPLES, _attributes())
    for name, image in images.items():
        if name not in writer:
            writer.append(name, {"image": image, **({"mask": image[..., 0]} if name in masks else {})})
    writer.meta["classes"] = ["a", "b"]
    writer.finish({"duration_s": 1.0})
    return Store(path, SAMPLES)


def test_round_trip(tmp_path):
    images = _images()
    store = _write(tmp_path / "x.h5", images)
    assert store.ids == list(images)
    for name, image in images.items():
        np.testing.assert_array_equal(store.get("image", name), image)
        assert store.has("mask", name) == (name in ("im1", "im4"))
    np.testing.assert_array_equal(store.get("mask", "im4"), images["im4"][..., 0])
    assert store.meta["classes"] == ["a", "b"]
    assert store.verify()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.h5"]


def test_any_hdf5_reader_can_read_it(tmp_path):
    images = _images()
    _write(tmp_path / "x.h5", images)
    with h5py.File(tmp_path / "x.h5") as file:
        assert file.attrs["schema"] == "samples"
        np.testing.assert_array_equal(file["mask/4"][()], images["im4"][..., 0])
        start, shape = file["image/offset"][2], file["image/shape"][2]
        np.testing.assert_array_equal(file["image/data"][start : start + shape.prod()].reshape(shape), images["im2"])


def test_interrupted_writing_resumes_and_gives_the_same_digest(tmp_path):
    images = _images()
    whole = _write(tmp_path / "a.h5", images)
    writer = StoreWriter(tmp_path / "b.h5", SAMPLES, _attributes())
    for name in ("im0", "im1"):
        writer.append(name, {"image": images[name], **({"mask": images[name][..., 0]} if name == "im1" else {})})
    del writer  # as kill -9 would
    assert not (tmp_path / "b.h5").exists()
    resumed = _write(tmp_path / "b.h5", images)
    assert resumed.digest == whole.digest


def test_digest_depends_on_content_only(tmp_path):
    images = _images()
    first = _write(tmp_path / "a.h5", images)
    writer = StoreWriter(tmp_path / "b.h5", SAMPLES, {**_attributes(), "created": "another day"})
    writer.log["seconds"] = 3
    for name in images:
        writer.append(
            name, {"image": images[name], **({"mask": images[name][..., 0]} if name in ("im1", "im4") else {})}
        )
    writer.meta["classes"] = ["a", "b"]
    writer.finish({"duration_s": 9.0})
    assert Store(tmp_path / "b.h5").digest == first.digest
    images["im3"][0, 0, 0] ^= 1
    assert _write(tmp_path / "c.h5", images).digest != first.digest


def test_verify_notices_a_changed_byte(tmp_path):
    path = _write(tmp_path / "x.h5", _images()).path
    assert Store(path).verify()
    with h5py.File(path, "r+") as file:
        file["image/data"][7] ^= 1
    assert not Store(path).verify()


def test_a_pickled_store_opens_from_another_folder(tmp_path, monkeypatch):
    _write(tmp_path / "x.h5", _images())
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    packed = pickle.dumps(Store(Path("x.h5")))
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert pickle.loads(packed).ids == list(_images())


def test_tree_round_trip(tmp_path):
    tree = {
        "weights": torch.randn(3, 4),
        "half": torch.arange(5).to(torch.bfloat16),
        "step": torch.tensor(7),
        "nested": [1, (2.5, None, True), {"a": torch.zeros(0)}],
        3: "text",
    }
    writer = StoreWriter(tmp_path / "x.h5", Schema("any", 1), _attributes())
    writer.put_tree("state", tree)
    writer.finish({})
    back = Store(tmp_path / "x.h5").tree("state")
    assert back["nested"][1] == (2.5, None, True)
    assert back[3] == "text"
    for name in ("weights", "half", "step"):
        assert back[name].dtype == tree[name].dtype
        assert back[name].shape == tree[name].shape
        assert torch.equal(back[name], tree[name])
    assert back["nested"][2]["a"].shape == (0,)


def test_checkpoint_is_replaced_and_removed_when_done(tmp_path):
    writer = StoreWriter(tmp_path / "x.h5", Schema("any", 1), _attributes())
    assert writer.load_checkpoint() is None
    writer.save_checkpoint({"step": 1, "w": torch.ones(2)})
    writer.save_checkpoint({"step": 2, "w": torch.zeros(2)})
    again = StoreWriter(tmp_path / "x.h5", Schema("any", 1), _attributes())
    assert again.load_checkpoint()["step"] == 2
    again.finish({})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.h5"]


def test_damaged_checkpoint_names_the_remedy(tmp_path):
    writer = StoreWriter(tmp_path / "x.h5", Schema("any", 1), _attributes())
    writer.save_checkpoint({"w": torch.zeros(100)})
    path = tmp_path / "x.checkpoint.partial"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(StoreError, match="remove the file"):
        writer.load_checkpoint()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:200]), "not a readable wss store"),
        (lambda path: path.write_bytes(b""), "not a readable wss store"),
        (lambda path: path.unlink(), "no such store"),
    ],
)
def test_damaged_files_are_refused(tmp_path, damage, message):
    path = tmp_path / "x.h5"
    _write(path, _images())
    damage(path)
    with pytest.raises(StoreError, match=message):
        Store(path, SAMPLES)


def test_another_schema_or_version_is_refused(tmp_path):
    path = tmp_path / "x.h5"
    _write(path, _images())
    with pytest.raises(StoreError, match="holds samples, but labels is needed"):
        Store(path, LABELS)
    with h5py.File(path, "r+") as file:
        file.attrs["schema_version"] = 99
    with pytest.raises(StoreError, match=r"version 99.*rebuild it with `wss prepare`"):
        Store(path, SAMPLES)


def test_absent_images_and_items(tmp_path):
    store = _write(tmp_path / "x.h5", _images())
    with pytest.raises(StoreError, match="no image 'nobody'"):
        store.get("image", "nobody")
    with pytest.raises(StoreError, match="'im0' has no mask"):
        store.get("mask", "im0")
    with pytest.raises(StoreError, match="'im0' has no scribble"):
        store.get("scribble", "im0")


def test_writer_checks_the_schema(tmp_path):
    writer = StoreWriter(tmp_path / "x.h5", SAMPLES, _attributes())
    with pytest.raises(ValueError, match="unknown"):
        writer.append("a", {"image": np.zeros((1, 1, 3), np.uint8), "depth": np.zeros(1)})
    with pytest.raises(ValueError, match="missing"):
        writer.append("a", {"mask": np.zeros((1, 1), np.uint8)})


def _sum(store):
    return [int(store.get("image", i).sum()) for i in store.ids]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_readable_from_other_processes(tmp_path, method):
    store = _write(tmp_path / "x.h5", _images())
    expected = _sum(store)  # open before the fork
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.map(_sum, [store, store]) == [expected, expected]
    assert _sum(pickle.loads(pickle.dumps(store))) == expected


def test_a_store_without_images(tmp_path):
    writer = StoreWriter(tmp_path / "x.h5", SAMPLES, _attributes())
    writer.finish({})
    store = Store(tmp_path / "x.h5")
    assert store.ids == []
    assert store.verify()
    assert json.dumps(store.attributes)
