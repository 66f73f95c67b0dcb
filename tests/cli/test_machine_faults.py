"""Full disks, lack of memory, interruptions."""

import errno
import os

import pytest
import torch
from commands import QUICK, assert_whole, call, stores
from fault_cases import FAILURE, USAGE, Fault, expect


def test_a_file_where_the_workspace_should_be(fresh):
    (fresh / "taken").write_text("a file")
    expect(Fault("", ("prepare", "-w", "taken"), USAGE, ("taken", "is a file", "--workspace")), fresh)
    expect(Fault("", ("init", "-k", "sample", "-w", "taken"), USAGE, ("taken", "is a file", "--workspace")), fresh)
    assert (fresh / "taken").read_text() == "a file"


def test_a_file_where_a_stage_keeps_its_stores(fresh):
    (fresh / "artifacts").mkdir()
    (fresh / "artifacts" / "prepare").write_text("a file")
    expect(Fault("", ("prepare",), FAILURE, ("artifacts/prepare", "cannot be written")), fresh)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_workspace_that_is_read_only(fresh):
    fresh.chmod(0o500)
    try:
        expect(Fault("", ("prepare",), FAILURE, ("not writable", "--workspace")), fresh)
    finally:
        fresh.chmod(0o700)


@pytest.mark.parametrize("after", [0, 1, 3, 6, 8])
def test_a_full_disk_loses_nothing_and_the_same_command_goes_on(fresh, monkeypatch, after):
    """The disk is full at the n-th flush, be it of a journal, a store or a small file."""
    calls = []
    real = os.fsync

    def full(number):
        calls.append(number)
        if len(calls) > after:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(number)

    command = ("run", "pce", *QUICK)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        expect(Fault("", command, FAILURE, ("the disk is full", "wss gc", "same command again")), fresh)
    done = stores(fresh)
    again = call(*command)
    assert again.code == 0, again.err
    assert again.err.count("done already") == len(done)
    assert_whole(fresh)


def test_a_full_disk_while_images_are_appended(fresh, monkeypatch):
    from wss.store.journal import Journal

    real = Journal.append

    class Full:
        """A file on a disk with room for a few more bytes."""

        def __init__(self, file):
            self._file = file

        def write(self, data):
            self._file.write(data[:10])
            raise OSError(errno.ENOSPC, "No space left on device")

        def __getattr__(self, name):
            return getattr(self._file, name)

    def append(self, name, arrays):
        if len(self) == 3:
            self._file = Full(self._file)
        real(self, name, arrays)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "append", append)
        expect(Fault("", ("prepare",), FAILURE, (".partial", "the disk is full", "same command again")), fresh)
    read = []
    import wss.stages.samples as stage

    real_read = stage._read
    monkeypatch.setattr(stage, "_read", lambda source, image_id: read.append(image_id) or real_read(source, image_id))
    result = call("prepare")
    assert result.code == 0
    assert "samples: resuming" in result.err
    assert len(read) == 3
    assert_whole(fresh)


def test_lack_of_memory_is_explained(work, monkeypatch):
    def exhausted(*arguments):
        raise MemoryError

    monkeypatch.setattr("wss.predictor.Predictor.probabilities", exhausted)
    expect(Fault("", ("evaluate", "--flip"), FAILURE, ("out of memory", "window")), work)


def test_lack_of_gpu_memory_is_explained(work, monkeypatch):
    def exhausted(*arguments):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("wss.predictor.Predictor.probabilities", exhausted)
    expect(Fault("", ("evaluate", "--flip"), FAILURE, ("out of memory", "batches")), work)


def test_an_interruption_says_how_to_go_on(fresh, monkeypatch):
    import wss.stages.prepare as stage

    real = stage._labels
    seen = []

    def interrupted(params, samples, image_id, *rest):
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(image_id)
        return real(params, samples, image_id, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(stage, "_labels", interrupted)
        expect(Fault("", ("prepare",), 130, ("stopped", "run the same command again")), fresh)
    monkeypatch.setattr(stage, "_labels", lambda p, s, i, *r: seen.append(i) or real(p, s, i, *r))
    result = call("prepare")
    assert result.code == 0
    assert "prepare: resuming" in result.err
    assert len(seen) == len(set(seen)) == 6


def test_faults_of_wss_itself_are_not_hidden(work, monkeypatch):
    def broken(*arguments):
        raise ZeroDivisionError

    monkeypatch.setattr("wss.predictor.Predictor.probabilities", broken)
    with pytest.raises(ZeroDivisionError):
        call("evaluate", "--flip")


def test_verbose_adds_the_traceback_and_keeps_the_code(fresh, monkeypatch):
    from commands import app
    from typer.testing import CliRunner

    result = CliRunner().invoke(app, ["run", "pcee", "--verbose"])
    assert result.exit_code == USAGE
    assert "Traceback" in result.stderr
    assert "did you mean 'pce'" in result.stderr
