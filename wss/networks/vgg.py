"""VGG16 with torchvision's parameter names, DeepLab's dilation, and fully connected layers as convolutions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from wss.errors import UsageError
from wss.networks.backbone import Backbone, OutputStride
from wss.networks.layers.convolution import initialise
from wss.networks.layers.dropout import Dropout

WIDTHS = (64, 128, 256, 512, 512)
DEPTHS = (2, 2, 3, 3, 3)
FC_WIDTH = 1024


class FullyConvolutional(nn.Module):
    """VGG16's first two fully connected layers, reduced to a dilated 3x3 and a 1x1 convolution with 1024 channels each.

    Args:
        dilation: Dilation of the 3x3 convolution.
        dropout: Dropout rate after each convolution.

    Source: Chen et al. 2015, arXiv:1412.7062, section 3.1, and the published network definitions.
    """

    def __init__(self, dilation: int, dropout: float) -> None:
        super().__init__()
        self.fc6 = nn.Conv2d(WIDTHS[-1], FC_WIDTH, 3, padding=dilation, dilation=dilation)
        self.fc7 = nn.Conv2d(FC_WIDTH, FC_WIDTH, 1)
        self.dropout = Dropout(dropout)

    def forward(self, features: Tensor) -> Tensor:
        """Features (B,512,h,w) to (B,1024,h,w)."""
        x = self.dropout(functional.relu(self.fc6(features)))
        output: Tensor = self.dropout(functional.relu(self.fc7(x)))
        return output


class VGG16(Backbone):
    """VGG16 without batch normalisation: 14.7 M parameters in its convolutions.

    The four feature maps are those of ``conv3_3``, ``conv4_3`` and ``conv5_3`` after their ReLU, and of ``pool5``.

    Args:
        output_stride: Stride of the last feature map. At 16 ``pool5`` loses its stride. At 8 (DeepLab's) ``pool4``
            loses its stride too, and the convolutions between the two are dilated. The parameters do not depend on it.
        num_classes: Number of classes of the image-level classifier, torchvision's ``classifier``; None has no
            classifier.
        dilations: Dilations of the ``FullyConvolutional`` branches in ``fc``, one branch each; see ``branches``.
        dropout: Dropout rate in these branches.

    Source: Simonyan and Zisserman 2015, arXiv:1409.1556, configuration D; Chen et al. 2015, arXiv:1412.7062, section 3.1.
    Differs: pooling is DeepLab's, 3x3 with one pixel of padding, not the classifier's 2x2. Cell i is centred on pixel 2
        i, and no row of an odd size is lost. As in DeepLab, ``pool5`` is not dilated if ``pool4`` has lost its stride.
    """

    def __init__(
        self,
        output_stride: OutputStride = 32,
        num_classes: int | None = None,
        dilations: Sequence[int] = (),
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.architecture = "vgg16"
        self.output_stride = output_stride
        self.channels = (256, 512, 512, 512)
        strides = (2, 2, 2, 2 if output_stride > 8 else 1, 2 if output_stride > 16 else 1)
        layers: list[nn.Module] = []
        self.stages: list[slice] = []
        before = 3
        for number, (width, depth, stride) in enumerate(zip(WIDTHS, DEPTHS, strides, strict=True)):
            dilation = 2 if number == 4 and output_stride == 8 else 1
            start = len(layers)
            for _ in range(depth):
                layers += [nn.Conv2d(before, width, 3, padding=dilation, dilation=dilation), nn.ReLU(inplace=True)]
                before = width
            self.stages.append(slice(start, len(layers)))
            layers.append(nn.MaxPool2d(3, stride, padding=1))
        self.features = nn.Sequential(*layers)
        self.classifier = None
        if num_classes is not None:
            self.classifier = nn.Sequential(
                nn.Linear(512 * 7 * 7, 4096),
                nn.ReLU(inplace=True),
                Dropout(0.5),
                nn.Linear(4096, 4096),
                nn.ReLU(inplace=True),
                Dropout(0.5),
                nn.Linear(4096, num_classes),
            )
        self.fc = nn.ModuleList(FullyConvolutional(dilation, dropout) for dilation in dilations)
        initialise(self)

    def stage_outputs(self, image: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Run the five stages on normalised images (B,3,H,W).

        Returns:
            For each stage the output of its last convolution after ReLU, and the output of its pooling.
        """
        convolved, pooled = [], []
        x = image
        for stage in self.stages:
            x = self.features[stage](x)
            convolved.append(x)
            x = self.features[stage.stop](x)
            pooled.append(x)
        return convolved, pooled

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """See ``Backbone.forward``."""
        convolved, pooled = self.stage_outputs(image)
        return convolved[2], convolved[3], convolved[4], pooled[4]

    def branches(self, features: Tensor) -> list[Tensor]:
        """Maps (B,1024,h,w), one per dilation, of the last feature map (B,512,h,w)."""
        return [branch(features) for branch in self.fc]

    def classify(self, image: Tensor) -> Tensor:
        """See ``Backbone.classify``."""
        if self.classifier is None:
            raise UsageError("vgg16 was built without a classifier; give num_classes")
        pooled = functional.adaptive_avg_pool2d(self(image)[-1], 7)
        logits: Tensor = self.classifier(pooled.flatten(1))
        return logits

    def adapt(self, state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
        """See ``Backbone.adapt``: ``fc6`` and ``fc7`` are subsampled from the classifier of torchvision's file.

        Every fourth of the 4096 filters is kept, and every third of the 7x7 taps in each direction. With a dilation of
        12 at stride 8 the taps have the positions of the classifier's taps at stride 32. All branches start with the
        same weights. If the file has no classifier, the branches stay random.

        Source: Chen et al. 2015, arXiv:1412.7062, section 3.1.
        """
        state = dict(state)
        if not self.fc or any(name.startswith("fc.") for name in state):
            return state, ()
        first, second = (
            [state.get(f"classifier.{place}.{leaf}", torch.empty(0)) for leaf in ("weight", "bias")] for place in (0, 3)
        )
        if first[0].shape != (4096, 512 * 7 * 7) or second[0].shape != (4096, 4096):
            own = self.state_dict()
            return {**state, **{name: own[name] for name in own if name.startswith("fc.")}}, ("fc6", "fc7")
        decimated = {
            "fc6.weight": first[0].view(4096, 512, 7, 7)[::4, :, ::3, ::3],
            "fc6.bias": first[1][::4],
            "fc7.weight": second[0][::4, ::4, None, None],
            "fc7.bias": second[1][::4],
        }
        for number in range(len(self.fc)):
            state |= {f"fc.{number}.{name}": value for name, value in decimated.items()}
        return state, ()
