"""What tests of methods share: a batch of two images with a dark and a bright half, and a short training on it."""

import torch

from wss.methods import Batch
from wss.training.augment import AugmentParams
from wss.training.batches import TrainingSet
from wss.training.loop import Hooks, LoopSettings, fit


def two_halves(height=32, width=32, *, noise=40, padding=4, seed=0):
    """A scribble of class 0 in the dark half, of class 1 in the bright one; the second image ends in padding."""
    generator = torch.Generator().manual_seed(seed)
    rgb = (torch.rand(2, 3, height, width, generator=generator) * noise).round()
    rgb[:, :, :, width // 2 :] += 150
    labels = torch.full((2, height, width), 255)
    labels[:, 10:13, 2:10], labels[:, 10:13, -10:-2] = 0, 1
    valid = torch.ones(2, height, width, dtype=torch.bool)
    valid[1, :, width - padding :] = False
    labels[~valid] = 255
    return Batch(rgb, labels, valid, {})


def without_labels(batch, image):
    """The batch, one of its images unlabelled."""
    labels = batch.labels.clone()
    labels[image] = 255
    return Batch(batch.rgb, labels, batch.valid, batch.maps)


def train_on(batch, model, method, phases, *, amp=False):
    """Train on the two images whole, and return the log's rows."""
    torch.set_num_threads(1)
    images = batch.rgb.permute(0, 2, 3, 1).to(torch.uint8).numpy()
    labels = batch.labels.to(torch.uint8).numpy()
    whole = AugmentParams(crop=None, flip=0)
    data = TrainingSet(["0", "1"], lambda i: (images[int(i)], {"labels": labels[int(i)]}), whole, seed=0)
    hooks = Hooks(lambda: {}, lambda state: None, lambda rows: None, lambda n, note: None)
    settings = LoopSettings(batch_size=2, seed=0, device=torch.device("cpu"), validate_every=0, amp=amp)
    return fit(model, method, phases, data, settings, hooks)
