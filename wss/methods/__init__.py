"""Methods, one file per paper: its network, its loss terms and its extra inputs."""

from typing import Annotated

from pydantic import Field

from wss.methods.bpg import Bpg
from wss.methods.classifier import Classifier, ClassMaps
from wss.methods.crf_adm import CrfAdm
from wss.methods.crf_rnn import CrfRnn
from wss.methods.cross_entropy import CrossEntropyMethod, Dense, PartialCrossEntropy
from wss.methods.dmpls import Dmpls, DualBranchSegmenter
from wss.methods.gated_crf import GatedCRF
from wss.methods.mean_teacher import MeanTeacher, TaughtSegmenter
from wss.methods.method import Batch, Method, Phase
from wss.methods.proposals import GrabCut, RandomWalk, ScribbleSup
from wss.methods.rawks import Rawks
from wss.methods.regularised_losses import DenseCRF, KernelCut, NormalizedCut
from wss.methods.rw_ss import RwSs, WalkingSegmenter
from wss.methods.sec import Sec
from wss.methods.segmenter import Segmenter
from wss.methods.spml import EmbeddingSegmenter, Spml
from wss.methods.tree_energy import TreeEnergy

METHODS: tuple[type[Method], ...] = (
    PartialCrossEntropy,
    Dense,
    DenseCRF,
    NormalizedCut,
    KernelCut,
    GatedCRF,
    TreeEnergy,
    CrfAdm,
    CrfRnn,
    Dmpls,
    MeanTeacher,
    Rawks,
    GrabCut,
    RandomWalk,
    ScribbleSup,
    Classifier,
    Sec,
    Bpg,
    RwSs,
    Spml,
)
"""Every method, in the order of ``wss methods``."""

AnyMethod = Annotated[
    PartialCrossEntropy
    | Dense
    | DenseCRF
    | NormalizedCut
    | KernelCut
    | GatedCRF
    | TreeEnergy
    | CrfAdm
    | CrfRnn
    | Dmpls
    | MeanTeacher
    | Rawks
    | GrabCut
    | RandomWalk
    | ScribbleSup
    | Classifier
    | Sec
    | Bpg
    | RwSs
    | Spml,
    Field(discriminator="name"),
]
"""The ``method`` parameter of the train stage: settings of one method, chosen by its ``name``."""

__all__ = [
    "METHODS",
    "AnyMethod",
    "Batch",
    "Bpg",
    "ClassMaps",
    "Classifier",
    "CrfAdm",
    "CrfRnn",
    "CrossEntropyMethod",
    "Dense",
    "DenseCRF",
    "Dmpls",
    "DualBranchSegmenter",
    "EmbeddingSegmenter",
    "GatedCRF",
    "GrabCut",
    "KernelCut",
    "MeanTeacher",
    "Method",
    "NormalizedCut",
    "PartialCrossEntropy",
    "Phase",
    "RandomWalk",
    "Rawks",
    "RwSs",
    "ScribbleSup",
    "Sec",
    "Segmenter",
    "Spml",
    "TaughtSegmenter",
    "TreeEnergy",
    "WalkingSegmenter",
]
