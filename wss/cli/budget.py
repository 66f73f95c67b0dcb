"""``--budget``: training for a given time. The number of steps is measured once and then stays the same."""

from __future__ import annotations

import hashlib
import math
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wss.cli.session import Session
    from wss.pipeline.spec import Pipeline

RESERVED = 0.1
"""Fraction of the time that is reserved for scores and the report."""
TOO_SHORT = (
    "--budget {budget} is too short for the stages before and after the training and one step of each phase; "
    "give at least {least}s"
)
"""Error message for a time that is too short. ``wss draw`` reads the least time in it."""


def within(session: Session, pipeline: Pipeline, budget: str) -> dict[str, dict[str, Any]]:
    """Numbers of training steps with which a whole pipeline takes about the given time.

    Stages before the first training run now, and their time counts. A step of each phase of the first training is measured. Later
    trainings are assumed to need the same time per step. The result is stored in the workspace, so the same command uses the same
    numbers of steps again, resumes, and skips finished stages.

    Args:
        session: The running command.
        pipeline: The pipeline to run.
        budget: A time, see ``parse_budget``.

    Returns:
        Changes to the trainings' phases, by stage id.

    Raises:
        UsageError: ``budget`` is not a time or too short, the pipeline has no training, or several processes share the work.
    """
    from wss.distributed import world_size
    from wss.errors import UsageError
    from wss.params import canonical
    from wss.pipeline.budget import TooShortError, fitted, parse_budget, step_seconds
    from wss.pipeline.protocol import protocols
    from wss.stages.stage import Inputs
    from wss.stages.train_params import TrainParams
    from wss.store import canonical_json
    from wss.training.loop import total_steps

    seconds = parse_budget(budget)
    trainings = {name: node for name, node in pipeline.nodes.items() if isinstance(node.params, TrainParams)}
    if not trainings:
        raise UsageError(f"--budget: pipeline {pipeline.name} trains no network")
    if world_size() > 1:
        raise UsageError("--budget measures in one process; measure there first, then start this command with torchrun")
    of = {name: canonical(node.params) for name, node in trainings.items()}
    place = hashlib.sha256(
        canonical_json([pipeline.name, budget, of, str(session.context.device)]).encode()
    ).hexdigest()
    before = session.workspace.state().get("budget") or {}
    if place in before:
        session.terminal.say(f"--budget {budget}: {_told(before[place])}, as measured before")
        return dict(before[place])
    begin = time.monotonic()
    first = next(iter(trainings.values()))
    assert isinstance(first.params, TrainParams)
    outcomes = session.run(pipeline.up_to(*(i for ids in first.inputs.values() for i in ids)))
    inputs = Inputs({role: tuple(outcomes[i].store for i in ids) for role, ids in first.inputs.items()})
    session.terminal.say("--budget: measuring steps")
    measured = [step_seconds(first.params, phase, inputs, session.context) for phase in first.params.phases]
    known = session.catalogues(pipeline)
    images = {name: rows["images"] for name, rows in protocols(pipeline, known).items() if name in trainings}
    held_out = len(known[first.id].splits.get("val", ()))
    left = seconds * (1 - RESERVED) - (time.monotonic() - begin) - held_out * max(measured) / first.params.batch_size
    usual: dict[str, float] = {}
    costs: dict[str, list[float]] = {}
    for name, node in trainings.items():
        params = node.params
        assert isinstance(params, TrainParams)
        costs[name] = measured if node is first else [max(measured)] * len(params.phases)
        counts = [total_steps(images[name], min(params.batch_size, images[name]), [phase]) for phase in params.phases]
        usual[name] = sum(count * each for count, each in zip(counts, costs[name], strict=True))
    changes: dict[str, dict[str, Any]] = {}
    for name, node in trainings.items():
        assert isinstance(node.params, TrainParams)
        share = usual[name] / sum(usual.values())
        try:
            phases = fitted(node.params, images[name], costs[name], left * share)
        except TooShortError as error:
            least = 1.25 * (seconds + error.missing / share / (1 - RESERVED))  # with a margin, since measurements vary
            raise UsageError(TOO_SHORT.format(budget=budget, least=math.ceil(least))) from None
        changes[name] = {"phases": {str(number): {"steps": phase.steps} for number, phase in enumerate(phases)}}
    session.workspace.remember("budget", {**before, place: changes})
    per_step = ", ".join(f"{each:.2f}" for each in measured)
    session.terminal.say(f"--budget {budget}: {_told(changes)} ({per_step} s a step)")
    return changes


def _told(changes: dict[str, dict[str, Any]]) -> str:
    """The numbers of steps of each training, as text."""
    return ", ".join(
        f"{name} {' + '.join(str(phase['steps']) for phase in params['phases'].values())} steps"
        for name, params in changes.items()
    )
