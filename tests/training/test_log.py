import csv

import pytest

from wss.training.log import TrainingLog

ROWS = [{"phase": 1, "epoch": n, "step": 5 * n, "loss": 1 / n} for n in range(1, 5)]


def _table(folder):
    with (folder / "log.csv").open() as file:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]


def _events(folder):
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    read = accumulators.EventAccumulator(str(folder)).Reload()
    found = {name: read.Scalars(name) for name in read.Tags()["scalars"]}
    curves = {name: {event.step: event.value for event in events} for name, events in found.items()}
    assert all(len(curves[name]) == len(found[name]) for name in found), "a step is there twice"
    return curves


def test_the_table_holds_all_rows_and_columns(tmp_path):
    rows = [*ROWS[:2], {**ROWS[2], "val_miou": 0.5}]
    with TrainingLog(tmp_path / "new") as log:
        for count in range(1, 4):
            log(rows[:count])
            assert _table(tmp_path / "new") == rows[:count]


def test_one_event_file_for_a_training(tmp_path):
    with TrainingLog(tmp_path) as log:
        for count in range(1, 5):
            log(ROWS[:count])
            assert _events(tmp_path)["loss"] == pytest.approx({r["step"]: r["loss"] for r in ROWS[:count]})
    assert len(list(tmp_path.glob("events*"))) == 1
    assert set(_events(tmp_path)) == {"phase", "loss"}


def test_a_training_that_goes_on_takes_the_place_of_what_was_recorded(tmp_path):
    with TrainingLog(tmp_path) as log:
        for count in range(1, 4):
            log(ROWS[:count])
    with TrainingLog(tmp_path) as log:  # its last checkpoint was behind the log
        log(ROWS[:2])
        log(ROWS)
    assert _events(tmp_path)["loss"] == pytest.approx({row["step"]: row["loss"] for row in ROWS})


def test_without_tensorboard_there_is_the_table_alone(tmp_path, monkeypatch):
    monkeypatch.setattr("wss.training.log.importlib.util.find_spec", lambda name: None)
    with TrainingLog(tmp_path) as log:
        log(ROWS)
    assert [path.name for path in tmp_path.iterdir()] == ["log.csv"]
