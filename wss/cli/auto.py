"""``wss run auto``: choose a pipeline for the data set, and give the reasons."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wss.cli.session import Session

NAME = "auto"


def chosen(session: Session, changes: dict[str, Any], budget: str | None) -> tuple[str, dict[str, Any]]:
    """Choose a pipeline, print the reason, and write it to ``auto.yaml`` in the workspace.

    Args:
        session: The running command.
        changes: Changes from the command line. ``features.weights`` names DINOv2's weights.
        budget: Time of the whole run, for the description.

    Returns:
        The pipeline file, and the changes that still apply to it.
    """
    import yaml

    from wss.networks.weights import downloaded
    from wss.pipeline.auto import choose, document, look
    from wss.store.atomic import write_text

    dataset = session.dataset()
    given = changes.get("features", {}).get("weights")
    cached = downloaded("dinov2", "dinov2_vits14")
    facts = look(dataset, str(given) if given else "dinov2" if cached else None)
    rule, own = choose(facts)
    say = session.terminal.say
    for line in facts.lines():
        say(line)
    say(f"chosen: {rule.pipeline}, for {rule.when}")
    say(f"why: {rule.why}")
    if facts.weights is None and not facts.grey and not facts.volumes and facts.annotation == "scribbles":
        say(
            "with the weights of DINOv2, pce-features would be chosen: --set features.weights=FILE (or dinov2 to download them)"
        )
    left = dict(changes)
    if rule.pipeline != "pce-features" and left.pop("features", None):
        say("features.weights is not read: the chosen pipeline has no stage features")
    path = session.workspace.root / "auto.yaml"
    text = yaml.safe_dump(document(rule, facts, own, budget), sort_keys=False, allow_unicode=True, width=120)
    write_text(path, text)
    say(f"written: {path}, a pipeline that can be edited and run: wss run {path}")
    return str(path), left
