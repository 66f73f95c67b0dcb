"""Compare all methods on one data set after another, at equal length, and write one table.

    python benchmarks/board.py --data DIR --workspace W --steps 600 --out benchmarks/results/board.json --page docs/board.md
    python benchmarks/board.py --workspace W --sets sample --steps 480    # the embedded sample; needs no data

DIR holds the folders of the data sets in ``SETS``. Every run is a shipped pipeline with its own settings, except for the
number of steps: all trainings of a run take ``--steps`` steps together, in the proportions of the pipeline. ``--budget 10m``
gives every run the same time instead. Finished runs are kept in W/board.jsonl and are not repeated. An interrupted run
resumes.

The table has, for each data set and annotation, the mean mIoU over seeds with its sample deviation, the difference to
``pce`` with a sign test over images, the share of the gap between ``pce`` and ``dense`` that is closed, and the mIoU
within 3 pixels of a true boundary. There is one row for the network's own predictions and one for each refinement of
the pipeline (CRF, walk, retrieval).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import binomtest
from timing import processor

from wss.store import Store

SETS: dict[str, tuple[str, str | None, list[str]]] = {
    "sample": ("sample", None, []),
    "acdc": ("folder", "acdc", ["train*.augment.crop=[192,192]"]),
    "ccp": ("folder", "ccp_half", ["train*.augment.crop=[256,256]"]),
    "camvid": ("camvid", "camvid", []),
}
"""Kind of each data set, its folder in DIR, and settings of all runs on it: crops, where its images have many sizes."""
METHODS = (
    *("pce", "dense", "densecrf", "ncut", "kernelcut", "rawks", "bpg", "rw-ss", "spml-scribble"),
    *("gated-crf", "tree-energy", "dmpls", "dmsps", "mean-teacher", "scribblesup", "grabcut", "crf-adm", "crf-rnn"),
)
BAND = 3
"""Width in pixels of the band along true boundaries."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("WSS_DATA"))
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=["acdc", "ccp", "camvid"])
    parser.add_argument("--annotations", nargs="+", choices=["scribbles", "points"], default=["scribbles"])
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--steps", type=int, help="of all trainings of a run together")
    length.add_argument("--budget", help="time of each run, such as 10m")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--page", type=Path, help="Markdown file to write")
    options = parser.parse_args()
    if options.data is None and set(options.sets) != {"sample"}:
        parser.error("--data DIR: the folder that holds the data sets")
    options.workspace.mkdir(parents=True, exist_ok=True)
    kept = options.workspace / "board.jsonl"
    wanted = {
        case_key(case): case
        for case in (
            {"set": s, "annotation": a, "method": m, "seed": seed, "length": options.budget or options.steps}
            for seed in options.seeds  # all methods once, then again: an interrupted board is complete for fewer seeds
            for s in options.sets
            for a in options.annotations
            for m in options.methods
        )
    }
    runs = {case_key(r["case"]): r for r in read(kept)}
    for place, (key, case) in enumerate(wanted.items()):
        if key not in runs:
            print(f"{place + 1} of {len(wanted)}: {key}", flush=True)
            runs[key] = run(case, options)
            with kept.open("a", encoding="utf-8") as file:
                file.write(json.dumps(runs[key]) + "\n")
    rows = table([runs[key] for key in wanted])
    text = page(rows)
    print(text)
    if options.out:
        options.out.write_text(json.dumps(record(options, rows, [runs[key] for key in wanted]), indent=1) + "\n")
    if options.page:
        options.page.write_text(text, encoding="utf-8")


def case_key(case: Mapping[str, Any]) -> str:
    return " ".join(str(value) for value in case.values())


def read(kept: Path) -> list[dict[str, Any]]:
    """Finished runs; a last line that was cut off by an interruption is dropped."""
    runs = []
    for line in kept.read_text(encoding="utf-8").splitlines() if kept.exists() else []:
        try:
            runs.append(json.loads(line))
        except json.JSONDecodeError:
            print(f"{kept}: dropped an incomplete line")
    return runs


def run(case: Mapping[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """Train, predict and score one pipeline."""
    place = options.workspace / case["set"]
    kind, folder, settings = SETS[case["set"]]
    if not (place / "wss.yaml").exists():
        root = [] if folder is None else ["--root", str(options.data / folder)]
        wss("init", "--kind", kind, *root, "--workspace", str(place))
    settings = [*settings, f"evaluate*.trimap=[{BAND}]"]
    if case["annotation"] == "points" and case["method"] != "dense":
        settings.append("prepare.points=true")
    common = ["run", case["method"], "--seed", str(case["seed"]), "--workspace", str(place), "--json"]
    if options.steps:
        plan = json.loads(wss(*common, *changes(settings), "--dry-run"))
        settings += equal_steps(plan, options.steps)
    budget = ["--budget", options.budget] if options.budget else []
    begin = time.monotonic()
    nodes = json.loads(wss(*common, *changes(settings), *budget))
    found = {node["id"]: Store(Path(node["store"])) for node in nodes if node["stage"] == "evaluate"}
    return {
        "case": dict(case),
        "seconds": round(time.monotonic() - begin),
        "records": {stage: store.meta["record"] for stage, store in found.items()},
        "images": {
            stage: {i: image_score(store.get("confusion", i)) for i in store.ids} for stage, store in found.items()
        },
    }


def wss(*arguments: str) -> str:
    """Run a command of wss and return what it prints for programs."""
    done = subprocess.run([sys.executable, "-m", "wss", *arguments], check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout


def changes(settings: Sequence[str]) -> list[str]:
    return [part for setting in settings for part in ("--set", setting)]


def equal_steps(plan: Mapping[str, Any], steps: int) -> list[str]:
    """Settings with which all trainings of a plan take so many steps together; each keeps its share, and has one at least."""
    usual = {
        (stage["id"], number): phase["steps"]
        for stage in plan["stages"]
        for number, phase in enumerate(stage.get("protocol", {}).get("phases", []))
    }
    total = sum(usual.values())
    settings = []
    for (stage, number), count in usual.items():
        phase = f"{stage}.phases.{number}"
        settings += [f"{phase}.epochs=null", f"{phase}.steps={max(1, round(steps * count / total))}"]
    return settings


def image_score(confusion: NDArray[Any]) -> float | None:
    """Mean IoU of an image over the classes that its mask or its prediction has; None without labelled pixels."""
    both = np.diag(confusion)
    either = confusion.sum(0) + confusion.sum(1) - both
    return round(float((both[either > 0] / either[either > 0]).mean()), 5) if either.any() else None


def table(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row for each data set, annotation, method and stage of evaluation, with means over seeds."""
    groups: dict[tuple[str, str, str, str], list[Mapping[str, Any]]] = defaultdict(list)
    for one in runs:
        for stage in one["records"]:
            groups[one["case"]["set"], one["case"]["annotation"], one["case"]["method"], stage].append(one)
    rows = []
    for (name, annotation, method, stage), members in groups.items():
        scores = [one["records"][stage]["miou"] for one in members]
        row = {"set": name, "annotation": annotation, "method": method, "stage": stage, "seeds": len(members)}
        row |= {"miou": mean(scores), "std": stdev(scores) if len(scores) > 1 else None}
        row["near_boundaries"] = mean(one["records"][stage]["trimap_miou"][str(BAND)] for one in members)
        dice = [one["records"][stage].get("dice_per_class") for one in members]
        row["dice"] = mean(mean(each.values()) for each in dice) if all(dice) else None
        reference = "evaluate-crf" if stage == "evaluate-crf" else "evaluate"
        base = groups.get((name, annotation, "pce", reference), [])
        bound = groups.get((name, annotation, "dense", reference), [])
        row |= compared(members, stage, base, reference)
        row["gap_closed"] = gap_closed(row["miou"], base, bound, reference)
        rows.append(row)
    return rows


def compared(
    members: Sequence[Mapping[str, Any]], stage: str, base: Sequence[Mapping[str, Any]], reference: str
) -> dict[str, Any]:
    """Difference to ``pce`` over seeds that both have, and a two-sided sign test over images (means over these seeds)."""
    seeds = {one["case"]["seed"]: one for one in base}
    pairs = [(one, seeds[one["case"]["seed"]]) for one in members if one["case"]["seed"] in seeds]
    if not pairs or all(one is other for one, other in pairs):
        return {"difference": None, "images_better": None, "images_worse": None, "p": None}
    difference = mean(a["records"][stage]["miou"] - b["records"][reference]["miou"] for a, b in pairs)
    gains: dict[str, list[float]] = defaultdict(list)
    for a, b in pairs:
        for image_id, score in a["images"][stage].items():
            other = b["images"][reference].get(image_id)
            if score is not None and other is not None:
                gains[image_id].append(score - other)
    signs = [mean(values) for values in gains.values()]
    better, worse = sum(s > 0 for s in signs), sum(s < 0 for s in signs)
    p = float(binomtest(better, better + worse).pvalue) if better + worse else None
    return {"difference": difference, "images_better": better, "images_worse": worse, "p": p}


def gap_closed(
    score: float, base: Sequence[Mapping[str, Any]], bound: Sequence[Mapping[str, Any]], reference: str
) -> float | None:
    """(score - pce) / (dense - pce); None without both or where dense is not better."""
    if not base or not bound:
        return None
    low, high = (mean(one["records"][reference]["miou"] for one in each) for each in (base, bound))
    return (score - low) / (high - low) if high > low else None


def page(rows: Sequence[Mapping[str, Any]]) -> str:
    """The table as Markdown."""
    lines = ["# Board of methods", ""]
    for name, annotation in dict.fromkeys((row["set"], row["annotation"]) for row in rows):
        lines += [f"## {name}, {annotation}", ""]
        head = [
            "method",
            "after",
            "mIoU",
            "near boundaries",
            "mean Dice",
            "to pce",
            "images better : worse",
            "p",
            "gap closed",
        ]
        lines += ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
        for row in sorted(
            (r for r in rows if (r["set"], r["annotation"]) == (name, annotation)),
            key=lambda r: (r["stage"], -r["miou"]),
        ):
            cells = [
                row["method"],
                "-" if row["stage"] == "evaluate" else row["stage"].removeprefix("evaluate-"),
                percent(row["miou"]) + ("" if row["std"] is None else f" ± {percent(row['std'])}"),
                percent(row["near_boundaries"]),
                percent(row["dice"]),
                "" if row["difference"] is None else f"{100 * row['difference']:+.1f}",
                "" if row["p"] is None else f"{row['images_better']} : {row['images_worse']}",
                "" if row["p"] is None else f"{row['p']:.2g}",
                "" if row["gap_closed"] is None else f"{100 * row['gap_closed']:.0f} %",
            ]
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


def percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"


def record(
    options: argparse.Namespace, rows: Sequence[Mapping[str, Any]], runs: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    length = f"--budget {options.budget}" if options.budget else f"--steps {options.steps}"
    data = "" if set(options.sets) == {"sample"} else "--data DIR "
    choices = {
        "sets": options.sets,
        "annotations": options.annotations,
        "methods": options.methods,
        "seeds": options.seeds,
    }
    given = " ".join(f"--{name} {' '.join(str(v) for v in values)}" for name, values in choices.items())
    return {
        "command": f"python benchmarks/board.py {data}--workspace W {given} {length}",
        "date": date.today().isoformat(),
        "machine": {"processor": processor(), "cores": os.cpu_count(), "threads": torch.get_num_threads()},
        "torch": torch.__version__,
        "rows": list(rows),
        "runs": [{k: v for k, v in one.items() if k != "images"} for one in runs],
    }


if __name__ == "__main__":
    main()
