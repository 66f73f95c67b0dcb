import dataclasses

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional

from tests.reference.segsort import affinity_labels, mean_loss
from wss.losses import partial_cross_entropy
from wss.methods import Batch, Phase, Spml
from wss.methods.coarse import cell_centres, coarse_labels
from wss.methods.spml import EmbeddingSegmenter, LinearClassifier, annotation, cooccurrence, similarity, spread
from wss.networks import NetworkSpec
from wss.networks.build import ARCHITECTURES
from wss.networks.deeplab_v2 import SummedASPP
from wss.ops import segment_prototypes
from wss.ops.spherical_kmeans import with_places
from wss.pipeline.presets import load_preset
from wss.pipeline.spec import find_pipeline, load_pipeline
from wss.predictor import InferenceParams, Predictor
from wss.training.augment import AugmentParams
from wss.training.batches import TrainingSet
from wss.training.loop import Hooks, LoopSettings, fit
from wss.training.optimiser import freeze

NETWORKS = {
    "unet": NetworkSpec(),
    "v2": NetworkSpec(name="deeplab-v2", backbone="mobilenet_v2"),
    "v2-16": NetworkSpec(name="deeplab-v2", backbone="mobilenet_v2", output_stride=16),
    "v3plus": NetworkSpec(name="deeplab-v3plus", backbone="mobilenet_v2"),
}


def _model(network="unet", classes=3, **options):
    torch.manual_seed(0)
    return EmbeddingSegmenter(NETWORKS[network], classes, **options)


def _images(height=35, width=50):
    return torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(1)) * 255


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("stride", [1, 4, 8])
def test_embedding_is_of_unit_length_at_its_stride(network, stride):
    model = _model(network, stride=stride).eval()
    for height, width in ((35, 50), (32, 64), (3, 5)):
        rgb = _images(height, width)
        embedding = model.embed(rgb)
        assert embedding.shape == (2, 64, -(-height // stride), -(-width // stride))
        assert embedding.dtype == torch.float32
        torch.testing.assert_close(embedding.norm(dim=1), torch.ones(embedding.shape[0], *embedding.shape[2:]))
        assert model(rgb).shape == (2, 3, height, width)


def test_deeplab_embeds_by_its_summed_pyramid_and_doubles_to_stride_4():
    model = _model("v2").eval()
    assert isinstance(model.network.classifier, SummedASPP)
    rgb = _images(32, 48)
    coarse = model.network(model.normalise(rgb))
    assert coarse.shape == (2, 64, 4, 6)
    fine = functional.interpolate(coarse, (8, 12), mode="bilinear", align_corners=False)
    torch.testing.assert_close(model.embed(rgb), functional.normalize(fine, dim=1))


def test_finer_networks_are_averaged():
    model = _model("unet").eval()
    rgb = _images(32, 48)
    mean = model.network(model.normalise(rgb)).unfold(2, 4, 4).unfold(3, 4, 4).mean((-1, -2))
    torch.testing.assert_close(model.embed(rgb), functional.normalize(mean, dim=1))


@pytest.mark.parametrize("classifier", ["linear", "convolution"])
def test_logits_teach_the_classifier_alone(classifier):
    model = _model("v3plus", classifier=classifier)
    model(_images()).square().sum().backward()
    assert all(p.grad is None for p in model.network.parameters())
    assert all(p.grad is not None and p.grad.any() for p in model.classifier.parameters())


def test_linear_classifier_is_one_of_the_embedding_with_components_of_about_1():
    embedding = functional.normalize(torch.randn(2, 64, 5, 6, generator=torch.Generator().manual_seed(0)), dim=1)
    classifier = LinearClassifier(64, 3)
    weight, bias = classifier.logits.weight[:, :, 0, 0], classifier.logits.bias
    expected = torch.einsum("kc,bchw->bkhw", weight, embedding / embedding.square().mean().sqrt()) + bias[:, None, None]
    torch.testing.assert_close(classifier(embedding), expected)
    built = Spml(classifier="linear").build(NETWORKS["unet"], 3)
    assert isinstance(built.classifier, LinearClassifier) and isinstance(_model().classifier, LinearClassifier)
    convolution = Spml(classifier="convolution", dropout=0.3).build(NETWORKS["unet"], 3).classifier
    assert [layer.kernel_size for layer in convolution if isinstance(layer, torch.nn.Conv2d)] == [(3, 3), (1, 1)]
    assert convolution[3].p == 0.3


def test_autocast_keeps_results_in_float32():
    model = _model("v2").eval()
    with torch.autocast("cpu", torch.bfloat16):
        embedding, logits = model.embed(_images()), model(_images())
    assert embedding.dtype == logits.dtype == torch.float32
    torch.testing.assert_close(embedding, model.embed(_images()), rtol=0, atol=0.05)


@pytest.mark.parametrize("network", NETWORKS)
def test_predicts_at_several_scales_and_in_windows(network):
    model = _model(network)
    image = np.random.default_rng(0).integers(0, 256, (41, 57, 3), np.uint8)
    palette = np.zeros((3, 3), np.uint8)
    for test_time in (InferenceParams(scales=(0.5, 1, 1.25), flip=True), InferenceParams(window=32)):
        probs = Predictor(model, "abc", palette, torch.device("cpu"), test_time).probabilities(image)
        assert probs.shape == (3, 41, 57)
        np.testing.assert_allclose(probs.sum(0), 1, rtol=1e-4)


def test_relations_of_a_hand_made_example():
    """Two images: segments 0, 1, 2 of the first, 3, 4 of the second; 5 and 6 are the bank's, of two other images."""
    image, region = torch.tensor([0, 0, 0, 1, 1]), torch.tensor([7, 7, 8, 7, 8])
    label = torch.tensor([1, 255, 0, 1, 0, 1, 255])
    positive, negative = similarity(image, region)
    assert _pairs(positive) == {(0, 0), (0, 1), (1, 0), (1, 1), (2, 2), (3, 3), (4, 4)}
    assert _pairs(negative) == {(0, 2), (1, 2), (2, 0), (2, 1), (3, 4), (4, 3)}
    positive, negative = annotation(label, 5)
    assert _pairs(positive) == {(0, 0), (0, 3), (0, 5), (2, 2), (2, 4), (3, 0), (3, 3), (3, 5), (4, 2), (4, 4)}
    assert _pairs(negative) == {(0, 2), (0, 4), (2, 0), (2, 3), (2, 5), (3, 2), (3, 4), (4, 0), (4, 3), (4, 5)}
    # the images have the foreground classes {1}, {1, 2}, {2} and, of an image without labels, unknown ones
    classes = torch.tensor([[1, 0], [1, 0], [1, 0], [1, 1], [1, 1], [0, 1], [0, 0]]).bool()
    known = torch.tensor([1, 1, 1, 1, 1, 1, 0]).bool()
    positive, negative = cooccurrence(image, classes, known)
    first = {(s, t) for s in range(3) for t in range(5)}
    second = {(s, t) for s in (3, 4) for t in range(6)}
    assert _pairs(positive) == first | second
    assert _pairs(negative) == {(s, 5) for s in range(3)}
    classes[:3] = False  # background alone, which is known: nothing in common with any other image
    positive, negative = cooccurrence(image, classes, known)
    assert _pairs(positive[:3]) == {(s, t) for s in range(3) for t in range(3)}
    assert _pairs(negative[:3]) == {(s, t) for s in range(3) for t in (3, 4, 5)}


def _pairs(relation):
    return set(map(tuple, relation.nonzero().tolist()))


def _directions(*angles):
    return torch.stack([torch.tensor(angles).cos(), torch.tensor(angles).sin()], 1)


def test_published_every_segment_takes_the_label_of_the_nearest_labelled():
    prototypes = _directions(0.0, 0.4, 1.0, 1.4, 2.0)
    label = torch.tensor([2, 255, 255, 0, 255])
    assert spread(prototypes, label).tolist() == [2, 2, 0, 0, 0]
    assert spread(prototypes, torch.full_like(label, 255)).tolist() == [255] * 5
    assert spread(prototypes[:0], label[:0]).tolist() == []


def test_labels_spread_within_an_image_and_no_further_than_the_threshold():
    """By default cosines are at least .95, so that angles are at most .317."""
    prototypes = _directions(0.0, 0.3, 0.35, 0.32, 0.6, 2.0)
    label = torch.tensor([1, 255, 255, 2, 255, 255])
    image = torch.tensor([0, 0, 0, 1, 1, 2])
    assert spread(prototypes, label, image, threshold=0.95).tolist() == [1, 1, 255, 2, 2, 255]
    assert spread(prototypes, label, image).tolist() == [1, 1, 1, 2, 2, 255]  # the last image has no label at all
    assert spread(prototypes, label, threshold=0.95).tolist() == [1, 2, 2, 2, 2, 255]
    assert spread(prototypes, label, threshold=-1).tolist() == spread(prototypes, label).tolist() == [1, 2, 2, 2, 2, 2]


@pytest.mark.parametrize("within", ["image", "batch"])
@pytest.mark.parametrize("threshold", [None, -1.0, 0.3, 0.95, 1.0])
def test_expanded_labels_are_those_of_the_definition(within, threshold):
    generator = torch.Generator().manual_seed(0)
    prototypes = functional.normalize(torch.randn(60, 3, generator=generator, dtype=torch.float64), dim=1)
    label = torch.randint(0, 4, (60,), generator=generator).where(torch.rand(60, generator=generator) < 0.3, 255)
    image = torch.arange(60) // 15 if within == "image" else None
    found = spread(prototypes, label, image, threshold=threshold)
    images = None if image is None else image.tolist()
    assert found.tolist() == affinity_labels(prototypes.tolist(), label.tolist(), images, threshold)


def _batch(background=0):
    """Two images of 24x32 with a stroke each of two of three classes, superpixels of 8x8, the second partly beyond its image."""
    generator = torch.Generator().manual_seed(2)
    labels = torch.full((2, 24, 32), 255)
    labels[0, 4:6, 2:30], labels[0, 18:20, 2:30] = 0, 1
    labels[1, 4:6, 2:20], labels[1, 18:20, 2:20] = 2, 0
    rgb = torch.rand(2, 3, 24, 32, generator=generator) * 60 + 60 * (labels.where(labels < 3, 1))[:, None]
    superpixels = (torch.arange(24) // 8)[:, None] * 4 + torch.arange(32) // 8
    superpixels = superpixels.repeat(2, 1, 1)
    valid = torch.ones(2, 24, 32, dtype=torch.bool)
    valid[1, :, 24:] = False
    superpixels[~valid] = -1
    tags = torch.tensor([[1, 1, 0], [1, 0, 1]]).bool()
    return Batch(rgb, labels, valid, {"superpixels": superpixels}, tags, background)


SETTINGS = {"dimension": 8, "grid": 2, "iterations": 3, "stride": 4}


def _trained(method, network="unet"):
    torch.manual_seed(0)
    return method.build(NETWORKS[network], 3).train()


AFFINITIES = {
    "default": {},
    "published": {"affinity_within": "batch", "affinity_threshold": None},
    "batch": {"affinity_within": "batch"},
}
KAPPAS = {"similarity": 15.0, "annotation": 5.0, "cooccurrence": 9.0, "affinity": 11.0}  # which all differ


@pytest.mark.parametrize("labels", ["split", "majority"])
@pytest.mark.parametrize("affinity", AFFINITIES)
def test_losses_are_those_of_the_equations(labels, affinity):
    """Against loops over pixels and segments, the memory bank of two batches included."""
    kappas = {f"kappa_{term}": value for term, value in KAPPAS.items()}
    method, batch = Spml(**SETTINGS, labels=labels, **AFFINITIES[affinity], **kappas), _batch()
    model = _trained(method, "v3plus").eval()
    banked = []
    for seed in range(3):  # the first of three batches is forgotten
        generator = torch.Generator().manual_seed(seed)
        other = dataclasses.replace(batch, rgb=torch.rand(2, 3, 24, 32, generator=generator) * 255)
        embedding = model.embed(other.rgb)
        segments, facts = method.segments(embedding, other, 3)
        made = segment_prototypes(embedding, segments)
        rows = {name: getattr(facts, name) for name in ("label", "classes", "known")}
        rows["nearby"] = torch.tensor(affinity_labels(made.tolist(), facts.label.tolist(), facts.image.tolist(), 0.95))
        model.bank.push(prototypes=made, **rows)
        banked.append((made, rows))
    embedding = model.embed(batch.rgb)
    segments, facts = method.segments(embedding, batch, 3)
    present = segment_prototypes(embedding, segments)
    prototypes = torch.cat([present, *(p for p, _ in banked[1:])]).detach()
    label, classes, known = (
        torch.cat([getattr(facts, name), *(rows[name] for _, rows in banked[1:])]).tolist()
        for name in ("label", "classes", "known")
    )
    own = segments.ids.flatten().tolist()
    pixels = embedding.detach().permute(0, 2, 3, 1).flatten(0, 2).tolist()
    count, total = segments.count, len(label)
    image = facts.image.tolist()
    if affinity != "default":
        nearest = affinity_labels(prototypes.tolist(), label, threshold=0.95 if affinity == "batch" else None)
        assert (255 in nearest) == (affinity == "batch")
    else:
        nearest = affinity_labels(present.tolist(), facts.label.tolist(), image, 0.95)
        assert facts.label.tolist() != nearest and 255 in nearest  # some segments are near enough, and some are not
        nearest += torch.cat([rows["nearby"] for _, rows in banked[1:]]).tolist()

    def same(names):
        counts = [[names[s] != 255 and names[t] != 255 for t in range(total)] for s in range(count)]
        alike = [[names[s] == names[t] for t in range(total)] for s in range(count)]
        return _both(counts, alike)

    shared = [
        [any(a and b for a, b in zip(classes[s], classes[t], strict=True)) for t in range(total)] for s in range(count)
    ]
    for s in range(count):
        for t in range(count):
            shared[s][t] |= image[s] == image[t]
    everywhere = [[known[s] and known[t] for t in range(total)] for s in range(count)]
    region = facts.region.tolist()
    within = [[image[s] == image[t] for t in range(count)] for s in range(count)]
    alike = [[region[s] == region[t] for t in range(count)] for s in range(count)]
    placed = with_places(embedding.detach())
    near = segment_prototypes(placed, segments).tolist()
    contrasts = {
        "annotation": (pixels, prototypes.tolist(), own, *same(label)),
        "affinity": (pixels, prototypes.tolist(), own, *same(nearest)),
        "cooccurrence": (pixels, prototypes.tolist(), own, *_both(everywhere, shared)),
        "similarity": (placed.permute(0, 2, 3, 1).flatten(0, 2).tolist(), near, own, *_both(within, alike)),
    }
    found = method.losses(model, batch, method.term_names)
    for name, contrast in contrasts.items():
        value = mean_loss(*contrast, KAPPAS[name])
        assert found[name].item() == pytest.approx(value, rel=1e-4), name
        assert value > 0
    torch.testing.assert_close(found["classifier"], partial_cross_entropy(model(batch.rgb), batch.labels))


def _both(counts, alike):
    pairs = [list(zip(a, b, strict=True)) for a, b in zip(counts, alike, strict=True)]
    return [[c and a for c, a in row] for row in pairs], [[c and not a for c, a in row] for row in pairs]


def test_segments_are_of_one_image_superpixel_and_label():
    batch = _batch()
    for labels in ("split", "majority"):
        method = Spml(**SETTINGS, labels=labels)
        embedding = _trained(method).embed(batch.rgb)
        segments, facts = method.segments(embedding, batch, 3)
        cells = torch.stack(
            [
                torch.arange(2)[:, None, None].expand(2, 6, 8),
                cell_centres(batch.maps["superpixels"], 4),
                coarse_labels(batch.labels, 4, 3),
            ]
        )
        assert (segments.ids == -1).equal(~cell_centres(batch.valid, 4))
        for s in range(segments.count):
            image, region, label = (part[segments.ids == s] for part in cells)
            assert set(image.tolist()) == {facts.image[s].item()}
            assert set(region.tolist()) == {facts.region[s].item()}
            if labels == "split":
                assert set(label.tolist()) == {facts.label[s].item()}
            else:
                assert facts.label[s].item() in {*label.tolist()}
                assert facts.label[s] != 255 or (label == 255).all()
    assert facts.classes.tolist() == [[False, True, False] if i == 0 else [False, False, True] for i in facts.image]


@pytest.mark.parametrize(("height", "width"), [(24, 32), (23, 30)])
def test_coarse_cells_stand_for_the_mean_of_their_pixels(height, width):
    """The losses of a fine embedding on cells of 4 are those of an embedding at stride 4 that is made of the same means."""
    whole = _batch()
    maps = {"superpixels": whole.maps["superpixels"][:, :height, :width]}
    cut = {"labels": whole.labels[:, :height, :width], "valid": whole.valid[:, :height, :width], "maps": maps}
    batch = dataclasses.replace(whole, rgb=whole.rgb[:, :, :height, :width], **cut)
    fine, coarse = Spml(**{**SETTINGS, "stride": 1}, cell=4), Spml(**SETTINGS)
    model = _trained(fine).eval()
    embedding = model.embed(batch.rgb)
    cells = fine.cells(embedding)
    assert cells.shape == (2, 8, 6, 8)
    last = embedding[:, :, 20:, 28:].sum((2, 3))
    torch.testing.assert_close(cells[:, :, -1, -1], functional.normalize(last, dim=1))
    found = fine.losses(model, batch, fine.term_names)
    given = _trained(coarse).eval()
    given.embed = lambda rgb: cells
    for name, value in coarse.losses(given, batch, coarse.term_names - {"classifier"}).items():
        torch.testing.assert_close(found[name], value)


def test_bank_keeps_the_last_batches_without_gradient():
    method, batch = Spml(**SETTINGS), _batch()
    model = _trained(method)
    for step in range(4):
        found = method.losses(model, batch, {"cooccurrence"})
        assert len(model.bank.state) == min(step + 1, 2)
    assert not any(values.requires_grad for kept in model.bank.state for values in kept.values())
    found["cooccurrence"].backward()
    before = model.bank.state
    model.eval()
    method.losses(model, batch, {"cooccurrence"})
    assert model.bank.state == before  # only training fills it
    assert not any("bank" in name for name in model.state_dict())
    none = Spml(**SETTINGS, bank_batches=0)
    model = _trained(none)
    none.losses(model, batch, {"annotation"})
    assert none.carried(model) == {"bank": []}


@pytest.mark.parametrize("within", ["image", "batch"])
def test_bank_keeps_the_labels_that_spread_within_images(within, monkeypatch):
    """A segment of the bank keeps the label that it took in its own image; in the whole batch it looks for the nearest anew."""
    method, batch, facts, real = (
        Spml(**SETTINGS, affinity_within=within, affinity_threshold=0.8),
        _batch(),
        [],
        Spml.segments,
    )
    monkeypatch.setattr(Spml, "segments", lambda *args: facts.append(real(*args)) or facts[-1])
    model = _trained(method, "v3plus")
    method.losses(model, batch, {"affinity"})
    (kept,) = model.bank.state
    expected = spread(kept["prototypes"], kept["label"], facts[0][1].image, threshold=0.8)
    assert (expected != kept["label"]).any() and (expected == 255).any()
    assert kept["nearby"].equal(expected if within == "image" else kept["label"])
    method.losses(model, batch, {"annotation"})  # without the term
    assert model.bank.state[1]["nearby"].equal(model.bank.state[1]["label"])


def test_contrasts_teach_the_embedding_and_the_classifier_term_the_classifier():
    method, batch = Spml(**SETTINGS), _batch()
    for term in ("similarity", "annotation", "cooccurrence", "affinity"):
        model = _trained(method)
        method.losses(model, batch, {term})[term].backward()
        assert any(p.grad is not None and p.grad.any() for p in model.network.parameters()), term
        assert all(p.grad is None for p in model.classifier.parameters()), term
    model = _trained(method)
    before = {name: value.clone() for name, value in model.network.state_dict().items()}
    found = method.losses(model, batch, {"classifier"})
    assert set(found) == {"classifier"}
    found["classifier"].backward()
    assert all(p.grad is None for p in model.network.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.network.state_dict().items())
    assert all(p.grad is not None for p in model.classifier.parameters())
    method.losses(model, batch, {"classifier", "annotation"})
    assert model.network.training


@pytest.mark.parametrize("background", [0, None])
def test_nothing_labelled_is_a_differentiable_zero(background):
    method, batch = Spml(**SETTINGS), _batch(background)
    empty = dataclasses.replace(
        batch, labels=torch.full_like(batch.labels, 255), tags=torch.zeros(2, 3, dtype=torch.bool)
    )
    model = _trained(method)
    found = method.losses(model, empty, method.term_names)
    sum(found.values()).backward()
    assert found["similarity"] > 0  # which needs no labels
    assert all(found[name].item() == 0 for name in ("annotation", "cooccurrence", "affinity", "classifier"))
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    outside = dataclasses.replace(empty, valid=torch.zeros_like(batch.valid))
    found = method.losses(_trained(method), outside, method.term_names)
    sum(found.values()).backward()
    assert all(value.item() == 0 for value in found.values())


def test_autocast_keeps_losses_in_float32():
    method, batch = Spml(**SETTINGS), _batch()
    with torch.autocast("cpu", torch.bfloat16):
        found = method.losses(_trained(method).eval(), batch, method.term_names)
    exact = method.losses(_trained(method).eval(), batch, method.term_names)
    for name, value in found.items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, exact[name], rtol=0.2, atol=0.2)


TERMS = {"similarity": 0.1, "annotation": 1.0, "cooccurrence": 0.5, "affinity": 0.1}


def _fit(model, method, state=None, save=lambda state: None, advance=lambda n, note: None, epochs=3, terms=TERMS):
    batch = _batch()
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
    whole = _trained(method)
    torch.manual_seed(5)
    rows = _fit(whole, method)
    steps = []

    def advance(n, note):
        steps.append(n)
        if len(steps) > stop_after:
            raise _Stop

    torch.manual_seed(0)
    model = _trained(method)
    torch.manual_seed(5)
    with pytest.raises(_Stop):
        _fit(model, method, save=lambda state: write_checkpoint(tmp_path / "c", state), advance=advance)
    other = _trained(method)
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
    rows = _fit(_trained(method), method, epochs=12, terms=terms)
    for term in terms:
        assert sum(row[term] for row in rows[6:12]) / 6 < 0.8 * rows[0][term], term


def test_the_loss_is_the_sum_of_the_terms_times_lambda():
    method = Spml(**SETTINGS)
    rows = _fit(_trained(method), method, epochs=1)
    assert rows[0]["loss"] == pytest.approx(sum(weight * rows[0][term] for term, weight in TERMS.items()), rel=1e-5)
    assert all(rows[0][term] > 0 for term in TERMS)


@pytest.mark.slow
def test_a_compiled_network_trains_the_same():
    method, batch = Spml(**SETTINGS), _batch()
    model = _trained(method).eval()
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
