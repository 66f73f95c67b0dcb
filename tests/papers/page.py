"""The page on the papers (``docs/papers.md``) as data: commands, and what is said of each.

Commands stand in code blocks, indented by four spaces or fenced, and may go on behind a backslash at the end of a line. Between
a block and the next block or heading stand the claims about its commands, each a line of a name, a colon and a list with commas,
which may go on behind a comma at the end of a line::

        wss run study-losses -w voc --preset voc2012-networks

    - rows: msc-largefov, vgg16, resnet101
    - columns: pce, ncut, densecrf, kernelcut, dense
    - split: trainaug
    - networks: deeplab-msc-largefov vgg16, deeplab-vgg16 vgg16, deeplab-v2 resnet101 +0.5 +0.75
    - lengths: 20000 steps, 10000 steps, 20000 + 10000 steps
    - shows: Regularised losses, NC gradient

``rows`` and ``columns`` are the levels in a table of the study's report; another ``rows`` begins another table. ``values`` are
what a table shows where that is not mIoU alone. A pipeline that is no study has one table, whose rows are the ids of its stages
``evaluate``. Every such table must be told of once at least, in any of the places where its command stands; other tables of the
report may be.

``split``, ``networks`` (with backbone and further scales) and ``lengths`` (the phases of a training, joined by +) are those of
all trainings, each named once. ``shows`` are captions and headings of the report. These may be left out. Order does not
matter. All other lines are prose, and so is everything about commands other than ``wss run``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.papers.harness import Plan
from wss.viz.study import level_text

OF_TABLES = ("rows", "columns", "values")
OF_TRAININGS = ("split", "networks", "lengths")
_CLAIM = re.compile(rf"\s*(?:[-*] )?({'|'.join((*OF_TABLES, *OF_TRAININGS, 'shows'))}): *(.+?)\s*")

Table = dict[str, list[str]]
"""Names by ``rows``, ``columns`` and ``values``; the latter two only where there are some."""


@dataclass
class Claims:
    """What is said of one command.

    Attributes:
        tables: Of its report.
        trainings: Names by ``split``, ``networks`` and ``lengths``.
        shows: Words of its report.
    """

    tables: list[Table] = field(default_factory=list)
    trainings: dict[str, list[str]] = field(default_factory=dict)
    shows: list[str] = field(default_factory=list)


def read_page(text: str) -> dict[str, Claims]:
    """The commands ``wss run`` of a page, with the claims about each.

    Raises:
        ValueError: A claim without a command, or columns without rows before them.
    """
    page: dict[str, Claims] = {}
    about: list[str] | None = None
    first_table = True
    for kind, content in _parts(text):
        if kind == "heading":
            about = None
        elif kind == "block":
            about = [line for line in content if line.startswith("wss run ")]
            page |= {command: Claims() for command in about if command not in page}
            first_table = True
        elif (match := _CLAIM.fullmatch(content[0])) is not None:
            if about is None:
                raise ValueError(f"no command before: {content[0]}")
            name, names = match[1], [each.strip() for each in match[2].split(",")]
            if name in ("columns", "values") and first_table and about:
                raise ValueError(f"rows come before: {content[0]}")
            first_table &= name != "rows"
            for command in about:
                _add(page[command], name, names)
    return page


def _add(claims: Claims, name: str, names: list[str]) -> None:
    if name in OF_TRAININGS:
        claims.trainings[name] = names
    elif name == "shows":
        claims.shows += names
    elif name == "rows":
        claims.tables.append({name: names})
    else:
        claims.tables[-1][name] = names


def _parts(text: str) -> Iterator[tuple[str, list[str]]]:
    """Code blocks with their commands, each on one line, and the lines outside, one by one."""
    block: list[str] = []
    fenced = False
    for line in [*_whole(text.splitlines()), ""]:
        if line.startswith("```"):
            if fenced:
                yield "block", _commands(block)
                block = []
            fenced = not fenced
        elif fenced or line.startswith("    "):
            block.append(line.strip())
        else:
            if block:
                yield "block", _commands(block)
                block = []
            if line.strip():
                yield ("heading" if line.startswith("#") else "line"), [line]


def _whole(lines: Iterable[str]) -> Iterator[str]:
    """Lines, with the rest of a claim that ends with a comma in the same line."""
    open_claim = ""
    for line in lines:
        together = f"{open_claim} {line.strip()}" if open_claim else line
        open_claim = together if together.endswith(",") and _CLAIM.fullmatch(together) else ""
        if not open_claim:
            yield together
    if open_claim:
        yield open_claim


def _commands(block: Iterable[str]) -> list[str]:
    return [" ".join(line.split()) for line in "\n".join(block).replace("\\\n", " ").split("\n")]


def facts(plan: Plan) -> Claims:
    """What is true of a command, from its plan."""
    scores = plan.of("evaluate")
    (report,) = plan.of("report").values()
    found = Claims([_table(study, scores) for study in report["params"]["studies"]])
    if not found.tables:
        found.tables = [{"rows": list(scores)}]
    protocols = [row["protocol"] for row in plan.of("train").values()]
    found.trainings = {
        "split": _unique(protocol["split"] for protocol in protocols),
        "networks": _unique(_network(protocol["network"]) for protocol in protocols),
        "lengths": _unique(_length(protocol["phases"]) for protocol in protocols),
    }
    return found


def _table(study: Mapping[str, Any], scores: Mapping[str, Any]) -> Table:
    """Levels of the runs that enter a table, which have its factors and the levels that it asks for."""
    factors = [row["params"]["factors"] for row in scores.values()]
    wanted = [study[name] for name in ("rows", "columns") if study[name] is not None]
    factors = [levels for levels in factors if all(name in levels for name in wanted)]
    factors = [levels for levels in factors if all(levels.get(n, v) == v for n, v in study["where"].items())]
    table = {
        name: _unique(level_text(levels[study[name]]) for levels in factors)
        for name in ("rows", "columns")
        if study[name] is not None
    }
    return table if study["values"] == ["miou"] else {**table, "values": list(study["values"])}


def _network(spec: Mapping[str, Any]) -> str:
    return " ".join(
        [*(spec[name] for name in ("name", "backbone") if spec[name]), *(f"+{s:g}" for s in spec["multi_scale"])]
    )


def _length(phases: Sequence[Mapping[str, Any]]) -> str:
    each = [(phase["steps"], "steps") if phase["epochs"] is None else (phase["epochs"], "epochs") for phase in phases]
    if len({unit for _, unit in each}) == 1:
        return f"{' + '.join(str(number) for number, _ in each)} {each[0][1]}"
    return " + ".join(f"{number} {unit}" for number, unit in each)


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def untrue(claims: Claims, true: Claims) -> Iterator[str]:
    """Tables of factors that the page does not tell of, and claims about trainings that are not true."""
    for table in true.tables:
        if not any(_alike(table, said) for said in claims.tables):
            others = [_listed(said) for said in others_of(claims, true)]
            yield f"the page does not tell of the table with {_listed(table)}" + (
                f", but of {others}" if others else ""
            )
    for name, said in claims.trainings.items():
        if sorted(said) != sorted(true.trainings[name]):
            yield f"{_listed({name: said})} is not true; it is {_listed({name: true.trainings[name]})}"


def others_of(claims: Claims, true: Claims) -> list[Table]:
    """The tables on the page that are none of factors."""
    return [said for said in claims.tables if not any(_alike(table, said) for table in true.tables)]


def _alike(one: Table, other: Table) -> bool:
    return {name: sorted(names) for name, names in one.items()} == {n: sorted(names) for n, names in other.items()}


def _listed(entries: Mapping[str, Sequence[str]]) -> str:
    return "; ".join(f"{name}: {', '.join(names)}" for name, names in entries.items())


def as_text(claims: Claims) -> str:
    """Claims as they stand on the page."""
    entries = [pair for table in claims.tables for pair in table.items()] + list(claims.trainings.items())
    entries += [("shows", claims.shows)] if claims.shows else []
    return "\n".join(f"- {_listed({name: names})}" for name, names in entries)
