"""All quick benchmarks one after another, and a table of the goals: which are met, which are missed, which were not measured.

    python benchmarks/quick.py                                   # or: make bench
    python benchmarks/quick.py --only mean_field --out bench.json

Each script runs with `--quick`, as a process of its own, and prints as it goes. Goals are ratios of CPU time to a named
alternative in the same process, or milliseconds of one thread. A ratio that is 15 % below that of the stored result of the
same size is reported: the code has become slower against its alternative, or the processor is another one. Nothing else
should run meanwhile. Goals against pydensecrf need `pip install pydensecrf2`. The demonstration and the three commands of the
README take longer and are measured by `python benchmarks/commands.py`; the tests by `make test`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SLOWER = 0.85
"""A ratio below this share of the stored one is reported."""


@dataclass(frozen=True)
class Goal:
    """A figure that a benchmark should reach.

    Attributes:
        script: Name of the benchmark.
        name: Of a ratio in its results, or of a variant whose CPU time counts.
        least: The ratio should be at least this; None for times.
        most_ms: The CPU time should be at most this; None for ratios.
    """

    script: str
    name: str
    least: float | None = None
    most_ms: float | None = None

    def measured(self, result: dict[str, Any]) -> float | None:
        """The figure in the first of a benchmark's results, or None."""
        first = result["results"][0]
        if self.least is not None:
            value = first["ratios"].get(self.name)
        else:
            value = first["times"].get(self.name, {}).get("cpu_ms")
        return None if value is None else float(value)

    def met(self, value: float) -> bool:
        """True if the figure reaches the goal."""
        return value >= self.least if self.least is not None else value <= (self.most_ms or 0)


GOALS = (
    Goal("bilateral", "pydensecrf / wss, filter (symmetric)", least=3.5),
    Goal("bilateral", "21 channels / 3 that occur", least=3),
    *(
        Goal("mean_field", f"pydensecrf / wss, {preset}", least=6)
        for preset in ("loss", "largefov", "msc", "sec", "vgg16", "resnet101")
    ),
    Goal("mean_field", "21 classes / 3 that occur, loss", least=3),
    Goal("hitting", "wss, native", most_ms=8),
    # Three times as fast as the lattice in torch of version 0.1, which took 8.3, 5.5 and 2 times as long as pydensecrf.
    Goal("torch_lattice", "build: pydensecrf / torch", least=0.36),
    Goal("torch_lattice", "filter, compat: pydensecrf / torch", least=0.55),
    Goal("torch_lattice", "mean-field: pydensecrf / torch", least=1.5),
)
SCRIPTS = ("bilateral", "mean_field", "hitting", "torch_lattice", "growth", "commands")


def run(script: str, folder: Path) -> dict[str, Any] | None:
    """Run one benchmark, whose output goes to the terminal, and read its results; None where it failed."""
    out = folder / f"{script}.json"
    print(f"\n== {script}.py --quick", flush=True)
    start = time.perf_counter()
    code = subprocess.run([sys.executable, HERE / f"{script}.py", "--quick", "--out", out]).returncode
    print(f"== {script}.py took {time.perf_counter() - start:.0f} s", flush=True)
    return None if code or not out.exists() else json.loads(out.read_text())


def rows(found: dict[str, dict[str, Any] | None]) -> list[dict[str, Any]]:
    """The goals of the scripts that ran, with what was measured."""
    table: list[dict[str, Any]] = []
    for goal in GOALS:
        if goal.script not in found:
            continue
        result = found[goal.script]
        value = None if result is None else goal.measured(result)
        wanted = f">= {goal.least:g}" if goal.least is not None else f"<= {goal.most_ms:g} ms"
        met = None if value is None else goal.met(value)
        table.append({"script": goal.script, "name": goal.name, "goal": wanted, "measured": value, "met": met})
    for script in ("growth", "commands"):  # which measure by the clock, and know their goals
        for name, row in (found.get(script) or {}).get("goals", {}).items():
            goal = f"<= {row['goal']:g}" + (" s" if script == "commands" else "")
            table.append({"script": script, "name": name, "goal": goal, "measured": row["ratio"], "met": row["met"]})
    return table


def slower(found: dict[str, dict[str, Any] | None], stored: Path) -> list[str]:
    """Ratios that fell by more than 15 % against the newest stored result of the same script, size and threads."""
    told = []
    for script, result in found.items():
        if result is None or "results" not in result:
            continue
        first = result["results"][0]
        files = sorted(stored.glob(f"{script.replace('_', '-')}-*.json"), key=lambda path: path.stat().st_mtime)
        before = [
            (path.name, old["ratios"])
            for path in files
            for old in json.loads(path.read_text()).get("results", ())
            if isinstance(old, dict) and (old.get("size"), old.get("threads")) == (first["size"], first["threads"])
        ]
        if not before:
            continue
        name, ratios = before[-1]
        told += [
            f"{script}: {key} is {value:g}, in {name} it was {ratios[key]:g}"
            for key, value in first["ratios"].items()
            if key in ratios and value < SLOWER * ratios[key]
        ]
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=SCRIPTS, default=SCRIPTS, help="these benchmarks alone")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = {script: run(script, Path(folder)) for script in options.only}
    table = rows(found)
    print(f"\n{'benchmark':14s} {'figure':44s} {'goal':>10s} {'measured':>9s}")
    for row in table:
        value = "-" if row["measured"] is None else f"{row['measured']:g}"
        state = {None: "not measured", True: "met", False: "MISSED"}[row["met"]]
        print(f"{row['script']:14s} {row['name']:44s} {row['goal']:>10s} {value:>9s}  {state}")
    failed = [script for script, result in found.items() if result is None]
    told = slower(found, HERE / "results") + [f"{script}.py failed" for script in failed]
    for line in told:
        print(line)
    if options.out is not None:
        options.out.write_text(json.dumps({"goals": table, "told": told, "results": found}, indent=1) + "\n")
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    main()
