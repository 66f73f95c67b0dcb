"""Pipelines that go on from partial cross-entropy differ from its pipeline in the second phase only."""

import pytest

from wss.methods import CrfAdm, CrfRnn, DenseCRF, KernelCut, NormalizedCut
from wss.pipeline.spec import find_pipeline, load_pipeline
from wss.stages.train_params import TrainParams


@pytest.mark.parametrize(
    ("kind", "terms"),
    [
        (CrfAdm, {"pce", "adm", "densecrf"}),
        (CrfRnn, {"crf"}),
        (DenseCRF, {"pce", "densecrf"}),
        (KernelCut, {"pce", "kernelcut"}),
        (NormalizedCut, {"pce", "ncut"}),
    ],
)
def test_pipeline_is_that_of_pce_with_a_second_phase(kind, terms):
    name = kind.model_fields["name"].default
    baseline, pipeline = load_pipeline(find_pipeline("pce")), load_pipeline(find_pipeline(name))
    assert list(pipeline.nodes) == list(baseline.nodes)
    ours, theirs = pipeline.nodes["train"].params, baseline.nodes["train"].params
    assert isinstance(ours, TrainParams)
    assert isinstance(ours.method, kind)
    assert ours.phases[:1] == theirs.phases
    assert set(ours.phases[1].terms) == terms
    assert ours.phases[1].lr < theirs.phases[0].lr
    same = {"network", "batch_size", "augment", "split"}
    assert ours.model_dump(include=same) == theirs.model_dump(include=same)


def test_the_crf_loss_of_adm_is_recorded_and_does_not_train():
    (_, phase) = load_pipeline(find_pipeline("crf-adm")).nodes["train"].params.phases
    assert phase.terms["densecrf"] == 0
