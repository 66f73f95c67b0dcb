"""``wss pipelines`` and ``wss methods``."""

from __future__ import annotations

from wss.cli import options


def pipelines(as_json: options.Json = False) -> None:
    """List the pipelines that come with wss, and the presets for them."""
    from wss.cli.console import Terminal
    from wss.pipeline.presets import load_preset, shipped_presets
    from wss.pipeline.spec import load_pipeline, shipped_pipelines

    terminal = Terminal(as_json=as_json)
    loaded = [load_pipeline(path) for path in shipped_pipelines().values()]
    rows = [
        {"name": p.name, "kind": "pipeline", "title": p.title, "description": p.description, "stages": list(p.nodes)}
        for p in loaded
    ]
    presets = [(name, load_preset(name).title) for name in shipped_presets()]

    def render() -> None:
        terminal.table("", ["pipeline", "what it does"], [(p.name, p.title) for p in loaded])
        terminal.table("", ["preset", "settings for"], presets)

    terminal.result([*rows, *({"name": name, "kind": "preset", "title": title} for name, title in presets)], render)


def methods(as_json: options.Json = False) -> None:
    """List the training methods and their loss terms."""
    from wss.cli.console import Terminal
    from wss.methods import METHODS

    terminal = Terminal(as_json=as_json)
    rows = [
        {
            "name": m.model_fields["name"].default,
            "summary": m.summary,
            "terms": sorted(m.term_names),
            "needs": sorted(m.needs),
        }
        for m in METHODS
    ]
    terminal.result(
        rows,
        lambda: terminal.table(
            "",
            ["method", "what it does", "loss terms"],
            [(r["name"], r["summary"], ", ".join(r["terms"])) for r in rows],
        ),
    )
