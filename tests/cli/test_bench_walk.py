import json

import pytest

TINY = ("--network", "unet", "--crop", "32", "--batch-size", "1", "--repeats", "1", "--classes", "3")


@pytest.mark.slow
def test_costs_of_the_parts(wss, tmp_path):
    rows = wss("bench", "walk", *TINY, "--out", tmp_path / "c.json", "--json").json
    assert [row["variant"] for row in rows] == ["baseline", "+ random walk", "+ self-supervision"]
    counts = [row["parameters"] for row in rows]
    channels = 16  # of the last features of a U-Net
    assert counts[1] - counts[0] == channels**2 + 129 * channels + 128 + 1
    assert counts[2] == counts[1]
    assert all(row["step_s"] > 0 and row["image_s"] > 0 and row["step_mib"] >= 0 for row in rows)
    assert json.loads((tmp_path / "c.json").read_text())["rows"] == rows


@pytest.mark.parametrize(("wrong", "hint"), [(("--embed", "key"), "embed"), (("--network", "vnet"), "unet")])
def test_wrong_requests(wss, wrong, hint):
    result = wss("bench", "walk", *TINY, *wrong)
    assert result.code == 2
    assert hint in result.said
