import pytest
import torch

from wss.networks.small_edges import SmallEdgeNet


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return SmallEdgeNet().eval()


@pytest.mark.parametrize("size", [(1, 1), (16, 16), (31, 50)])
def test_any_size(network, size):
    with torch.no_grad():
        assert network(torch.rand(2, 3, *size) * 255).shape == (2, 4, *size)


def test_the_size_of_the_network(network):
    assert sum(p.numel() for p in network.parameters()) == 379079


def test_every_parameter_learns():
    network = SmallEdgeNet(widths=(8, 8, 8, 8), decoder=8)
    network(torch.rand(2, 3, 32, 32) * 255).square().sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_a_pixel_of_the_result_answers_to_its_own_place(network):
    """The four pixels of a block come from four channels: shuffled wrongly, the answer would lie beside the cause."""
    torch.manual_seed(0)
    small = SmallEdgeNet(widths=(8, 8, 8, 8), decoder=8).eval()
    image = torch.full((1, 3, 64, 64), 120.0, requires_grad=True)
    small(image)[0, -1, 40, 23].backward()
    weight = image.grad.abs().sum((0, 1))
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    near = (y - 40).abs().maximum((x - 23).abs()) <= 8
    assert weight[near].mean() > 3 * weight[~near].mean()


def test_state_dict_survives_half_precision(network, tmp_path):
    torch.save({k: v.half() if v.is_floating_point() else v for k, v in network.state_dict().items()}, tmp_path / "w")
    other = SmallEdgeNet().eval()
    other.load_state_dict(torch.load(tmp_path / "w", weights_only=True))
    image = torch.rand(1, 3, 40, 40) * 255
    with torch.no_grad():
        assert (other(image).sigmoid() - network(image).sigmoid()).abs().max() < 0.02
