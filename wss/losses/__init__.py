"""Loss terms, one per file.

Examples:
    >>> import torch, wss
    >>> photo = wss.sample(3)
    >>> image = torch.from_numpy(photo.image).permute(2, 0, 1)[None].float()  # (1,3,96,128), 0..255
    >>> scribble = torch.from_numpy(photo.scribble)[None].long()  # (1,96,128), 255 = unlabelled
    >>> logits = torch.zeros(1, 7, 96, 128, requires_grad=True)
    >>> fit = wss.losses.partial_cross_entropy(logits, scribble)
    >>> smooth = wss.losses.dense_crf_loss(logits.softmax(1), image, sigma_rgb=15, sigma_xy=100)
    >>> (fit + smooth).backward()
    >>> f"{fit.item():.4f}"  # log 7: all classes are equally likely
    '1.9459'
"""

from wss.losses.absent_classes import absent_class_loss
from wss.losses.boundary_regression import boundary_regression_loss
from wss.losses.constrain_to_boundary import constrain_to_boundary_loss
from wss.losses.dense_crf import dense_crf_loss
from wss.losses.dice import dice_loss
from wss.losses.edges import edge_loss
from wss.losses.expansion import expansion_loss
from wss.losses.feature_consistency import feature_consistency_loss
from wss.losses.gated_crf import gated_crf_loss
from wss.losses.kernel_cut import kernel_cut_loss
from wss.losses.maximum_entropy import maximum_entropy_loss
from wss.losses.mean import mean_over_batch
from wss.losses.normalized_cut import normalized_cut_loss
from wss.losses.partial_cross_entropy import partial_cross_entropy
from wss.losses.proposal import proposal_loss
from wss.losses.rawks import rawks_loss, uncertainty_weights
from wss.losses.segsort import segsort_loss
from wss.losses.transition_consistency import transition_consistency_loss
from wss.losses.tree_energy import tree_energy_loss, tree_targets

__all__ = [
    "absent_class_loss",
    "boundary_regression_loss",
    "constrain_to_boundary_loss",
    "dense_crf_loss",
    "dice_loss",
    "edge_loss",
    "expansion_loss",
    "feature_consistency_loss",
    "gated_crf_loss",
    "kernel_cut_loss",
    "maximum_entropy_loss",
    "mean_over_batch",
    "normalized_cut_loss",
    "partial_cross_entropy",
    "proposal_loss",
    "rawks_loss",
    "segsort_loss",
    "transition_consistency_loss",
    "tree_energy_loss",
    "tree_targets",
    "uncertainty_weights",
]
