"""What goes wrong at users' desks: the exit code, a message with the remedy, no traceback, and nothing lost."""

import pytest
import torch
from fault_cases import FAILURE, USAGE, Fault, expect, ids_of, write_of

PIPELINE = "stages:\n  - stage: samples\n  - {stage: prepare, inputs: {samples: samples}}\n"


REQUESTS = [
    Fault("command", ("trian",), USAGE, ("trian", "Did you mean", "train")),
    Fault("option", ("train", "--epoch", 3), USAGE, ("--epoch", "--epochs")),
    Fault("method", ("train", "--method", "pcee"), USAGE, ("'pcee'", "did you mean 'pce'")),
    Fault("method that is a longer pipeline", ("train", "--method", "quickstart"), USAGE, ("quickstart", "train-pce")),
    Fault(
        "method in --set",
        ("train", "--set", "train.method.name=pcee"),
        USAGE,
        ("method", "'pcee'", "did you mean 'pce'"),
    ),
    Fault("pipeline", ("run", "pcee"), USAGE, ("'pcee'", "did you mean 'pce'")),
    Fault("pipeline file", ("run", "mine.yaml"), USAGE, ("mine.yaml", "no such pipeline file")),
    Fault("network", ("train", "--network", "unett"), USAGE, ("network.name", "'unet'", "'unett'")),
    Fault(
        "backbone",
        ("train", "--network", "deeplab-v2", "--backbone", "resnet19"),
        USAGE,
        ("backbone", "resnet18", "19"),
    ),
    Fault("no backbone", ("train", "--network", "deeplab-v2"), USAGE, ("deeplab-v2", "needs a backbone", "resnet18")),
    Fault(
        "backbone of a network without", ("train", "--backbone", "resnet18"), USAGE, ("unet has no backbone", "leave")
    ),
    Fault("evaluation split", ("evaluate", "--split", "vall"), USAGE, ("'vall'", "did you mean 'val'")),
    Fault("prediction split", ("predict", "--split", "tset"), USAGE, ("'tset'", "known: train, val")),
    Fault(
        "simulation split",
        ("data", "simulate", "-o", "s", "--split", "trian"),
        USAGE,
        ("trian", "did you mean 'train'"),
    ),
    Fault("scribble format", ("data", "convert", "-o", "s", "--to", "svg"), USAGE, ("svg", "png")),
    Fault(
        "parameter", ("run", "pce", "--set", "train.batchsize=4"), USAGE, ("'batchsize'", "did you mean 'batch_size'")
    ),
    Fault("nested parameter", ("train", "--set", "train.augment.flipp=true"), USAGE, ("flipp", "did you mean 'flip'")),
    Fault("stage in --set", ("run", "pce", "--set", "trian.batch_size=4"), USAGE, ("'trian'", "did you mean 'train'")),
    Fault("form of --set", ("run", "pce", "--set", "batch_size"), USAGE, ("--set batch_size", "stage.param=value")),
    Fault("value of --set", ("run", "pce", "--set", "train.batch_size=["), USAGE, ("train.batch_size", "YAML")),
    Fault(
        "type of a value", ("run", "pce", "--set", "train.batch_size=many"), USAGE, ("batch_size", "integer", "'many'")
    ),
    Fault("negative value", ("run", "pce", "--set", "train.batch_size=-1"), USAGE, ("batch_size", "greater", "-1")),
    Fault("infinite rate", ("run", "pce", "--set", "crf.bi_weight=.inf"), USAGE, ("bi_weight", "finite")),
    Fault("negative rate", ("train", "--lr", "-1"), USAGE, ("lr", "greater than 0", "-1")),
    Fault("no epochs", ("train", "--epochs", 0), USAGE, ("--epochs",)),
    Fault("loss term", ("train", "--set", "train.phases=[{epochs: 1, terms: {ce: 1}}]"), USAGE, ("'ce'", "pce")),
    Fault("shrink", ("prepare", "--shrink", 1.5), USAGE, ("--shrink", "1")),
    Fault("shrink is no number", ("prepare", "--shrink", "half"), USAGE, ("--shrink", "number")),
    Fault(
        "shrink and length", ("prepare", "--shrink", 0.5, "--length", 0.5), USAGE, ("--shrink", "--length", "one of")
    ),
    Fault(
        "points and shrink",
        ("prepare", "--points", "--shrink", 0.5),
        USAGE,
        ("points", "shrink", "set either points or shrink"),
    ),
    Fault("fraction", ("prepare", "--fraction", 0), USAGE, ("fraction", "greater than 0")),
    Fault("drop", ("prepare", "--drop", -0.1), USAGE, ("--drop", "0")),
    Fault("seed", ("prepare", "--seed", -1), USAGE, ("--seed", "0")),
    Fault("source of scribbles", ("prepare", "--source", "drawn"), USAGE, ("source", "'given'", "'drawn'")),
    Fault("scales are words", ("evaluate", "--scales", "a,b"), USAGE, ("--scales a,b", "0.5,0.75,1,1.25")),
    Fault("scale of zero", ("evaluate", "--scales", "1,0"), USAGE, ("--scales 1,0", "0.05")),
    Fault("scale of zero in --set", ("run", "pce", "--set", "predict.test_time.scales=[0]"), USAGE, ("scales", "0")),
    Fault("no scale", ("evaluate", "--scales", ""), USAGE, ("--scales", "numbers")),
    Fault("CRF preset", ("evaluate", "--crf", "--crf-preset", "vgg61"), USAGE, ("preset", "vgg16", "vgg61")),
    Fault("CRF engine", ("evaluate", "--crf", "--crf-backend", "gpu"), USAGE, ("backend", "native", "gpu")),
    Fault("CRF without probabilities", ("evaluate", "--crf", "--set", "predict.probs=false"), USAGE, ("probs: true",)),
    Fault("window", ("predict", "--window", 3), USAGE, ("--window", "16")),
    Fault("device", ("train", "--device", "tpu"), USAGE, ("--device tpu", "cpu")),
    Fault("no GPU", ("train", "--device", "cuda"), USAGE, ("--device cuda", "0 usable", "--device cpu")),
    Fault("no such GPU", ("evaluate", "--device", "cuda:7"), USAGE, ("cuda:7", "--device cpu")),
    Fault("jobs", ("train", "--jobs", -2), USAGE, ("--jobs", "0")),
    Fault("published weights", ("train", "--set", "train.weights=coco"), USAGE, ("coco", "--weights FILE")),
    Fault("published weights by name", ("train", "--weights", "coco"), USAGE, ("coco", "--weights FILE")),
    Fault(
        "steps outside of a phase",
        ("train", "--set", "train.steps=5"),
        USAGE,
        ("'steps'", "did you mean 'phases.*.steps'?"),
    ),
    Fault("crop outside of augment", ("train", "--set", "train.crop=64"), USAGE, ("did you mean 'augment.crop'?",)),
    Fault("kind", ("init", "--kind", "foldr", "-w", "new"), USAGE, ("'foldr'", "did you mean 'folder'")),
    Fault("no root", ("init", "--kind", "folder", "-w", "new"), USAGE, ("folder", "--root DIR")),
    Fault("missing root", ("init", "-k", "voc", "-r", "nowhere", "-w", "new"), FAILURE, ("nowhere", "no such folder")),
    Fault(
        "data option",
        ("init", "-k", "sample", "-o", "trian=3", "-w", "new"),
        USAGE,
        ("'trian'", "did you mean 'train'"),
    ),
    Fault(
        "form of a data option", ("init", "-k", "sample", "-o", "train", "-w", "new"), USAGE, ("train", "NAME=VALUE")
    ),
    Fault("value of a data option", ("init", "-k", "sample", "-o", "train=[", "-w", "new"), USAGE, ("train=[", "YAML")),
    Fault("size of the sample", ("init", "-k", "sample", "-o", "width=8", "-w", "new"), USAGE, ("32x32", "width 8")),
    *(
        Fault(f"{name} of no workspace", (name, "-w", "nowhere"), USAGE, ("nowhere", "no such folder", "--workspace"))
        for name in ("status", "verify", "gc")
    ),
    Fault("second init", ("init", "--kind", "sample"), USAGE, ("wss.yaml", "--force")),
    Fault(
        "pipeline is no YAML", ("run", "p.yaml"), USAGE, ("p.yaml", "not valid YAML"), write_of("p.yaml", "stages: [")
    ),
    Fault("pipeline is a list", ("run", "p.yaml"), USAGE, ("p.yaml", "'stages'"), write_of("p.yaml", "[1, 2]")),
    Fault(
        "unknown stage",
        ("run", "p.yaml"),
        USAGE,
        ("p.yaml", "'trian'", "did you mean 'train'"),
        write_of("p.yaml", PIPELINE + "  - stage: trian\n"),
    ),
    Fault(
        "input of another kind",
        ("run", "p.yaml"),
        USAGE,
        ("p.yaml", "'samples'", "must be samples", "'prepare' makes labels"),
        write_of("p.yaml", PIPELINE + "  - {id: again, stage: prepare, inputs: {samples: prepare}}\n"),
    ),
    Fault(
        "unknown input",
        ("run", "p.yaml"),
        USAGE,
        ("'sample'", "did you mean 'samples'"),
        write_of("p.yaml", PIPELINE + "  - {id: again, stage: prepare, inputs: {sample: samples}}\n"),
    ),
    Fault(
        "missing input",
        ("run", "p.yaml"),
        USAGE,
        ("p.yaml", "'again'", "'samples'", "is missing"),
        write_of("p.yaml", PIPELINE + "  - {id: again, stage: prepare}\n"),
    ),
    Fault(
        "two stages of one name",
        ("run", "p.yaml"),
        USAGE,
        ("p.yaml", "'prepare'", "'id'"),
        write_of("p.yaml", PIPELINE + "  - {stage: prepare, inputs: {samples: samples}}\n"),
    ),
    Fault(
        "nothing to configure",
        ("prepare",),
        USAGE,
        ("wss.yaml", "'dataset'", "wss init"),
        write_of("wss.yaml", "datset: {}"),
    ),
    Fault(
        "configuration is no YAML",
        ("prepare",),
        USAGE,
        ("wss.yaml", "not valid YAML"),
        write_of("wss.yaml", "dataset: ["),
    ),
    Fault(
        "no kind", ("prepare",), USAGE, ("wss.yaml", "'kind'", "required"), write_of("wss.yaml", "dataset: {root: x}")
    ),
    Fault("no root given", ("prepare",), USAGE, ("voc", "--root"), write_of("wss.yaml", "dataset: {kind: voc}")),
    Fault(
        "root is gone",
        ("train",),
        FAILURE,
        ("gone", "no such folder"),
        write_of("wss.yaml", "dataset: {kind: voc, root: gone}"),
    ),
    Fault(
        "unknown data option",
        ("status",),
        USAGE,
        ("'rooot'", "did you mean"),
        write_of("wss.yaml", "dataset: {kind: sample, options: 3, rooot: x}"),
    ),
    Fault(
        "state is no YAML", ("evaluate",), USAGE, ("state.yaml", "not valid YAML"), write_of("state.yaml", "train: [")
    ),
    Fault(
        "state of another shape", ("evaluate",), USAGE, ("state.yaml", "remove it"), write_of("state.yaml", "train: 5")
    ),
]


@pytest.mark.parametrize("fault", REQUESTS, ids=ids_of(REQUESTS))
def test_wrong_requests(fault, work, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    expect(fault, work)
    assert not (work / "new").exists()
    assert not (work / "s").exists()


def test_there_are_enough_with_a_name_each():
    assert len({fault.name for fault in REQUESTS}) == len(REQUESTS) > 70
