"""Trainings of SPML, and the settings of its pipelines and presets."""

import pytest
import torch
from pydantic import ValidationError
from spml_cases import SETTINGS, batch_of, trained_of

from wss.methods import Phase, Spml
from wss.networks import NetworkSpec
from wss.networks.build import ARCHITECTURES
from wss.pipeline.presets import load_preset
from wss.pipeline.spec import find_pipeline, load_pipeline
from wss.training.augment import AugmentParams
from wss.training.batches import TrainingSet
from wss.training.loop import Hooks, LoopSettings, fit
from wss.training.optimiser import freeze

TERMS = {"similarity": 0.1, "annotation": 1.0, "cooccurrence": 0.5, "affinity": 0.1}


def _fit(model, method, state=None, save=lambda state: None, advance=lambda n, note: None, epochs=3, terms=TERMS):
    batch = batch_of()
    images = batch.rgb.permute(0, 2, 3, 1).to(torch.uint8).numpy()
    maps = {"labels": batch.labels.to(torch.uint8).numpy(), "superpixels": batch.maps["superpixels"].int().numpy()}
    data = TrainingSet(
        ["0", "1", "2", "3"],
        lambda i: (images[int(i) % 2], {name: values[int(i) % 2] for name, values in maps.items()}),
        AugmentParams(crop=24),
        seed=0,
        tags={i: batch.tags[int(i) % 2].numpy() for i in "0123"},
        background=0,
    )
    rates = {"optimiser": "adamw", "lr": 0.003, "head_multiplier": 1.0}
    phases = (Phase(epochs=epochs, terms=terms, **rates), Phase(epochs=1, terms={"classifier": 1.0}, **rates))
    settings = LoopSettings(batch_size=2, seed=0, device=torch.device("cpu"), validate_every=0)
    return fit(model, method, phases, data, settings, Hooks(lambda: {}, save, lambda rows: None, advance), state)


class _Stop(Exception):
    pass


@pytest.mark.parametrize("stop_after", [1, 4, 7])
def test_resumed_training_equals_uninterrupted(stop_after, monkeypatch, tmp_path):
    """Also what it has of the memory bank, which the trained network does not have."""
    from wss.store.checkpoint import read_checkpoint, write_checkpoint

    monkeypatch.setattr("wss.training.loop.CHECKPOINT_INTERVAL_S", -1.0)
    method = Spml(**SETTINGS)
    whole = trained_of(method)
    torch.manual_seed(5)
    rows = _fit(whole, method)
    steps = []

    def advance(n, note):
        steps.append(n)
        if len(steps) > stop_after:
            raise _Stop

    torch.manual_seed(0)
    model = trained_of(method)
    torch.manual_seed(5)
    with pytest.raises(_Stop):
        _fit(model, method, save=lambda state: write_checkpoint(tmp_path / "c", state), advance=advance)
    other = trained_of(method)
    torch.manual_seed(99)
    state = read_checkpoint(tmp_path / "c")
    assert len(state["carried"]["bank"]) == min(2, stop_after)
    again = _fit(other, method, state=state)
    for name, value in whole.state_dict().items():
        assert torch.equal(other.state_dict()[name], value), name
    for row, same in zip(rows, again, strict=True):
        assert _untimed(row) == _untimed(same)


def _untimed(row):
    return {name: value for name, value in row.items() if not name.startswith("seconds")}


def test_training_lowers_the_terms():
    method = Spml(**SETTINGS)
    terms = {"similarity": 1.0, "annotation": 1.0}
    rows = _fit(trained_of(method), method, epochs=12, terms=terms)
    for term in terms:
        assert sum(row[term] for row in rows[6:12]) / 6 < 0.8 * rows[0][term], term


def test_the_loss_is_the_sum_of_the_terms_times_lambda():
    method = Spml(**SETTINGS)
    rows = _fit(trained_of(method), method, epochs=1)
    assert rows[0]["loss"] == pytest.approx(sum(weight * rows[0][term] for term, weight in TERMS.items()), rel=1e-5)
    assert all(rows[0][term] > 0 for term in TERMS)


@pytest.mark.slow
def test_a_compiled_network_trains_the_same():
    method, batch = Spml(**SETTINGS), batch_of()
    model = trained_of(method).eval()
    expected = method.losses(model, batch, method.term_names)
    compiled = torch.compile(model, backend="eager")
    for name, value in method.losses(compiled, batch, method.term_names).items():
        torch.testing.assert_close(value, expected[name])


def test_settings_are_checked():
    with pytest.raises(ValidationError, match="stride"):
        Spml(stride=3)
    with pytest.raises(ValidationError, match="multiple of stride, 4; got 2"):
        Spml(cell=2)
    with pytest.raises(ValidationError, match="kappa_annotation"):
        Spml(kappa_annotation=41)
    with pytest.raises(ValidationError, match="affinity_threshold"):
        Spml(affinity_threshold=1.1)
    assert (Spml().affinity_within, Spml().affinity_threshold) == ("image", 0.95)


def test_cooccurrence_is_doubted_on_networks_with_image_pooling():
    """A mean over the image in the features of its pixels is a shortcut to what the term asks for."""
    networks = {name: NetworkSpec(name=name, backbone=(a.backbones or (None,))[0]) for name, a in ARCHITECTURES.items()}
    doubted = {name for name, spec in networks.items() if Spml().doubts(spec, {"annotation", "cooccurrence"})}
    assert doubted == {"deeplab-v3plus", "pspnet"}
    assert "deeplab-v2" in Spml().doubts(networks["deeplab-v3plus"], {"cooccurrence"})
    for spec in networks.values():
        assert Spml().doubts(spec, {"similarity", "annotation", "affinity", "classifier"}) is None


def _phases(name, **options):
    nodes = load_pipeline(find_pipeline(name), **options).nodes
    return nodes["train-embedding"].params, nodes["train"].params


TABLE_5 = {  # lambda of similarity, annotation, cooccurrence, affinity; kappa of the same
    "spml-scribble": ((0.1, 1.0, 0.5, None), (16, 6, 12, None)),
    "spml-point": ((1.0, 1.0, 1.0, None), (16, 6, 8, None)),
    "spml-box": ((0.3, 1.0, 1.0, None), (16, 6, 8, None)),
    "spml-tag": ((0.3, 1.0, 1.0, None), (16, 6, 8, None)),
    "spml-densepose": ((0.1, 1.0, None, 0.5), (16, 6, None, 12)),
}


@pytest.mark.parametrize("name", TABLE_5)
def test_pipelines_have_the_settings_of_table_5(name):
    embedding, final = _phases(name)
    weights, kappas = TABLE_5[name]
    for term, weight, kappa in zip(
        ("similarity", "annotation", "cooccurrence", "affinity"), weights, kappas, strict=True
    ):
        assert embedding.phases[0].terms.get(term) == weight
        assert kappa is None or getattr(embedding.method, f"kappa_{term}") == kappa
    assert embedding.method == final.method
    assert all(phase.terms == {"classifier": 1} for phase in (*embedding.phases[1:], *final.phases))


PRESETS = [  # batch and steps of the embedding: Table 5 and appendix A.4
    ("spml-scribble", "voc2012-spml", 12, 30000),
    ("spml-point", "voc2012-spml", 12, 30000),
    ("spml-box", "voc2012-spml", 16, 30000),
    ("spml-tag", "voc2012-spml", 16, 30000),
    ("spml-densepose", "densepose-spml", 16, 45000),
]


@pytest.mark.parametrize(("name", "preset", "batch", "steps"), PRESETS)
def test_presets_hold_the_settings_of_the_paper(name, preset, batch, steps):
    embedding, final = _phases(name, preset=load_preset(preset))
    phase, *first_classifier = embedding.phases
    assert [p.steps for p in first_classifier] == ([] if name == "spml-tag" else [4000])
    assert (embedding.method.classifier, embedding.method.labels) == ("convolution", "majority")
    assert embedding.method == final.method
    assert (phase.lr, phase.momentum, phase.schedule, phase.power) == (0.003, 0.9, "poly", 0.9)
    assert (embedding.batch_size, embedding.augment.crop, embedding.network.backbone) == (batch, 512, "resnet101")
    assert embedding.network.name == ("pspnet" if name == "spml-densepose" else "deeplab-v2")
    assert (embedding.split, final.split) == (("train",) if name == "spml-densepose" else ("trainaug",)) * 2
    assert (phase.steps, phase.epochs) == (steps, None)
    assert [(p.steps, p.epochs) for p in final.phases] == [(4000, None)]
    assert final.batch_size == 16
    walk = load_pipeline(find_pipeline(name), preset=load_preset(preset)).nodes["similarity-walk"].params
    assert (walk.stride, walk.gamma, walk.beta, walk.steps) == (8, 5, 20, 6)
    assert (walk.restrict, walk.keep, walk.rescale) == (True, False, name != "spml-tag")


@pytest.mark.parametrize(("name", "preset"), [row[:2] for row in PRESETS])
def test_presets_fix_the_stem_and_the_first_blocks_of_the_embedding(name, preset):
    embedding, final = _phases(name, preset=load_preset(preset))
    model = embedding.method.build(embedding.network.model_copy(update={"backbone": "resnet18"}), 3)
    freeze(model, embedding.phases[0])
    fixed = {n.split(".")[2] for n, weight in model.named_parameters() if not weight.requires_grad}
    assert fixed == {"conv1", "bn1", "layer1"}
    assert not any(weight.requires_grad for n, weight in model.named_parameters() if ".backbone.layer1." in n)
    assert all(not phase.freeze for phase in (*embedding.phases[1:], *final.phases))


@pytest.mark.parametrize(
    ("name", "preset"),
    [
        ("study-spml", "voc2012-spml"),
        ("study-spml-sparsity", "voc2012-spml"),
        ("study-spml-densepose", "densepose-spml"),
    ],
)
def test_what_spml_is_compared_with_trains_like_its_embedding(name, preset):
    for options in ({}, {"preset": load_preset(preset)}):
        nodes = load_pipeline(find_pipeline(name), **options).nodes
        trained = {n: node.params for n, node in nodes.items() if node.stage.name == "train" and n != "train-first-0"}
        embedding = next(params for n, params in trained.items() if n.startswith("train-embedding"))
        plain = [params for params in trained.values() if params.method.name in ("pce", "dense")]
        assert plain
        for params in plain:
            (phase,) = params.phases
            assert phase.model_copy(update={"terms": embedding.phases[0].terms}) == embedding.phases[0]
            assert (params.batch_size, params.augment) == (embedding.batch_size, embedding.augment)
            assert params.network == embedding.network


def test_the_baseline_on_key_points_trains_as_long_as_the_embedding():
    nodes = load_pipeline(find_pipeline("study-spml-densepose"), preset=load_preset("densepose-spml")).nodes
    phases = [nodes[name].params.phases[0] for name in ("train-first-0", "train-kernelcut-0", "train-embedding-0")]
    assert phases[0].steps + phases[1].steps == phases[2].steps == 45000
    assert len({(phase.lr, phase.freeze, phase.head_multiplier) for phase in phases}) == 1


def test_study_has_the_rows_of_table_6():
    nodes = load_pipeline(find_pipeline("study-spml")).nodes
    trained = [node.params for name, node in nodes.items() if name.startswith("train-embedding-")]
    weights = [[p.phases[0].terms.get(t, 0) for t in ("similarity", "cooccurrence", "affinity")] for p in trained]
    right = [[0, 0, 0], [0.1, 0, 0], [0.1, 0.5, 0], [0.1, 0.5, 0.1]]
    left = [[0.3, 0.5, 0], [0.05, 0.5, 0], [0, 0.5, 0]]
    middle = [[0.1, 1, 0], [0.1, 0.1, 0]]
    assert weights == [*right, *left, *middle, [0.1, 0.5, 0]]  # the last one learns from masks
    rest = [p.model_dump(exclude={"phases": {"__all__": {"terms"}}}) for p in trained]
    assert all(other == rest[0] for other in rest)
