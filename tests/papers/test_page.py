"""Reading the page on the papers, and comparing it with what is true."""

import pytest

from tests.papers.harness import Plan, unlike
from tests.papers.page import Claims, as_text, facts, others_of, read_page, untrue

PAGE = """# Papers

## Table 1

Three networks, see rows: here is no claim.

    wss init --kind voc --root VOC2012 -w voc
    wss run study-losses -w voc \\
        --preset voc2012-networks

Some words.

- rows: msc-largefov,
  vgg16
- columns: pce, ncut

The other table:

- rows: 0, 0.5
- values: miou, boundary
- networks: deeplab-v2 resnet101 +0.5 +0.75

## Another

```
wss run bpg -w voc
wss run rawks -w voc
```

rows: evaluate, evaluate-crf
split: trainaug
lengths: 20000 + 10000 steps

## Fig. 1

    wss run bpg -w voc

- shows: boundaries, edges
"""
LOSSES = "wss run study-losses -w voc --preset voc2012-networks"


def test_a_page_is_read():
    page = read_page(PAGE)
    assert list(page) == [LOSSES, "wss run bpg -w voc", "wss run rawks -w voc"]
    assert page[LOSSES].tables == [
        {"rows": ["msc-largefov", "vgg16"], "columns": ["pce", "ncut"]},
        {"rows": ["0", "0.5"], "values": ["miou", "boundary"]},
    ]
    assert page[LOSSES].trainings == {"networks": ["deeplab-v2 resnet101 +0.5 +0.75"]}
    scores, trainings = (
        {"rows": ["evaluate", "evaluate-crf"]},
        {"split": ["trainaug"], "lengths": ["20000 + 10000 steps"]},
    )
    assert page["wss run bpg -w voc"] == Claims([scores], trainings, ["boundaries", "edges"])
    assert page["wss run rawks -w voc"] == Claims([scores], trainings)
    for claims in page.values():
        assert read_page(f"    wss run x -w voc\n\n{as_text(claims)}\n") == {"wss run x -w voc": claims}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rows: a\n", "no command before: rows: a"),
        ("    wss run a\n\n# Next\n\nrows: a\n", "no command before"),
        ("    wss run a\n\ncolumns: b\n", "rows come before: columns: b"),
        ("    wss run a\n\nrows: a\n\n    wss run a\n\ncolumns: b\n", "rows come before"),
    ],
)
def test_a_page_that_is_unclear_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        read_page(text)


def test_claims_about_other_commands_are_not_ours():
    text = "    wss run a -w x\n\nrows: a\n\n    wss bench walk\n\nrows: b\ncolumns: c\n"
    assert read_page(text) == {"wss run a -w x": Claims([{"rows": ["a"]}])}
    assert read_page("    wss bench walk\n\ncolumns: c\n") == {}


def _plan(studies=None, **levels):
    studies = [{"rows": "loss", "columns": "length", "values": ["miou"], "where": {}}] if studies is None else studies
    levels = levels or {
        "a": {"loss": "ncut", "length": 1.0},
        "b": {"loss": "dense"},
        "c": {"loss": "pce", "length": 0.5},
    }
    phases = [{"epochs": None, "steps": 20}, {"epochs": 3, "steps": 9}]
    unet = {"name": "unet", "backbone": None, "multi_scale": []}
    large = {"name": "deeplab-v2", "backbone": "resnet101", "multi_scale": [0.5, 0.75]}
    trainings = [(unet, phases), (large, phases[:1] * 2), (large, phases[:1] * 2)]
    rows = [{"id": name, "stage": "evaluate", "params": {"factors": chosen}} for name, chosen in levels.items()]
    rows += [
        {"id": f"t{n}", "stage": "train", "protocol": {"split": "trainaug", "network": network, "phases": each}}
        for n, (network, each) in enumerate(trainings)
    ]
    rows.append({"id": "report", "stage": "report", "params": {"studies": studies}})
    return Plan({row["id"]: row for row in rows})


def test_facts_are_those_of_the_plan():
    found = facts(_plan())
    assert found.tables == [
        {"rows": ["ncut", "pce"], "columns": ["1", "0.5"]}
    ]  # b has no length: it stands beside the table
    assert found.trainings == {
        "split": ["trainaug"],
        "networks": ["unet", "deeplab-v2 resnet101 +0.5 +0.75"],
        "lengths": ["20 steps + 3 epochs", "20 + 20 steps"],
    }
    study = {"rows": "loss", "columns": None, "values": ["miou", "pce"], "where": {"length": 0.5}}
    assert facts(_plan([study])).tables == [{"rows": ["dense", "pce"], "values": ["miou", "pce"]}]
    assert facts(_plan([])).tables == [{"rows": ["a", "b", "c"]}]


@pytest.mark.parametrize(
    ("change", "number"),
    [
        (lambda claims: None, 0),
        (lambda claims: claims.tables[0]["rows"].reverse(), 0),
        (lambda claims: claims.tables.append(claims.tables[0]), 0),
        (lambda claims: claims.tables[0]["rows"].pop(), 1),
        (lambda claims: claims.tables[0]["columns"].append("0.3"), 1),
        (lambda claims: claims.tables[0].pop("columns"), 1),
        (lambda claims: claims.tables[0].update(values=["pce"]), 1),
        (lambda claims: claims.tables.clear(), 1),
        (lambda claims: claims.trainings.clear(), 0),
        (lambda claims: claims.trainings.update(split=["train"]), 1),
        (lambda claims: claims.trainings["lengths"].pop(), 1),
    ],
)
def test_untrue_claims_are_told(change, number):
    claims, true = facts(_plan()), facts(_plan())
    change(claims)
    assert len(list(untrue(claims, true))) == number


def test_other_tables_are_looked_for_in_the_report():
    claims, true = facts(_plan()), facts(_plan())
    assert others_of(claims, true) == []
    claims.tables.append({"rows": ["x"]})
    assert others_of(claims, true) == [{"rows": ["x"]}]
    assert list(untrue(claims, true)) == []


def test_small_runs_may_differ_in_size_alone():
    def made(**params):
        usual = {"batch_size": 10, "phases": [{"steps": 9, "lr": 0.1}], "augment": {"crop": 321, "scale": [0.5, 2]}}
        return Plan({"train": {"stage": "train", "params": {**usual, **params}}, "crf": {"stage": "crf", "params": {}}})

    small = made(batch_size=2, phases=[{"steps": 1, "lr": 0.1}], augment={"crop": 33, "scale": [0.5, 2]})
    assert not list(unlike(made(), small))
    assert list(unlike(made(), made(phases=[{"steps": 1, "lr": 0.2}]))) == ["train: phases.0.lr 0.1 -> 0.2"]
    assert list(unlike(made(), made(phases=[]))) and list(unlike(made(), made(augment={"crop": 33, "scale": [1, 1]})))
    assert list(unlike(made(), Plan({"other": {"stage": "crf", "params": {}}})))
