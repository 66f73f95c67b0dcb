from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from wss.networks import PSPNet, PyramidPooling, ResNet


def test_it_has_the_published_number_of_parameters():
    """ResNet-50's convolutions, the pyramid, the bottleneck and 150 classes: 46.7 M without the auxiliary branch."""
    with torch.device("meta"):
        network = PSPNet(ResNet(50, 8), 150)
    backbone = 25_557_032 - 2049 * 1000
    pyramid = 4 * (2048 * 512 + 2 * 512)
    bottleneck = 9 * 4096 * 512 + 2 * 512
    assert sum(p.numel() for p in network.parameters()) == backbone + pyramid + bottleneck + 513 * 150 == 46_658_774
    assert network.feature_channels == 512


@pytest.mark.parametrize("size", [(1, 1), (2, 7), (6, 6), (5, 13)])
def test_levels_are_projected_means_of_grid_cells(size):
    torch.manual_seed(0)
    pyramid = PyramidPooling(8).double().eval()
    features = torch.randn(2, 8, *size, dtype=torch.float64)
    expected = [features]
    for cells, project in zip((1, 2, 3, 6), pyramid.projections, strict=True):
        means = torch.empty(2, 8, cells, cells, dtype=torch.float64)
        for i in range(cells):
            for j in range(cells):
                rows = slice(i * size[0] // cells, -(-(i + 1) * size[0] // cells))
                columns = slice(j * size[1] // cells, -(-(j + 1) * size[1] // cells))
                means[:, :, i, j] = features[:, :, rows, columns].mean((2, 3))
        projected = (means.permute(0, 2, 3, 1) @ project[0].weight.flatten(1).T).permute(0, 3, 1, 2)
        level = functional.relu(projected / (1 + project[1].eps) ** 0.5)
        expected.append(functional.interpolate(level, size, mode="bilinear", align_corners=False))
    with torch.inference_mode():
        found = pyramid(features)
    assert found.shape == (2, 16, *size)
    torch.testing.assert_close(found, torch.cat(expected, 1))
