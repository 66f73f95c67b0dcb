from __future__ import annotations

import statistics

import pytest

from wss.errors import UsageError
from wss.viz import Run, featured, tabulate
from wss.viz.wording import value_title


def run(miou, *, crf=False, bound=False, log=None, more=None, **factors):
    name = " ".join(f"{f}={v}" for f, v in factors.items()) + (" + CRF" if crf else "") + f" {miou}"
    record = {"miou": miou, "crf": crf, "split": "val", **(more or {})}
    return Run(name, "pce", "scribbles", record, bound, factors=factors, last_epoch=log or {})


def means(study):
    return {row.level: [cell and round(cell.mean, 6) for cell in row.cells] for row in study.rows}


def offsets(study):
    return {
        row.level: [round(cell.offset, 6) if cell and cell.offset is not None else None for cell in row.cells]
        for row in study.rows
    }


NETWORKS = [
    run(0.60, network="vgg", loss="pce"),
    run(0.64, network="vgg", loss="pce", crf=True),
    run(0.688, network="vgg", loss="full", bound=True),
    run(0.715, network="vgg", loss="full", bound=True, crf=True),
    run(0.65, network="vgg", loss="ncut"),
    run(0.70, network="resnet", loss="pce"),
    run(0.756, network="resnet", loss="full", bound=True),
]


def test_a_table_of_networks_and_losses_by_hand():
    study = tabulate(NETWORKS, title="Table 1", rows="network", columns="loss")
    assert [(c.level, c.crf, c.is_upper_bound) for c in study.columns] == [
        ("pce", False, False),
        ("pce", True, False),
        ("ncut", False, False),
        ("full", False, True),
        ("full", True, True),
    ]
    assert means(study) == {"vgg": [0.6, 0.64, 0.65, 0.688, 0.715], "resnet": [0.7, None, None, 0.756, None]}
    assert offsets(study) == {
        "vgg": [-0.088, -0.075, -0.038, None, None],
        "resnet": [-0.056, None, None, None, None],
    }
    assert not study.is_numeric


def test_full_supervision_may_be_a_row():
    study = tabulate(NETWORKS, title="", rows="loss", columns="network")
    assert [row.level for row in study.rows] == ["pce", "ncut", "full"]
    assert [row.is_upper_bound for row in study.rows] == [False, False, True]
    assert offsets(study)["pce"] == [-0.088, -0.075, -0.056]


def test_full_supervision_without_the_row_factor_stands_beside_the_table():
    runs = [run(0.5 + 0.1 * n, loss="pce", length=n) for n in (1, 0, 0.5)]
    runs += [run(0.7, loss="full", bound=True), run(0.9, loss="full", bound=True, crf=True)]
    study = tabulate(runs, title="", rows="length", columns="loss")
    assert study.is_numeric
    assert [row.level for row in study.rows] == [0, 0.5, 1]
    assert [column.level for column in study.columns] == ["pce"]
    assert [cell.mean for cell in study.full] == [0.7]  # the one without a CRF
    assert offsets(study) == {0: [-0.2], 0.5: [-0.15], 1: [-0.1]}
    runs += [run(0.1, weight=2, bound=True), run(0.2, weight=1, bound=True)]  # of another study
    assert tabulate(runs, title="", rows="length", columns="loss").full == study.full


def test_seeds_are_averaged():
    scores = [0.5, 0.6, 0.64]
    runs = [run(score, loss="pce", seed=seed) for seed, score in enumerate(scores)] + [run(0.4, loss="ncut", seed=0)]
    pce, ncut = (row.cells[0] for row in tabulate(runs, title="", rows="loss").rows)
    assert pce.mean == pytest.approx(0.58)
    assert pce.spread == pytest.approx(statistics.stdev(scores))
    assert (pce.count, ncut.count, ncut.spread) == (3, 1, None)


def test_runs_that_differ_otherwise_are_not_averaged():
    runs = [run(0.5, loss="pce", length=1), run(0.6, loss="pce", length=0.5)]
    with pytest.raises(UsageError, match=r"runs of loss pce differ in 'length' \(1, 0.5\); choose one level"):
        tabulate(runs, title="", rows="loss")
    assert means(tabulate(runs, title="", rows="loss", where={"length": 0.5})) == {"pce": [0.6]}
    assert means(tabulate(runs, title="", rows="loss", average=["length"])) == {"pce": [0.55]}


def test_an_upper_bound_needs_no_factor_of_the_annotation():
    runs = [run(0.5, loss="pce", length=1), run(0.4, loss="pce", length=0), run(0.7, loss="full", bound=True)]
    study = tabulate(runs, title="", rows="loss", where={"length": 1})
    assert means(study) == {"pce": [0.5], "full": [0.7]}
    assert offsets(study) == {"pce": [-0.2], "full": [None]}


def test_drops_are_relative_to_the_baseline_of_the_column():
    runs = [
        run(m, loss=loss, rate=r) for loss, r, m in [("a", 0, 0.8), ("a", 0.5, 0.6), ("b", 0, 0.5), ("b", 0.5, 0.55)]
    ]
    study = tabulate(runs, title="", rows="rate", columns="loss", baseline=0)
    drops = {row.level: [cell.drop for cell in row.cells] for row in study.rows}
    assert drops[0] == [None, None]
    assert drops[0.5] == [pytest.approx(0.25), pytest.approx(-0.1)]
    with pytest.raises(UsageError, match="no run has the baseline's rate"):
        tabulate(runs, title="", rows="rate", columns="loss", baseline=0.7)


def test_values_of_the_training_log_have_no_columns_of_a_crf():
    logs = [{"pce": 0.1, "ncut": 0.5}, {"pce": 0.2, "ncut": 0.4}]
    runs = [run(m, crf=crf, log=logs[w], weight=w) for w in (0, 1) for crf, m in ((False, 0.5), (True, 0.6))]
    study = tabulate(runs, title="", rows="weight", values=("miou", "pce", "ncut"))
    assert [(c.value, c.crf) for c in study.columns] == [("miou", False), ("miou", True), ("pce", None), ("ncut", None)]
    assert means(study) == {0: [0.5, 0.6, 0.1, 0.5], 1: [0.5, 0.6, 0.2, 0.4]}
    assert all(cell.count == 1 for row in study.rows for cell in row.cells)


def test_time_rows_are_the_training_logs_and_count_once():
    """Table 3 of the regularised-losses paper: accuracy beside seconds per batch."""
    logs = {"none": {"seconds_per_step": 0.86, "seconds": 9.0}, "constrain": {"seconds_per_step": 1.19, "seconds": 7.0}}
    runs = [run(m, crf=crf, log=log, constraint=c) for c, log in logs.items() for crf, m in ((False, 0.4), (True, 0.5))]
    study = tabulate(runs, title="Table 3", rows="constraint", values=("miou", "seconds_per_step"))
    assert [(c.value, c.crf) for c in study.columns] == [("miou", False), ("miou", True), ("seconds_per_step", None)]
    assert means(study) == {"none": [0.4, 0.5, 0.86], "constrain": [0.4, 0.5, 1.19]}
    assert value_title("seconds_per_step") == "Seconds per step"


def test_where_all_runs_are_dense_none_is_compared():
    runs = [run(0.9, weight=0, bound=True), run(0.8, weight=1, bound=True)]
    study = tabulate(runs, title="", rows="weight")
    assert offsets(study) == {0: [None], 1: [None]}
    assert not any(row.is_upper_bound for row in study.rows)


def test_values_by_class_count_as_their_mean():
    runs = [run(0.5, loss="pce", more={"dice_per_class": {"a": 0.5, "b": 0.7, "c": None}})]
    assert means(tabulate(runs, title="", rows="loss", values=["dice_per_class"])) == {"pce": [0.6]}


def test_undefined_values_are_missing():
    runs = [run(None, loss="pce"), run(0.5, loss="ncut"), run(0.5, loss="ncut"), run(None, loss="ncut")]
    study = tabulate(runs, title="", rows="loss")
    assert means(study) == {"pce": [None], "ncut": [0.5]}
    assert study.rows[1].cells[0].count == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rows": "lenght"}, "no run has the factors lenght; runs have: loss"),
        ({"rows": "loss", "columns": "length"}, "no run has the factors loss, length"),
        ({"rows": "loss", "values": ["mio"]}, "no value 'mio'; did you mean 'miou'"),
        ({"rows": "loss", "values": ["split"]}, "'split' is not a number"),
        ({"rows": "loss", "values": ["crf"]}, "'crf' is not a number"),
    ],
)
def test_refuses_what_no_run_has(options, message):
    with pytest.raises(UsageError, match=f"study 'A': {message}"):
        tabulate([run(0.5, loss="pce")], title="A", **options)


def test_few_runs_are_all_shown():
    assert featured(NETWORKS, [], 7) == [r.name for r in NETWORKS]


def test_of_many_runs_the_best_of_each_column_are_shown():
    study = tabulate(NETWORKS, title="", rows="network", columns="loss")
    assert featured(NETWORKS, [study], 4) == [NETWORKS[i].name for i in (4, 5, 6)]
    study = tabulate(NETWORKS, title="", rows="loss", average=["network"])
    assert featured(NETWORKS, [study], 4) == [NETWORKS[i].name for i in (4, 5, 6)]


def test_of_many_runs_without_a_study_the_best_are_shown():
    assert featured(NETWORKS, [], 3) == [NETWORKS[i].name for i in (4, 5, 6)]
