import dataclasses

import numpy as np
import pytest
import torch
from spml_cases import NETWORKS, SETTINGS, batch_of, trained_of
from torch.nn import functional

from tests.reference.segsort import affinity_labels, mean_loss
from wss.losses import partial_cross_entropy
from wss.methods import Spml
from wss.methods.coarse import cell_centres, coarse_labels
from wss.methods.spml import EmbeddingSegmenter, LinearClassifier, annotation, cooccurrence, similarity, spread
from wss.networks.deeplab_v2 import SummedASPP
from wss.ops import segment_prototypes
from wss.ops.spherical_kmeans import with_places
from wss.predictor import InferenceParams, Predictor


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
    method, batch = Spml(**SETTINGS, labels=labels, **AFFINITIES[affinity], **kappas), batch_of()
    model = trained_of(method, "v3plus").eval()
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
    batch = batch_of()
    for labels in ("split", "majority"):
        method = Spml(**SETTINGS, labels=labels)
        embedding = trained_of(method).embed(batch.rgb)
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
    whole = batch_of()
    maps = {"superpixels": whole.maps["superpixels"][:, :height, :width]}
    cut = {"labels": whole.labels[:, :height, :width], "valid": whole.valid[:, :height, :width], "maps": maps}
    batch = dataclasses.replace(whole, rgb=whole.rgb[:, :, :height, :width], **cut)
    fine, coarse = Spml(**{**SETTINGS, "stride": 1}, cell=4), Spml(**SETTINGS)
    model = trained_of(fine).eval()
    embedding = model.embed(batch.rgb)
    cells = fine.cells(embedding)
    assert cells.shape == (2, 8, 6, 8)
    last = embedding[:, :, 20:, 28:].sum((2, 3))
    torch.testing.assert_close(cells[:, :, -1, -1], functional.normalize(last, dim=1))
    found = fine.losses(model, batch, fine.term_names)
    given = trained_of(coarse).eval()
    given.embed = lambda rgb: cells
    for name, value in coarse.losses(given, batch, coarse.term_names - {"classifier"}).items():
        torch.testing.assert_close(found[name], value)


def test_bank_keeps_the_last_batches_without_gradient():
    method, batch = Spml(**SETTINGS), batch_of()
    model = trained_of(method)
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
    model = trained_of(none)
    none.losses(model, batch, {"annotation"})
    assert none.carried(model) == {"bank": []}


@pytest.mark.parametrize("within", ["image", "batch"])
def test_bank_keeps_the_labels_that_spread_within_images(within, monkeypatch):
    """A segment of the bank keeps the label that it took in its own image; in the whole batch it looks for the nearest anew."""
    method, batch, facts, real = (
        Spml(**SETTINGS, affinity_within=within, affinity_threshold=0.8),
        batch_of(),
        [],
        Spml.segments,
    )
    monkeypatch.setattr(Spml, "segments", lambda *args: facts.append(real(*args)) or facts[-1])
    model = trained_of(method, "v3plus")
    method.losses(model, batch, {"affinity"})
    (kept,) = model.bank.state
    expected = spread(kept["prototypes"], kept["label"], facts[0][1].image, threshold=0.8)
    assert (expected != kept["label"]).any() and (expected == 255).any()
    assert kept["nearby"].equal(expected if within == "image" else kept["label"])
    method.losses(model, batch, {"annotation"})  # without the term
    assert model.bank.state[1]["nearby"].equal(model.bank.state[1]["label"])


def test_contrasts_teach_the_embedding_and_the_classifier_term_the_classifier():
    method, batch = Spml(**SETTINGS), batch_of()
    for term in ("similarity", "annotation", "cooccurrence", "affinity"):
        model = trained_of(method)
        method.losses(model, batch, {term})[term].backward()
        assert any(p.grad is not None and p.grad.any() for p in model.network.parameters()), term
        assert all(p.grad is None for p in model.classifier.parameters()), term
    model = trained_of(method)
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
    method, batch = Spml(**SETTINGS), batch_of(background)
    empty = dataclasses.replace(
        batch, labels=torch.full_like(batch.labels, 255), tags=torch.zeros(2, 3, dtype=torch.bool)
    )
    model = trained_of(method)
    found = method.losses(model, empty, method.term_names)
    sum(found.values()).backward()
    assert found["similarity"] > 0  # which needs no labels
    assert all(found[name].item() == 0 for name in ("annotation", "cooccurrence", "affinity", "classifier"))
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    outside = dataclasses.replace(empty, valid=torch.zeros_like(batch.valid))
    found = method.losses(trained_of(method), outside, method.term_names)
    sum(found.values()).backward()
    assert all(value.item() == 0 for value in found.values())


def test_autocast_keeps_losses_in_float32():
    method, batch = Spml(**SETTINGS), batch_of()
    with torch.autocast("cpu", torch.bfloat16):
        found = method.losses(trained_of(method).eval(), batch, method.term_names)
    exact = method.losses(trained_of(method).eval(), batch, method.term_names)
    for name, value in found.items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, exact[name], rtol=0.2, atol=0.2)
