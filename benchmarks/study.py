"""Run a study and write its scores as JSON: means over seeds, and how much of the gap between pce and dense is closed.

    python benchmarks/study.py study-losses --preset benchmarks/presets/acdc.yaml --workspace W --set factors.seed=[0,1,2] --out F

W is a workspace of the data set (`wss init`). What is done in W is not repeated.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections import defaultdict
from datetime import date
from pathlib import Path
from typing import Any

import torch
from timing import processor

from wss.pipeline.presets import load_preset
from wss.store import Store


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study")
    parser.add_argument("--preset")
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("--jobs", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    command = [sys.executable, "-m", "wss", "run", options.study, "--json", "--jobs", str(options.jobs)]
    command += ["--workspace", str(options.workspace), *(["--preset", options.preset] if options.preset else [])]
    command += [part for setting in options.settings for part in ("--set", setting)]
    nodes = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    runs = [Store(Path(node["store"])).meta for node in nodes if node["stage"] == "evaluate"]
    quality = [node["record"] for node in nodes if node["stage"] == "label-quality"]
    rows = summary([(run["factors"], run["record"]) for run in runs])
    for row in rows:
        where = ", ".join(f"{name} {level}" for name, level in row["factors"].items())
        closed = "" if row["gap_closed"] is None else f"  {100 * row['gap_closed']:.0f} % of the gap"
        spread = "" if row["std"] is None else f" ± {100 * row['std']:.1f}"
        print(
            f"{where:<40} {'CRF' if row['crf'] else '   '} mIoU {100 * row['miou']:.1f}{spread} (n = {row['n']}){closed}"
        )
    for record in quality:
        print(f"labels of {record['name']:<30} mIoU {100 * record['miou']:.1f} on {record['num_images']} images")
    result = {
        "command": typed(options),
        "preset": None if options.preset is None else load_preset(options.preset).title,
        "date": date.today().isoformat(),
        "machine": {"processor": processor(), "cores": os.cpu_count(), "threads": torch.get_num_threads()},
        "torch": torch.__version__,
        "summary": rows,
        "runs": [{"factors": run["factors"], **run["record"]} for run in runs],
        "labels": quality,
    }
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")


def summary(runs: list[tuple[dict[str, Any], dict[str, Any]]]) -> list[dict[str, Any]]:
    """Mean mIoU with its sample deviation and means of other scores over seeds, by all other factors, with and without CRF."""
    cells: dict[str, list[tuple[dict[str, Any], dict[str, Any]]]] = defaultdict(list)
    for factors, record in runs:
        rest = {name: level for name, level in factors.items() if name != "seed"}
        cells[json.dumps([rest, record["crf"]])].append((rest, record))
    rows = []
    for members in cells.values():
        scores = [record["miou"] for _, record in members]
        row = {"factors": members[0][0], "crf": members[0][1]["crf"], "n": len(scores), "miou": statistics.mean(scores)}
        row["std"] = statistics.stdev(scores) if len(scores) > 1 else None
        row["pixel_accuracy"] = statistics.mean(record["pixel_accuracy"] for _, record in members)
        for parts in ("dice_per_class", "trimap_miou", "trimap_accuracy"):
            found = [record[parts] for _, record in members if parts in record]
            if found:
                row[parts] = {name: statistics.mean(each[name] for each in found) for name in found[0]}
        rows.append(row)
    for row in rows:
        row["gap_closed"] = gap_closed(row, rows)
    return rows


def gap_closed(row: dict[str, Any], rows: list[dict[str, Any]]) -> float | None:
    """(score - pce) / (dense - pce) of rows that differ in this one factor; None where there are no such rows."""
    bounds = {}
    for other in rows:
        changed = [name for name in row["factors"] if row["factors"][name] != other["factors"].get(name)]
        for level in ("pce", "dense"):
            if other["crf"] == row["crf"] and level in other["factors"].values() and len(changed) == 1:
                bounds[level] = other["miou"]
    if set(bounds) != {"pce", "dense"} or bounds["pce"] == bounds["dense"]:
        return None
    return (row["miou"] - bounds["pce"]) / (bounds["dense"] - bounds["pce"])


def typed(options: argparse.Namespace) -> str:
    """What to type to get these numbers again; folders are the reader's own."""
    parts = ["python benchmarks/study.py", options.study]
    if options.preset:
        parts.append(f"--preset benchmarks/presets/{Path(options.preset).name}")
    for setting in options.settings:
        name, _, value = setting.partition("=")
        parts.append(f"--set '{name}={'FILE' if '/' in value else value}'")
    return " ".join([*parts, "--workspace W"])


if __name__ == "__main__":
    main()
