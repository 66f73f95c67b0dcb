"""Commands that predict, report, run pipelines, look and tidy up."""

import json

import h5py
import numpy as np
import pytest
from commands import QUICK, artifact, assert_whole, stores, write_cells
from PIL import Image

from wss.store import Store


def test_predict_reads_every_kind_of_picture(work, wss):
    rng = np.random.default_rng(0)
    pictures = work / "pictures"
    (pictures / "deep" / "er").mkdir(parents=True)
    grey = rng.integers(0, 256, (20, 30), np.uint8)
    Image.fromarray(grey).save(pictures / "grey.png")
    Image.fromarray(grey.astype(np.uint16) * 100).save(pictures / "deep16.png")
    Image.fromarray(rng.integers(0, 256, (1, 1, 3), np.uint8)).save(pictures / "tiny.png")
    Image.fromarray(rng.integers(0, 256, (1, 50, 3), np.uint8)).save(pictures / "line.png")
    Image.fromarray(rng.integers(0, 256, (33, 21, 3), np.uint8)).convert("P").save(pictures / "deep" / "palette.gif")
    Image.fromarray(rng.integers(0, 256, (20, 30, 4), np.uint8)).save(pictures / "deep" / "er" / "alpha.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(grey).convert("RGB").save(pictures / "turned.jpg", exif=exif)
    (pictures / "notes.txt").write_text("no picture")
    result = wss("predict", pictures, "--out", "masks", "--probs", "--json")
    assert result.code == 0, result.err
    assert result.json["images"] == 7
    sizes = {
        "grey": (20, 30),
        "deep16": (20, 30),
        "tiny": (1, 1),
        "line": (1, 50),
        "deep/palette": (33, 21),
        "deep/er/alpha": (20, 30),
        "turned": (30, 20),
    }
    store = Store(artifact(work, "samples"))
    for name, size in sizes.items():
        mask = Image.open(work / "masks" / f"{name}.png")
        labels = np.array(mask)
        assert mask.mode == "P", name
        assert labels.shape == size, name
        assert labels.max() < 7
        assert mask.getpalette()[: 7 * 3] == [v for colour in store.meta["palette"] for v in colour]
        probs = np.load(work / "masks" / f"{name}_probs.npy")
        assert probs.shape == (7, *size)
        assert probs.dtype == np.float16
        assert (probs.argmax(0) == labels).mean() > 0.95
        assert np.array(Image.open(work / "masks" / f"{name}_overlay.png")).shape == (*size, 3)
    assert len(result.json["files"]) == 21
    assert all((work / path).is_file() for path in result.json["files"])
    assert_whole(work)


def test_predict_of_the_split_equals_the_stored_predictions(work, wss):
    assert wss("predict", "--out", "masks", "--no-overlays").code == 0
    store = Store(artifact(work, "predict"))
    assert sorted(p.stem for p in (work / "masks").iterdir()) == sorted(store.ids)
    for image_id in store.ids:
        labels = np.array(Image.open(work / "masks" / f"{image_id}.png"))
        assert (labels == store.get("labels", image_id)).all()


def test_predict_goes_through_the_network_as_its_pipeline_does(work, wss):
    """The scales of a preset hold for `wss predict` too, and options of the command win over them."""
    (work / "mine.yaml").write_text("every: {predict: {test_time: {scales: [0.5, 1], flip: true}}}")
    said = "predicting as the network's pipeline does: scales [0.5, 1], flip yes"
    assert said not in wss("predict", "--out", "plain", "--no-overlays", "--probs").err
    assert wss("run", "pce", "--preset", "mine.yaml", *QUICK).code == 0
    result = wss("predict", "--out", "masks", "--no-overlays", "--probs")
    assert said in result.said
    for path in (work / "masks").glob("*_probs.npy"):
        assert np.abs(np.load(path).astype(float) - np.load(work / "plain" / path.name).astype(float)).max() > 1e-3
    assert wss("predict", "--out", "one", "--no-overlays", "--probs", "--scales", "1").code == 0
    one = {path.name: np.load(path) for path in (work / "one").glob("*_probs.npy")}
    assert any(np.abs(one[name] - np.load(work / "masks" / name)).max() > 1e-3 for name in one)


def test_settings_of_the_crf_without_it_are_refused(work, wss):
    for option in (("--crf-preset", "vgg16"), ("--crf-backend", "native")):
        result = wss("evaluate", *option)
        assert result.code == 2
        assert "give --crf as well" in result.said


def test_predict_with_a_checkpoint_needs_no_workspace(work, wss, tmp_path, monkeypatch):
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(tmp_path / "a.png")
    monkeypatch.chdir(tmp_path)
    options = ("--scales", "0.5,1", "--flip", "--window", 16)
    assert wss("predict", "a.png", "--checkpoint", artifact(work, "train"), "--out", "o", *options).code == 0
    assert {p.name for p in (tmp_path / "o").iterdir()} == {"a.png", "a_overlay.png"}
    assert not (tmp_path / "artifacts" / "train").exists()


def test_predict_leaves_out_what_cannot_be_read_and_says_so_at_the_end(work, wss):
    for name in "ac":
        Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(work / f"{name}.png")
    (work / "b.png").write_text("text")
    (work / "d.png").touch()
    result = wss("predict", "b.png", "a.png", "d.png", "c.png", "--out", "o", "--no-overlays", "--json")
    assert result.code == 1
    assert result.json["images"] == 2
    assert result.json["files"] == ["o/a.png", "o/c.png"]
    assert set(result.json["faults"]) == {"b", "d"}
    assert {path.name for path in (work / "o").iterdir()} == {"a.png", "c.png"}
    assert "2 of 4 images left out" in result.said
    assert "b.png: not an image" in result.said
    assert "d.png" in result.said.split("b.png")[1]


def test_predict_does_not_take_its_own_results_for_images(work, wss):
    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(work / "a.png")
    for _ in range(2):
        assert wss("predict", ".", "--out", "predictions", "--json").json["images"] == 1


def test_report_shows_every_evaluation(work, wss):
    assert wss("evaluate", "--flip").code == 0
    result = wss("report", "--title", "Cells, 2026", "--json")
    assert result.code == 0, result.err
    assert result.json["runs"] == 3  # plain, with CRF, and with the mirrored image
    page = (work / "report.html").read_text()
    assert "Cells, 2026" in page
    assert 'src="http' not in page
    assert 'href="http' not in page
    assert wss("report", "--title", "Cells, 2026").code == 0


def test_run_prints_scores_of_networks_and_of_labels_alike(fresh, wss):
    phases = "train.phases=[{epochs: 1, terms: {rawks: 1}}]"
    result = wss("run", "rawks", "--set", "train.batch_size=2", "--set", phases)
    assert result.code == 0, result.err
    heads = [line.split() for line in result.out.splitlines() if line.endswith("mIoU %")]
    assert heads == [["evaluate", "method", "mIoU", "%"], ["label-quality", "name", "mIoU", "%"]]


def test_dry_run_says_what_would_happen_and_makes_nothing(fresh, wss):
    rows = wss("run", "pce", "--dry-run", "--json").json["stages"]
    assert [row["id"] for row in rows][:3] == ["samples", "prepare", "train"]
    assert rows[0]["state"] == "missing"
    assert {row["state"] for row in rows[1:]} == {"unknown"}
    assert not stores(fresh)
    assert "state.yaml" not in {p.name for p in fresh.iterdir()}


def test_second_run_skips_every_stage(work, wss):
    assert {row["state"] for row in wss("run", "pce", *QUICK, "--dry-run", "--json").json["stages"]} == {"done"}
    before = {p: p.stat().st_mtime_ns for p in stores(work)}
    rows = wss("run", "pce", *QUICK, "--json").json
    assert all(row["skipped"] for row in rows)
    assert {p: p.stat().st_mtime_ns for p in stores(work)} == before
    changed = wss("run", "pce", *QUICK, "--set", "crf.preset=vgg16", "--json").json
    assert [row["id"] for row in changed if not row["skipped"]] == ["crf", "evaluate-crf", "report"]


def test_run_takes_a_file_and_later_commands_find_it_from_anywhere(fresh, wss, tmp_path, monkeypatch):
    (fresh / "mine.yaml").write_text(
        "title: Mine\n"
        "stages:\n"
        "  - stage: samples\n"
        "  - {stage: prepare, inputs: {samples: samples}}\n"
        "  - stage: train\n"
        "    inputs: {samples: samples, labels: prepare}\n"
        "    params: {method: {name: pce}, phases: [{epochs: 1, terms: {pce: 1}}], batch_size: 2}\n"
        "  - {stage: predict, inputs: {samples: samples, model: train}}\n"
        "  - {stage: evaluate, inputs: {samples: samples, predictions: predict}}\n"
    )
    assert wss("run", "mine.yaml").code == 0
    before = stores(fresh)
    monkeypatch.chdir(tmp_path)
    result = wss("evaluate", "--workspace", fresh)
    assert result.code == 0, result.err
    assert stores(fresh) == before


def test_workspace_comes_from_the_environment(fresh, wss, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WSS_WORKSPACE", str(fresh))
    assert wss("prepare").code == 0
    assert stores(fresh)
    assert not (tmp_path / "artifacts").exists()


def test_without_a_configuration_the_sample_data_set_is_used_and_named(tmp_path, wss, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = wss("run", "pce", "--dry-run")
    assert result.code == 0
    assert "embedded sample data set" in result.err
    assert "wss init" in result.err


def test_status_lists_artifacts_and_choices(work, wss):
    facts = wss("status", "--json").json
    assert facts["dataset"]["kind"] == "sample"
    assert facts["state"]["train"]["pipeline"] == "pce"
    assert {row["stage"] for row in facts["artifacts"]} == {p.parent.name for p in stores(work)}
    assert {row["state"] for row in facts["artifacts"]} == {"whole"}
    assert "last train" in wss("status").out


def _damage(path, dataset):
    with h5py.File(path, "r+") as file:
        values = file[dataset]
        values[...] = values[()] ^ 1


def test_verify_finds_one_changed_byte(work, wss):
    assert wss("verify").code == 0
    assert all(row["whole"] for row in wss("verify", "--json").json)
    path = artifact(work, "samples")
    _damage(path, "image/data")
    result = wss("verify", "--json")
    assert result.code == 1
    assert [row["stage"] for row in result.json if not row["whole"]] == ["samples"]
    shown = wss("verify")
    assert shown.code == 1
    assert "remove" in shown.out
    path.unlink()
    assert wss("run", "pce", *QUICK).code == 0
    assert wss("verify").code == 0


def test_gc_removes_leftovers_and_keeps_results(work, wss):
    before = stores(work)
    folder = work / "artifacts" / "predict"
    key = "0" * 64
    dead = 2**22 + 1  # no such process
    leftovers = [folder / f"{key}.h5.{dead}.tmp", folder / f"{key}.lock", work / f"metrics.json.{dead}.tmp"]
    done = [before[0].with_suffix(".partial")]
    partial = folder / f"{key}.partial"
    for path in (*leftovers, *done, partial):
        path.write_bytes(b"x")
    listed = wss("gc", "--dry-run", "--json").json
    assert {*map(str, leftovers + done)} == {str(work / p) for p in listed["files"]}
    assert all(path.exists() for path in leftovers)
    assert wss("gc").code == 0
    assert not any(path.exists() for path in leftovers + done)
    assert partial.exists()
    assert wss("gc", "--days", 1, "--partials").code == 0
    assert partial.exists()
    assert wss("gc", "--partials").code == 0
    assert not partial.exists()
    assert stores(work) == before


def test_gc_all_keeps_what_the_last_runs_used(work, wss):
    before = stores(work)
    assert wss("gc", "--all").code == 0
    assert stores(work) == before
    assert wss("prepare", "--shrink", 0.5).code == 0
    assert wss("prepare", "--shrink", 0.7).code == 0
    assert wss("gc", "--all").code == 0
    (last,) = [p for p in stores(work) if p.parent.name == "prepare" and p not in before]
    assert Store(last).params["shrink"] == 0.7
    assert_whole(work)


def test_gc_all_keeps_the_network_when_other_labels_were_prepared(work, wss):
    before = stores(work)
    assert wss("prepare", "--shrink", 0.5).code == 0
    assert wss("gc", "--all").code == 0
    assert set(before) < set(stores(work))


def test_gc_all_removes_a_data_set_that_was_read_again(tmp_path, wss):
    """As ``keep: encoded`` does, although the records of other commands name the former store."""
    write_cells(tmp_path / "cells")
    place = ("-w", tmp_path / "w")
    assert wss("init", "-k", "folder", "-r", tmp_path / "cells", *place).code == 0
    assert wss("superpixels", *place).code == 0
    (before,) = (tmp_path / "w/artifacts/samples").glob("*.h5")
    assert wss("init", "-o", "keep=encoded", *place).code == 0
    assert wss("prepare", *place).code == 0
    assert len(list(before.parent.glob("*.h5"))) == 2
    assert wss("gc", "--all", "--json", *place).json["files"] == [str(before)]
    assert "superpixels: done already" in wss("superpixels", *place).said


def test_gc_leaves_files_of_living_processes_alone(work, wss):
    import fcntl
    import os

    folder = work / "artifacts" / "predict"
    key = "0" * 64
    mine = folder / f"{key}.h5.{os.getppid()}.tmp"
    for path in (mine, folder / f"{key}.partial", folder / f"{key}.lock"):
        path.write_bytes(b"")
    with (folder / f"{key}.lock").open() as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        assert wss("gc", "--partials", "--json").json["files"] == []
    assert mine.exists()


def test_methods_pipelines_and_doctor(wss, fresh):
    methods = {row["name"]: row for row in wss("methods", "--json").json}
    assert methods["pce"]["terms"] == ["absent", "pce"]
    pipelines = {row["name"]: row for row in wss("pipelines", "--json").json}
    assert all(any(p == m or p.startswith(f"{m}-") for p in pipelines) for m in methods)
    assert "train" in pipelines["pce"]["stages"]
    facts = wss("doctor", "--json").json
    assert facts["cores"] == 1
    assert facts["writable"] is True
    for command in ("methods", "pipelines", "doctor"):
        assert len(wss(command).out.splitlines()) > 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("data", "info"),
        ("data", "check"),
        ("prepare",),
        ("run", "pce", *QUICK),
        ("run", "pce", "--dry-run"),
        ("predict", "--out", "o"),
        ("evaluate",),
        ("report",),
        ("status",),
        ("verify",),
        ("gc",),
        ("methods",),
        ("pipelines",),
        ("doctor",),
    ],
    ids=lambda a: " ".join(a[:2]),
)
def test_json_is_one_line_and_all_of_stdout(work, wss, arguments):
    result = wss(*arguments, "--json")
    assert result.code == 0, result.err
    assert result.out.endswith("\n")
    assert result.out.count("\n") == 1
    json.loads(result.out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert "running" not in result.out


def test_quiet_says_nothing_and_verbose_shows_parameters(fresh, wss):
    result = wss("prepare", "--quiet")
    assert result.err == ""
    assert result.out
    assert "'shrink': 0.0" in wss("prepare", "--verbose").err


def test_drawings_are_converted_without_a_workspace(wss, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_cells(tmp_path / "cells")
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "wss.yaml").write_text("dataset: {kind: folder, root: ../cells}\n")
    written = wss("data", "convert", "--to", "painted", "--out", "tifs", "-w", "work", "--json").json
    assert len(written) == 6
    arguments = ("--classes", "cells/classes.txt", "--to", "png", "--out", "back", "--json")
    assert len(wss("data", "convert", "tifs", "--from", "painted", *arguments).json) == 6
    for name in ("c0", "c5"):
        wanted, found = (np.array(Image.open(f"{folder}/{name}.png")) for folder in ("cells/scribbles", "back"))
        np.testing.assert_array_equal(found, wanted)
    for wrong, hint in ((("--from", "paint"), "painted"), ((), "which program")):
        result = wss("data", "convert", "tifs", *wrong, *arguments)
        assert result.code == 2
        assert hint in result.said
    result = wss("data", "convert", "tifs", "--from", "painted", "--to", "png", "--out", "back")
    assert result.code == 2
    assert "--classes" in result.said
    result = wss("data", "convert", "--from", "painted", *arguments, "-w", "work")
    assert result.code == 2
