"""Predictions for the page are those that the pipeline scores: of volumes the largest region, where the pipeline keeps it."""

import json
import sys

import numpy as np
import pytest
from PIL import Image

from wss.draw import job
from wss.pipeline.changes import parse_overrides
from wss.pipeline.run import run_pipeline
from wss.pipeline.spec import find_pipeline, load_pipeline
from wss.pipeline.workspace import Workspace
from wss.predictor import Predictor
from wss.stages.stage import Context

SETTINGS = [
    "train.network.widths=[4,8]",
    "train.batch_size=2",
    "train.augment.crop=16",
    "train.phases=[{steps: 1, terms: {pce: 1}, lr: 0.01, head_multiplier: 1}]",
]


def _write(root, on_island):
    """Two volumes of three slices: an organ in the first two, an island in the last one."""
    for part in ("images", "masks", "scribbles"):
        (root / part).mkdir(parents=True)
    for name in ("patient001_frame01", "patient002_frame01"):
        for number in range(3):
            image, mask, scribble = np.full((20, 24), 40, np.uint8), np.zeros((20, 24), np.uint8), None
            if number < 2:
                image[3:11, 3:13], mask[3:11, 3:13] = 200, 1
                scribble = np.full((20, 24), 255, np.uint8)
                scribble[17, 2:20], scribble[7, 4:11] = 0, 1
            else:
                image[14:18, 15:22] = 200
                if on_island:
                    scribble = np.full((20, 24), 255, np.uint8)
                    scribble[17, 2:10], scribble[16, 16:21] = 0, 1
            for part, values in (("images", image), ("masks", mask), ("scribbles", scribble)):
                if values is not None:
                    Image.fromarray(values).save(root / part / f"{name}_slice_{number:02d}.png")
    (root / "classes.txt").write_text("background\norgan\n")
    (root / "val.txt").write_text("".join(f"patient002_frame01_slice_{n:02d}\n" for n in range(3)))


@pytest.mark.parametrize("on_island", [False, True])
def test_only_the_largest_region_of_volumes_is_shown_where_the_pipeline_keeps_it(tmp_path, monkeypatch, on_island):
    def whole(self, image):
        organ = (image[..., 0] > 128).astype(np.float32)
        return np.stack([1 - organ, organ])

    monkeypatch.setattr(Predictor, "_whole", whole)
    _write(tmp_path / "scans", on_island)
    work = tmp_path / "work"
    work.mkdir()
    (work / "wss.yaml").write_text("dataset: {kind: folder, root: ../scans}\n")
    workspace = Workspace(work)
    dataset = {"dataset": workspace.dataset().model_dump()}
    pipeline = load_pipeline(find_pipeline("dmpls-scans"), parse_overrides(SETTINGS), dataset)
    outcomes = run_pipeline(pipeline.up_to("evaluate", "evaluate-largest"), workspace, Context())
    rows = [
        {"stage": o.node.stage.name, "store": str(o.store.path), "record": o.store.meta.get("record")}
        for o in outcomes.values()
    ]
    folder = work / "draw-jobs/1"
    folder.mkdir(parents=True)
    (folder / "job.json").write_text(json.dumps({"workspace": str(work)}))
    monkeypatch.setattr(job, "command", lambda given: [sys.executable, "-c", f"print({json.dumps(rows)!r})"])
    assert job.main(folder) == 0
    kept, raw = outcomes["largest-region"].store, outcomes["predict"].store
    for name in kept.ids:
        shown = np.array(Image.open(folder / f"predictions/{name}.png"))
        np.testing.assert_array_equal(shown, kept.get("labels", name))
        assert (shown == raw.get("labels", name)).all() == (on_island or name[-1] != "2")
    shown = np.array(Image.open(folder / "predictions/patient001_frame01_slice_02.png"))
    assert shown.any() == on_island
    record = json.loads((folder / "status.json").read_text())["record"]
    assert record == outcomes["evaluate" if on_island else "evaluate-largest"].store.meta["record"]
