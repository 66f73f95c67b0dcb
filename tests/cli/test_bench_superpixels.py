"""`wss bench superpixels`."""

import json

import numpy as np
import pytest

from tests.datasets.bsds_files import write_bsds
from wss.datasets.bsds import list_bsds
from wss.edges import gradient_edges
from wss.metrics.regions import contingency, region_agreement, region_scores
from wss.superpixels import Slic, Ucm


@pytest.fixture
def bsds(tmp_path):
    return write_bsds(tmp_path / "bsds", {"val": 3})


def test_contour_maps_score_well_on_blocks(fresh, wss, bsds):
    arguments = ["bench", "superpixels", "-r", bsds, "-d", "gradient", "--sweep", "0.2,0.4,0.6", "--jobs", 1]
    scores = wss(*arguments, "--out", "scores.json", "--json").json
    assert scores == json.loads((fresh / "scores.json").read_text())
    agreements = []
    for item in list_bsds(bsds, "val"):
        image, _, truths = item.read()
        edges = np.rint(gradient_edges(image) * 255) / 255
        cuts = [Ucm(threshold=t).segment(image, edges) for t in (0.2, 0.4, 0.6)]
        agreements.append(region_agreement([contingency(cut, t) for t in truths] for cut in cuts))
    expected = region_scores(agreements)
    assert scores["images"] == 3
    assert scores["covering"]["ods"] == pytest.approx(expected.covering.ods)
    assert scores["covering"]["ods_threshold"] == (0.2, 0.4, 0.6)[expected.covering.ods_level]
    assert scores["rand_index"]["ois"] == pytest.approx(expected.rand_index.ois)
    assert scores["variation"]["ods"] == pytest.approx(expected.variation.ods)
    assert scores["covering"]["ods"] > 0.6
    assert scores["regions"] == sorted(scores["regions"], reverse=True)
    table = wss(*arguments, "--limit", 2).out
    assert "along gradient on 2 images of val" in table
    assert "PRI" in table


@pytest.mark.parametrize("method", ["slic", "felzenszwalb"])
def test_methods_that_look_at_the_image(fresh, wss, bsds, method):
    sweep = {"slic": "4,9", "felzenszwalb": "50,500"}[method]
    scores = wss("bench", "superpixels", "-r", bsds, "-m", method, "--sweep", sweep, "--limit", 1, "--json").json
    assert scores["detector"] is None
    assert 0 < scores["covering"]["ods"] <= scores["covering"]["ois"] <= scores["best_covering"] <= 1
    if method == "slic":
        image, _, truths = list_bsds(bsds, "val")[0].read()
        cuts = [Slic(segments=n).segment(image) for n in (4, 9)]
        found = region_agreement([contingency(cut, truth) for truth in truths] for cut in cuts)
        assert scores["variation"]["ods"] == pytest.approx(found.variation.min())
        assert scores["regions"] == [cut.max() + 1 for cut in cuts]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--method", "ucmm"], "did you mean 'ucm'"),
        (["--sweep", "a,b"], "expected numbers with commas"),
        (["--sweep", "0.5,2"], "threshold"),
        (["--method", "slic", "--sweep", "2.5"], "segments"),
        (["--method", "slic", "--detector", "gradient"], "'slic' does not use edges"),
        (["--detector", "gradeint"], "gradient"),
        (["--split", "vla"], "splits here: val"),
    ],
)
def test_what_is_refused(fresh, wss, bsds, arguments, said):
    result = wss("bench", "superpixels", "-r", bsds, *arguments)
    assert result.code in (1, 2)
    assert said in result.said
