"""The report of a study: factors from the pipeline to the tables, and pictures that stages make."""

from __future__ import annotations

import textwrap
from dataclasses import replace

import pytest

from wss.errors import UsageError
from wss.pipeline.changes import parse_overrides
from wss.pipeline.run import run_pipeline
from wss.pipeline.spec import load_pipeline
from wss.pipeline.workspace import Workspace
from wss.stages.stage import Context

DATASET = {"kind": "sample", "options": {"train": 2, "val": 4, "height": 32, "width": 32}}
STUDY = """
    title: Shorter scribbles
    factors:
      length: {0: {shrink: 1}, 1: {shrink: 0}}
      seed: [0, 1]
    stages:
      - stage: samples
      - {id: "prepare-${length}", stage: prepare, each: length, inputs: {samples: samples}, params: {shrink: "${length.shrink}"}}
      - {id: prepare-full, stage: prepare, inputs: {samples: samples}, params: {annotation: mask}}
      - id: train-${length}-${seed}
        stage: train
        each: [length, seed]
        inputs: {samples: samples, labels: "prepare-${length}"}
        params: {method: {name: pce}, seed: "${seed}", phases: [{epochs: 1, terms: {pce: 1}}]}
      - id: train-full
        stage: train
        inputs: {samples: samples, labels: prepare-full}
        params: {method: {name: pce}, phases: [{epochs: 1, terms: {pce: 1}}]}
      - id: predict-${length}-${seed}
        stage: predict
        each: [length, seed]
        inputs: {samples: samples, model: "train-${length}-${seed}"}
      - {id: predict-full, stage: predict, inputs: {samples: samples, model: train-full}}
      - {stage: crf, inputs: {samples: samples, predictions: predict-1-0}, params: {iterations: 1}}
      - id: evaluate-${length}-${seed}
        stage: evaluate
        each: [length, seed]
        inputs: {samples: samples, predictions: "predict-${length}-${seed}"}
        params: {factors: {loss: pce, length: "${length}"}}
      - id: evaluate-full
        stage: evaluate
        inputs: {samples: samples, predictions: predict-full}
        params: {factors: {loss: full}}
      - id: evaluate-crf
        stage: evaluate
        inputs: {samples: samples, predictions: crf}
        params: {factors: {loss: pce, length: 1}}
      - {stage: gradients, inputs: {samples: samples, predictions: predict-1-0}, params: {images: 2}}
      - stage: report
        inputs:
          samples: samples
          labels: prepare-1
          models: [train-*]
          predictions: [predict-*, crf]
          metrics: [evaluate-*]
          pictures: gradients
        params:
          pictures: 1
          studies: [{title: The lengths, rows: length, columns: loss, values: [miou, loss], baseline: 1}]
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Runs the study, with changes, in one workspace; returns the outcomes."""
    folder = tmp_path_factory.mktemp("study")
    (folder / "study.yaml").write_text(textwrap.dedent(STUDY))

    def run(*settings, inputs=None):
        pipeline = load_pipeline(folder / "study.yaml", parse_overrides(settings), {"dataset": DATASET})
        report = pipeline.nodes["report"]
        report = replace(report, inputs={**report.inputs, **(inputs or {})})
        pipeline = replace(pipeline, nodes={**pipeline.nodes, "report": report})
        return run_pipeline(pipeline, Workspace(folder), Context())

    return run


def _page(outcomes):
    return outcomes["report"].store.array("html").tobytes().decode()


def test_factors_lead_from_the_pipeline_to_a_table(study):
    outcomes = study()
    page = _page(outcomes)
    assert outcomes["evaluate-0-1"].store.meta["factors"] == {"loss": "pce", "length": 0.0}
    assert "The lengths" in page
    for name in (
        "loss pce, length 0, seed 1",
        "loss pce, length 1, seed 0",
        "loss pce, length 1, seed 0 + CRF",
        "loss full",
    ):
        assert f">{name}<" in page, name
    scores = [outcomes[f"evaluate-0-{seed}"].store.meta["record"]["miou"] for seed in (0, 1)]
    table = page.split("The lengths")[1].split("</table>")[0]
    assert f"{50 * sum(scores):.1f}%" in table
    losses = [outcomes[f"train-0-{seed}"].store.log["epochs"][-1]["loss"] for seed in (0, 1)]
    assert f"{sum(losses) / 2:.2f}" in table
    assert "full supervision" in table


def test_walks_at_test_time_have_their_own_name_and_are_not_averaged_with_others(study):
    walk = [f"predict-{length}-{seed}.test_time.walk=true" for length in (0, 1) for seed in (0, 1)]
    page = _page(study(*walk))
    for name in ("loss pce, length 0, seed 1 + walk", "loss pce, length 1, seed 0 + walk + CRF", "loss full"):
        assert f">{name}<" in page, name
    assert "single scale + walk" in page
    page = _page(study(walk[0]))
    assert "<strong>The lengths</strong> is left out" in page
    assert "differ in &#39;walk&#39; (walk (stride 8, scale 5, alpha 0.5), no walk)" in page
    columns = "report.studies=[{title: The gain, rows: walk, columns: length}]"
    page = _page(study(walk[0], columns))
    assert "no walk" in page.split("The gain")[1].split("</table>")[0]


def test_images_with_further_pictures_are_preferred(study):
    outcomes = study()
    page = _page(outcomes)
    shown = [image_id for image_id in outcomes["predict-1-0"].store.ids if f"<code>{image_id}</code>" in page]
    illustrated = outcomes["gradients"].store.ids
    assert len(illustrated) == 2
    assert set(illustrated) <= set(shown)
    assert page.count("Gradients with respect to the segment") >= 2
    assert "From the best third" in page
    with_fewer = _page(study("gradients.images=1"))
    assert with_fewer.count('alt="NC gradient') == 1


def test_a_model_trained_again_with_the_same_result_is_found(study):
    before = study()
    after = study("train-1-0.validate_every=0", "report.title=Again")
    assert after["train-1-0"].store.key != before["train-1-0"].store.key
    assert after["predict-1-0"].skipped
    assert after["evaluate-crf"].skipped
    assert "loss pce, length 1, seed 0 + CRF" in _page(after)


def test_the_model_behind_must_be_among_the_inputs(study):
    with pytest.raises(UsageError, match=r"the predictions or the model behind .* are not among the inputs"):
        study(inputs={"models": ["train-0-0"]})


def test_factors_make_another_artifact(study):
    one, other = (study(f"evaluate-full.factors={{loss: {name}}}")["evaluate-full"].store for name in ("full", "dense"))
    assert one.key != other.key


def test_without_studies_all_is_as_before(study):
    page = _page(study("report.studies=[]"))
    assert 'href="#studies"' not in page
    assert "loss pce, length 0, seed 1" in page


def test_a_study_of_unknown_factors_is_refused(study):
    with pytest.raises(UsageError, match="study 'x': no run has the factors lenght; runs have: length, loss"):
        study("report.studies=[{title: x, rows: lenght}]")
    with pytest.raises(UsageError, match=r"unknown parameter 'studies\.0\.row'"):
        study("report.studies=[{title: x, rows: length, row: length}]")
