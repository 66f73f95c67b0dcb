"""Parameters of the stage ``train``."""

from __future__ import annotations

from pydantic import Field, model_validator

from wss.methods import METHODS, AnyMethod, Phase
from wss.networks import NetworkSpec
from wss.params import LATER, LOCAL, Params, nearest
from wss.precision import Amp
from wss.training.augment import AugmentParams
from wss.training.deep_supervision import supervised_weight

LARGEST_WHOLE_PX = 512


LARGEST_CROP_PX = 321


class TrainParams(Params):
    """Method, network, phases and data of one training run."""

    method: AnyMethod
    """Training method and its settings, chosen by ``name``."""
    network: NetworkSpec = NetworkSpec()
    """Network architecture."""
    weights: str | None = Field(default=None, json_schema_extra=LOCAL)
    """Initial weights of the backbone: a state dict file, ``imagenet`` (downloaded), or None for random weights. Not read if
    training continues from the input ``initial``."""
    fresh: tuple[str, ...] = Field(default=(), json_schema_extra=LATER)
    """Parts that start from new random weights when training continues from the input ``initial``. Each entry is a prefix of the
    names of weights (``classifier``)."""
    phases: tuple[Phase, ...] = Field(min_length=1)
    """Training phases, in order."""
    batch_size: int = Field(default=8, ge=1)
    """Number of images per step, over all processes of a run together."""
    augment: AugmentParams = AugmentParams()
    """Augmentations. If neither ``crop`` nor ``resize`` nor ``whole`` is set: images of one size, at most 512 pixels a side, are
    used whole; other images are cropped to 321x321. Methods that learn from image tags use whole images resized to 321x321
    instead, because a crop may lack a tagged class. ``augment.whole`` always uses whole images, also of different sizes."""
    split: str = "train"
    """Split on whose images the network is trained."""
    validation_split: str | None = "val"
    """Split whose images are scored during training, only for the curve. None: no images are scored."""
    validation_images: int = Field(default=64, ge=1)
    """Maximum number of validation images, evenly spread over the split. They are predicted at a single scale."""
    train_images: int = Field(default=0, ge=0, json_schema_extra=LATER)
    """Maximum number of training images with masks that are scored in the same way, for the curve ``train_miou``. 0: none. The
    curve shows how far the network is from the masks of its own training images, even if the loss is low."""
    validate_every: int = Field(default=5, ge=0)
    """Number of epochs between validations (of training images too). Each phase also ends with a validation. 0: never."""
    amp: Amp = "auto"
    """Autocast to bfloat16. ``auto``: only if a short measurement shows that it is faster on this machine."""
    average: float = Field(default=0.0, ge=0, lt=1, json_schema_extra=LATER)
    """Decay of an exponential moving average of the weights, over about 1 / (1 - average) steps. The average is stored and
    scored. Larger: a longer average. 0: no average, the weights of the last step are stored."""
    channels_last: bool = True
    """Use the memory format ``torch.channels_last`` for images and weights."""
    compile: bool = False
    """Compile the network with ``torch.compile``. Only for a single process."""
    seed: int = Field(default=0, ge=0)
    """Random seed of initial weights, order of images, augmentation and dropout."""

    @model_validator(mode="after")
    def _known_terms(self) -> TrainParams:
        for phase in self.phases:
            for term in phase.terms:
                if term not in self.method.term_names:
                    raise ValueError(
                        f"method {self.method.name!r} has no loss term {term!r}{nearest(term, self.method.term_names)}"
                    )
        return self

    @model_validator(mode="after")
    def _agreeing_phases(self) -> TrainParams:
        self.method.check_phases(self.phases)
        return self

    @model_validator(mode="after")
    def _deep_supervision(self) -> TrainParams:
        if not self.network.deep_supervision:
            return self
        if not any(supervised_weight(self.method, phase) for phase in self.phases):
            terms = " or ".join(sorted(self.method.supervised_terms & self.method.term_names))
            why = (
                f"no phase has its term {terms}"
                if terms
                else "this method does not train any output of the network on labelled pixels"
            )
            raise ValueError(f"method {self.method.name!r} cannot use network.deep_supervision: {why}; leave it out")
        if self.compile:
            raise ValueError("network.deep_supervision and compile cannot be combined; leave one out")
        return self

    @model_validator(mode="after")
    def _several_scales(self) -> TrainParams:
        if self.network.multi_scale and not self.method.multi_scale:
            able = [method.model_fields["name"].default for method in METHODS if method.multi_scale]
            raise ValueError(
                f"method {self.method.name!r} needs one set of logits, but network.multi_scale gives several; leave it out, or "
                f"choose one of {', '.join(able)}"
            )
        return self
