"""Content fingerprints and their cache."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time

import pytest

from wss.datasets import fingerprint
from wss.datasets.fingerprint import digest_files


@pytest.fixture
def files(tmp_path):
    root = tmp_path / "data"
    root.mkdir()
    paths = []
    for name in ("b", "a", "c"):
        paths.append(root / name)
        paths[-1].write_text(f"content of {name}")
        os.utime(paths[-1], ns=(10**18 + 7, 10**18 + 7))  # long ago
    return root, paths


def test_digest_by_definition(files):
    root, paths = files
    lines = [f"{n}\0{12}\0{hashlib.sha256(f'content of {n}'.encode()).hexdigest()}\n" for n in "abc"]
    assert digest_files(paths, root) == hashlib.sha256("".join(lines).encode()).hexdigest()
    assert digest_files(paths[::-1], root) == digest_files(paths, root)


def test_moves_with_the_folder_and_feels_every_change(files, tmp_path):
    root, paths = files
    before = digest_files(paths, root)
    moved = shutil.copytree(root, tmp_path / "elsewhere")
    assert digest_files([moved / p.name for p in paths], moved) == before
    seen = {before}
    paths[0].write_text("content of B")
    seen.add(digest_files(paths, root))
    paths[0].unlink()
    seen.add(digest_files(paths, root))
    seen.add(digest_files(paths[1:], root))
    paths[1].rename(root / "d")
    seen.add(digest_files([paths[2], root / "d"], root))
    assert len(seen) == 5


def test_cache_saves_hashing_and_notices_changes(files, tmp_path, monkeypatch):
    root, paths = files
    cache = tmp_path / "cache" / "hashes.json"
    before = digest_files(paths, root, cache)
    assert len(json.loads(cache.read_text())) == 3
    hashed = []
    real = fingerprint._hash
    monkeypatch.setattr(fingerprint, "_hash", lambda name: hashed.append(name) or real(name))
    assert digest_files(paths, root, cache) == before
    assert hashed == []
    paths[0].write_text("content of X")
    changed = digest_files(paths, root, cache)
    assert hashed == [str(paths[0])]
    assert changed != before and changed == digest_files(paths, root)


def test_a_change_at_the_same_time_and_size_is_not_missed(files, tmp_path):
    root, paths = files
    cache = tmp_path / "hashes.json"
    now = time.time_ns()
    os.utime(paths[0], ns=(now, now))
    before = digest_files(paths, root, cache)
    paths[0].write_text("content of X")
    os.utime(paths[0], ns=(now, now))
    assert digest_files(paths, root, cache) != before


@pytest.mark.parametrize("content", ["", "{", "[]", '{"x": 1}'])
def test_damaged_cache_is_replaced(files, tmp_path, content):
    root, paths = files
    cache = tmp_path / "hashes.json"
    cache.write_text(content)
    assert digest_files(paths, root, cache) == digest_files(paths, root)
    assert len(json.loads(cache.read_text())) == 3


def test_unwritable_cache_is_no_error(files, tmp_path):
    root, paths = files
    (tmp_path / "file").touch()
    assert digest_files(paths, root, tmp_path / "file" / "hashes.json") == digest_files(paths, root)
