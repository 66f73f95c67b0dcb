import hashlib

import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.stats import mannwhitneyu
from skimage.segmentation import find_boundaries

from wss.datasets import open_source
from wss.edges import DetectorParams, build_detector
from wss.edges.build import EMBEDDED
from wss.errors import DataError, UsageError
from wss.networks.hed import HED
from wss.networks.small_edges import SmallEdgeNet
from wss.params import canonical, validate


def step_image(size=(64, 96)):
    image = np.full((*size, 3), (90, 110, 130), np.uint8)
    image[:, 48:] = (200, 60, 40)
    return image


@pytest.mark.parametrize(
    ("given", "scales"),
    [
        ({}, (0.5, 1.0, 1.5)),
        ({"detector": "gradient"}, (1.0,)),
        ({"detector": "hed", "weights": "w"}, (1.0,)),
        ({"detector": "gradient", "scales": [0.5, 2]}, (0.5, 2.0)),
    ],
    ids=str,
)
def test_scales_that_are_not_given_are_the_detectors(given, scales):
    assert DetectorParams(**given).scales == scales
    assert validate(DetectorParams, given, "edges").scales == scales


def test_the_shipped_weights_are_small_plain_tensors_of_the_network():
    assert EMBEDDED.stat().st_size < 2_000_000
    state = torch.load(EMBEDDED, weights_only=True)
    assert state.keys() == SmallEdgeNet().state_dict().keys()
    assert {value.dtype for value in state.values()} <= {torch.float16, torch.int64}
    assert EMBEDDED.with_suffix(".md").read_text().startswith("# embedded.pt")


def test_the_embedded_detector_finds_a_step():
    edges = build_detector(DetectorParams())(step_image())
    assert edges.shape == (64, 96)
    assert edges.dtype == np.float32
    assert np.abs(edges[16:48].argmax(1) - 47.5).max() < 4
    assert edges[16:48, 46:50].mean() > 100 * edges[16:48, 10:30].mean()


def test_the_embedded_detector_finds_outlines_among_textures():
    source = open_source("sample", train=3, val=1)
    on, off = [], []
    for image_id in source.catalogue.splits["train"]:
        sample = source.read(image_id)
        outline = find_boundaries(sample.mask, mode="thick")
        edges = ndimage.grey_dilation(build_detector(DetectorParams())(sample.image), size=3)
        on.append(edges[outline])
        off.append(edges[~ndimage.binary_dilation(outline, iterations=3)])
    assert mannwhitneyu(np.concatenate(on), np.concatenate(off)).statistic > 0.85 * sum(map(len, on)) * sum(
        map(len, off)
    )


def test_suppression_thins():
    thick, thin = (
        build_detector(DetectorParams(nms=nms, flip=True, scales=(0.5, 1.0)))(step_image()) for nms in (0, 1)
    )
    near = np.s_[16:48, 40:56]
    assert (thin[near] > 0.3).any(1).all()
    assert (thin[near] > 0.3).sum() < 0.5 * (thick[near] > 0.3).sum()


def test_hed_from_a_file(tmp_path):
    torch.manual_seed(0)
    torch.save(HED().state_dict(), tmp_path / "hed.pt")
    params = DetectorParams(detector="hed", weights=str(tmp_path / "hed.pt"))
    assert build_detector(params)(step_image((20, 96))).shape == (20, 96)
    assert params.digest() == hashlib.sha256((tmp_path / "hed.pt").read_bytes()).hexdigest()
    assert "weights" not in canonical(params)
    with pytest.raises(DataError, match="small edge network"):
        build_detector(DetectorParams(weights=str(tmp_path / "hed.pt")))
    with pytest.raises(DataError, match="no such file"):
        build_detector(DetectorParams(weights=str(tmp_path / "none.pt")))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"detector": "canny"}, "embedded"),
        ({"detector": "hed"}, "has no weights in the package"),
        ({"detector": "structured"}, "has no weights in the package"),
        ({"detector": "gradient", "weights": "x.pt"}, "no weights"),
        ({"alignment": "interpolated"}, "hed"),
        ({"scales": [0]}, "above 0"),
        ({"scales": []}, "scales"),
    ],
)
def test_settings_that_contradict_are_refused(values, message):
    with pytest.raises(UsageError, match=message):
        validate(DetectorParams, values, "detector")
