"""Losses and gradients of every method on one batch, in this process or, run as a script, in one of several."""

import contextlib
import sys

import torch

from wss import distributed
from wss.methods import (
    METHODS,
    Batch,
    Bpg,
    CrfAdm,
    DenseCRF,
    KernelCut,
    PartialCrossEntropy,
    RwSs,
    Sec,
    Spml,
)
from wss.networks import NetworkSpec

CLASSES = 4
HEIGHT, WIDTH = 24, 32
UNET = NetworkSpec(name="unet")
TRANSFORMER = NetworkSpec(name="segformer", backbone="mit_b0")  # whose one batch normalisation costs few messages
METHOD_CASES = {method.model_fields["name"].default: (method(), TRANSFORMER) for method in METHODS}
CASES = METHOD_CASES | {
    "unet": (PartialCrossEntropy(), UNET),
    "densecrf clamped, paper": (DenseCRF(variant="clamped", units="paper"), UNET),
    "densecrf on unlabelled images": (DenseCRF(images="unlabelled", scale=0.5), UNET),
    "kernelcut of two affinities": (KernelCut(nc_sigma_xy=20), UNET),
    "crf-adm kl": (CrfAdm(divergence="kl", clamp=False), UNET),
    "bpg all": (Bpg(boundary="all"), UNET),
    "rw-ss batchmean": (RwSs(reduction="batchmean", gamma=0.5), UNET),
    "rw-ss cosine": (RwSs(embed="cosine", scale=5, reduction="entries", gamma=0.5), UNET),
    "rw-ss after": (RwSs(location="after", transform="translation"), UNET),
    "sec reduced": (Sec(scale=0.5, backprop=False), UNET),
    "spml majority": (Spml(labels="majority", bank_batches=1), UNET),
    "deeplab-v3plus": (PartialCrossEntropy(), NetworkSpec(name="deeplab-v3plus", backbone="mobilenet_v2")),
    "pspnet": (PartialCrossEntropy(), NetworkSpec(name="pspnet", backbone="resnet18")),
    "vgg16": (PartialCrossEntropy(), NetworkSpec(name="deeplab-largefov", backbone="vgg16")),
    "scales": (
        PartialCrossEntropy(),
        NetworkSpec(name="deeplab-v2", backbone="mobilenet_v2", multi_scale=(0.5,), dropout=0.3),
    ),
}


def batch(step):
    """Four images with very different amounts of labels; in the second step half of them have none."""
    generator = torch.Generator().manual_seed(step)
    rgb = torch.randint(0, 256, (4, 3, HEIGHT // 4, WIDTH // 4), generator=generator).float()
    rgb = rgb.repeat_interleave(4, 2).repeat_interleave(4, 3)
    rgb = (rgb + torch.randint(0, 9, (4, 3, HEIGHT, WIDTH), generator=generator)).clamp(max=255)
    drawn = torch.randint(0, CLASSES, (4, HEIGHT, WIDTH), generator=generator)
    labels = torch.full((4, HEIGHT, WIDTH), 255)
    labels[0, :20] = drawn[0, :20]
    labels[2, 3:5, 4:9] = 2
    if step == 0:
        labels[3, 1, 1:4] = 1
    valid = torch.ones(4, HEIGHT, WIDTH, dtype=torch.bool)
    valid[2, :, 20:] = valid[3, 9:] = False
    labels[~valid] = 255
    rgb[~valid[:, None].expand_as(rgb)] = 0
    maps = {
        "edges": torch.rand(4, HEIGHT, WIDTH, generator=generator) * valid,
        "superpixels": torch.where(valid, (torch.arange(HEIGHT)[:, None] // 6 * 8 + torch.arange(WIDTH) // 4), -1),
    }
    tags = torch.tensor([[1, 1, 0, 1], [1, 0, 1, 0], [1, 0, 0, 0], [0, 1, 1, 1]], dtype=torch.bool)
    part = distributed.shard
    maps = {name: part(values) for name, values in maps.items()}
    images = part(rgb).contiguous(memory_format=torch.channels_last)
    return Batch(images, part(labels), part(valid), maps, part(tags), 0)


@contextlib.contextmanager
def double():
    """Compute in float64 what networks and methods convert to float32, so that rounding hides no mistake."""
    single = torch.Tensor.float
    torch.Tensor.float = torch.Tensor.double
    try:
        yield
    finally:
        torch.Tensor.float = single


@double()
def measure(case):
    """Values of the loss terms, gradients of their weighted sum, and statistics, over two steps with the same weights."""
    method, spec = CASES[case]
    torch.manual_seed(3)
    model = method.build(spec, CLASSES).double().to(memory_format=torch.channels_last)
    found = {}
    for step in range(2):
        terms = method.losses(model, batch(step), method.term_names)
        model.zero_grad()
        sum(terms[name] / (1 + number) for number, name in enumerate(sorted(terms))).backward()
        distributed.add_gradients(model.parameters())
        for name in sorted(terms):
            found[f"{step} {name}"] = distributed.all_reduce_sum(terms[name].detach().double())
        for name, parameter in model.named_parameters():
            if parameter.grad is not None:
                found[f"{step} {name}"] = parameter.grad.clone()
    return found | {name: value.clone() for name, value in model.named_buffers()}


if __name__ == "__main__":
    torch.set_num_threads(1)
    if distributed.join():
        torch.save({case: distributed.call_on_all(measure, case) for case in sys.argv[2:] or CASES}, sys.argv[1])
    else:
        distributed.follow()
    distributed.leave()
