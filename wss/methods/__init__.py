"""Methods, one file per paper: its network, its loss terms and its extra inputs."""

from typing import TYPE_CHECKING, Annotated, Union

from pydantic import Field

from wss.methods.bpg import Bpg
from wss.methods.classifier import Classifier
from wss.methods.crf_adm import CrfAdm
from wss.methods.crf_rnn import CrfRnn
from wss.methods.cross_entropy import CrossEntropyMethod, Dense, PartialCrossEntropy
from wss.methods.dmpls import Dmpls
from wss.methods.gated_crf import GatedCRF
from wss.methods.mean_teacher import MeanTeacher
from wss.methods.method import Batch, Method, Phase
from wss.methods.proposals import GrabCut, RandomWalk, ScribbleSup
from wss.methods.rawks import Rawks
from wss.methods.regularised_losses import DenseCRF, KernelCut, NormalizedCut
from wss.methods.rw_ss import RwSs
from wss.methods.sec import Sec
from wss.methods.segmenter import Segmenter
from wss.methods.spml import Spml
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

if TYPE_CHECKING:
    AnyMethod = Method
else:
    AnyMethod = Annotated[Union[METHODS], Field(discriminator="name")]  # noqa: UP007 - of a tuple
"""The ``method`` parameter of the train stage: settings of one method, chosen by its ``name``."""

__all__ = ["METHODS", "AnyMethod", "Batch", "CrossEntropyMethod", "Method", "Phase", "Segmenter"]
