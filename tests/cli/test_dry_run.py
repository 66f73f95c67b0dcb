"""``wss run --dry-run`` and ``wss pipelines NAME``: what a pipeline is made of, before anything runs."""

from types import SimpleNamespace

import pytest
from commands import QUICK, stores

from wss.pipeline.changes import parse_overrides
from wss.pipeline.presets import load_preset
from wss.pipeline.spec import load_pipeline, shipped_pipelines

STUDY = ["--set", "factors.loss=[pce, densecrf]"]


def test_dry_run_tells_the_protocol(cells, wss):
    rows = {row["id"]: row for row in wss("run", "densecrf", "--dry-run", "--json").json["stages"]}
    train = rows["train"]["protocol"]
    assert (train["split"], train["images"], train["batch_size"], train["initialisation"]) == ("train", 4, 8, "random")
    assert [phase["terms"] for phase in train["phases"]] == [{"pce": 1}, {"pce": 1, "densecrf": 1}]
    assert train["steps"] == sum(phase["epochs"] for phase in train["phases"])  # one batch an epoch
    assert rows["predict"]["protocol"]["images"] == 2
    assert "protocol" not in rows["samples"]
    assert set(rows["samples"]) == {"id", "stage", "state", "key", "params", "disk_bytes"}
    assert all(row["disk_bytes"] > 0 for row in rows.values())
    assert not stores(cells)


def test_dry_run_groups_stages_and_reads_well(fresh, wss):
    out = wss("run", "study-losses", *STUDY, "--dry-run").out
    assert "unknown" not in out
    protocol = out.split("Protocol\n")[1]
    assert "\ncrf-pce-unet-0, crf-densecrf-unet-0, crf-dense-unet-0\n    iterations 10, pos_weight 3" in protocol
    assert "weights network of train-first-unet-0 (random)" in protocol
    for sign in ("None", "True", "False", "{", ".0,", "overlap"):
        assert sign not in protocol, sign


def test_dry_run_takes_a_split(cells, wss):
    rows = wss("run", "pce", "--set", "split=val", "--dry-run", "--json").json["stages"]
    (train,) = [row["protocol"] for row in rows if row["id"] == "train"]
    assert (train["split"], train["images"], train["batch_size"]) == ("val", 2, 8)
    result = wss("run", "pce", "--set", "split=trainaug", "--dry-run")
    assert result.code == 2
    assert "no split 'trainaug'" in result.said


def test_dry_run_names_a_data_set_that_is_not_there(cells, wss):
    (cells.parent / "cells").rename(cells.parent / "moved")
    result = wss("run", "pce", "--dry-run")
    assert result.code == 1
    assert not result.out
    assert "../cells" in result.err or str(cells.parent / "cells") in result.err
    assert len(result.err.strip().splitlines()) <= 2, result.err
    assert wss("run", "pce").err == result.err


def test_notes_are_told_on_stderr(fresh, wss):
    (fresh / "mine.yaml").write_text("stages: {'tarin*': {batch_size: 1}, 'train*': {batch_size: 2}}")
    note = "preset mine.yaml: its settings for 'tarin*' match no stage of the pipeline pce"
    for command in (("run", "pce", "--dry-run"), ("pipelines", "pce")):
        result = wss(*command, "--preset", "mine.yaml", "--set", "methods.ncut.sigma_xy=3")
        assert result.code == 0
        assert note in result.err
        assert "--set methods.ncut.sigma_xy changes nothing" in result.err
        assert note not in result.out
    for word in ("run", "pipelines"):
        assert "match no stage" not in wss(word, "pce", *(["--dry-run"] if word == "run" else [])).err


def _same(mine, other):
    assert {n: (node.params, node.inputs) for n, node in mine.nodes.items()} == {
        n: (node.params, node.inputs) for n, node in other.nodes.items()
    }
    assert list(mine.nodes) == list(other.nodes)


@pytest.mark.parametrize("name", shipped_pipelines())
def test_a_resolved_pipeline_is_the_same_pipeline(wss, tmp_path, name):
    (tmp_path / f"{name}.yaml").write_text(wss("pipelines", name).out)
    resolved, pipeline = load_pipeline(tmp_path / f"{name}.yaml"), load_pipeline(shipped_pipelines()[name])
    _same(resolved, pipeline)
    assert (resolved.title, resolved.description) == (pipeline.title, pipeline.description)


@pytest.mark.parametrize(
    ("name", "preset"),
    [("study-losses", "voc2012-networks"), ("spml-tag", "voc2012-spml"), ("rw-ss", "voc2012-rwss-resnet50")],
)
def test_a_resolved_pipeline_has_the_settings_of_its_preset(wss, tmp_path, name, preset):
    settings = ["--set", "split=val", "--set", "crf*.iterations=3"]
    if name == "study-losses":
        settings += [*STUDY, "--set", "factors.network=[vgg16, resnet101]"]
    result = wss("pipelines", name, "--preset", preset, *settings)
    (tmp_path / "mine.yaml").write_text(result.out)
    expected = load_pipeline(
        shipped_pipelines()[name], parse_overrides(s for s in settings if s != "--set"), preset=load_preset(preset)
    )
    _same(load_pipeline(tmp_path / "mine.yaml"), expected)
    assert wss("pipelines", "mine.yaml").code == 2  # it is not in this folder


def test_a_resolved_pipeline_runs_as_the_one_it_comes_from(work, wss):
    (work / "mine.yaml").write_text(wss("pipelines", "pce", *QUICK).out)
    rows = wss("run", "mine.yaml", "--dry-run", "--json").json["stages"]
    assert {row["state"] for row in rows} == {"done"}


def test_settings_need_a_pipeline(wss):
    for option in (("--preset", "voc2012-bpg"), ("--set", "train.seed=1")):
        result = wss("pipelines", *option)
        assert result.code == 2
        assert "name it" in result.said


def test_dry_run_tells_the_disk_and_refuses_what_cannot_fit(cells, wss, monkeypatch):
    told = wss("run", "pce", "--dry-run")
    assert told.code == 0
    assert "About " in told.out
    assert " MB of disk needed for the stages to run" in told.out
    assert wss("prepare").code == 0
    rows = {row["id"]: row for row in wss("run", "pce", "--dry-run", "--json").json["stages"]}
    (samples,) = (cells / "artifacts/samples").glob("*.h5")
    assert rows["samples"]["disk_bytes"] == samples.stat().st_size
    monkeypatch.setattr("wss.pipeline.disk.shutil.disk_usage", lambda folder: SimpleNamespace(free=10**6))
    for refused in (wss("run", "pce", "--dry-run"), wss("run", "pce"), wss("train")):
        assert refused.code == 1
        assert f"{cells}: this run needs about 0." in refused.said.replace("\n", "")
        assert "but 0.001 GB are free" in refused.said
        assert "`wss gc --all`" in refused.said
    assert not list(cells.glob("artifacts/train/*.h5"))
    assert wss("prepare").code == 0  # all done
