"""The method that has a pipeline for each kind of annotation: which one `wss train --method spml` takes."""

from wss.cli.console import Terminal
from wss.cli.session import Session
from wss.pipeline.workspace import Workspace


def test_the_pipeline_is_that_of_the_prepared_annotation(tmp_path):
    session = Session(tmp_path, Terminal(quiet=True))
    assert session.named("spml") == "spml-scribble"
    Workspace(tmp_path).remember("prepare", {"annotation": "scribble", "shrink": 0.5})
    assert session.named("spml") == "spml-scribble"
    assert session.named("spml-scribble") == "spml-scribble"
    for annotation in ("point", "box", "tag"):
        Workspace(tmp_path).remember("prepare", {"annotation": annotation})
        assert session.named("spml") == f"spml-{annotation}"
    Workspace(tmp_path).remember("prepare", {"annotation": "mask"})
    assert session.named("spml") == "spml"  # which is no pipeline, and said to be none
    assert session.named("pce") == "pce"
