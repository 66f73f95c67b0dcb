"""Train methods with fixed settings on real data, or on the embedded sample, and write their scores as JSON.

    python benchmarks/methods.py acdc --data DIR --workspace W --runs pce dense pce:length=0.5 pce:drop=0.3 --out F.json

DIR holds the folders `acdc` or `ccp_half` (images, masks, scribbles, class names, lists); `sample` needs none. A run is a
pipeline, with `:option=value` for thinner annotation. Runs that are done in W are not repeated.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import torch

EXPERIMENTS = {
    "sample": {
        "folder": None,
        "note": "embedded sample data set, U-Net from scratch, 64x96 crops; the settings of the quickstart pipeline",
        "train": {
            "amp": True,
            "augment": "{crop: [64, 96], scale: [0.8, 1.25], rotate_deg: 10, brightness: 0.2, contrast: 0.2, saturation: 0.2}",
            "validate_every": 0,
        },
        "phase": "optimiser: adamw, lr: 0.004, weight_decay: 0.0005, head_multiplier: 1, bias_multiplier: 1, warmup_iters: 20",
        "epochs": 36,
    },
    "acdc": {
        "folder": "acdc",
        "note": "U-Net from scratch, 128x128 crops, human scribbles; Dice per volume of patients not trained on",
        "train": {"amp": True, "augment.crop": 128, "augment.rotate_deg": 20},
        "phase": "optimiser: adamw, lr: 0.003, weight_decay: 0.0005, head_multiplier: 1, bias_multiplier: 1, warmup_iters: 20",
        "epochs": 8,
    },
    "ccp": {
        "folder": "ccp_half",
        "note": "DeepLab-v3+ with MobileNetV2 from ImageNet weights, 224x224 crops, simulated scribbles",
        "train": {
            "amp": True,
            "augment.crop": 224,
            "network": "{name: deeplab-v3plus, backbone: mobilenet_v2, padding: same}",
            "validate_every": 0,
        },
        "phase": (
            "optimiser: adamw, lr: 0.0003, weight_decay: 0.0005, head_multiplier: 5, bias_multiplier: 1, "
            "warmup_iters: 20, batch_norm: frozen"
        ),
        "epochs": 8,
        "weights": "weights/mobilenet_v2/mobilenet_v2_imagenet_tf2ptq_fp16.pth",
    },
}
TERMS = {"pce": "{pce: 1}", "dense": "{ce: 1}"}


def settings(experiment: dict, run: str, data: Path, epochs: int) -> tuple[str, list[str]]:
    """The pipeline of a run, and its `--set` arguments."""
    pipeline, *options = run.split(":")
    changes = {f"train.{name}": value for name, value in experiment["train"].items()}
    if "weights" in experiment:
        changes["train.weights"] = data / experiment["weights"]
    changes["train.phases"] = f"[{{epochs: {epochs}, terms: {TERMS[pipeline]}, {experiment['phase']}}}]"
    for option in options:
        name, _, value = option.partition("=")
        if name == "length":
            name, value = "shrink", str(round(1 - float(value), 6))
        changes[f"prepare.{name}"] = value
    return pipeline, [part for name, value in changes.items() for part in ("--set", f"{name}={value}")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", choices=EXPERIMENTS)
    parser.add_argument(
        "--data", type=Path, default=os.environ.get("WSS_DATA"), help="folder of the data sets (or WSS_DATA)"
    )
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--runs", nargs="+", default=["pce", "dense"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    experiment = EXPERIMENTS[options.experiment]
    if options.data is None and experiment["folder"]:
        parser.error("--data or WSS_DATA must name the folder of the data sets")
    data = Path(options.data or ".").resolve()
    epochs = options.epochs or experiment["epochs"]
    wss = [sys.executable, "-m", "wss"]
    if experiment["folder"] and not (options.workspace / "wss.yaml").exists():
        place = ["--root", str(data / experiment["folder"]), "--workspace", str(options.workspace)]
        subprocess.run([*wss, "init", "--kind", "folder", *place], check=True, stdout=sys.stderr)
    rows = []
    for run in options.runs:
        for seed in options.seeds:
            pipeline, changes = settings(experiment, run, data, epochs)
            started = time.time()
            command = [
                *wss,
                "run",
                pipeline,
                "--workspace",
                str(options.workspace),
                "--seed",
                str(seed),
                "--json",
                *changes,
            ]
            stages = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
            for stage in stages:
                if stage["record"]:
                    rows.append({"run": run, "seed": seed, "stage": stage["id"], **stage["record"]})
            trained = next(stage for stage in stages if stage["stage"] == "train")
            print(f"{run} seed {seed}: {time.time() - started:.0f} s, training {trained['seconds']} s", file=sys.stderr)
    result = {
        "command": command_line(options, epochs),
        "experiment": options.experiment,
        "note": experiment["note"],
        "settings": {**experiment, "epochs": epochs},
        "date": date.today().isoformat(),
        "machine": {"processor": processor(), "cores": os.cpu_count(), "threads": torch.get_num_threads()},
        "torch": torch.__version__,
        "scores": rows,
    }
    text = json.dumps(result, indent=1, default=str)
    if options.out:
        options.out.write_text(text + "\n")
    for row in rows:
        dice = {name: f"{value:.3f}" for name, value in row.get("dice_per_class", {}).items()}
        print(f"{row['run']:<20} seed {row['seed']} {row['stage']:<14} mIoU {row['miou']:.4f} {dice or ''}")


def command_line(options: argparse.Namespace, epochs: int) -> str:
    """What to type to get these numbers again; folders are the reader's own."""
    data = "--data DIR " if EXPERIMENTS[options.experiment]["folder"] else ""
    runs, seeds = " ".join(options.runs), " ".join(map(str, options.seeds))
    chosen = f"--runs {runs} --seeds {seeds} --epochs {epochs}"
    return f"python benchmarks/methods.py {options.experiment} {data}--workspace W {chosen}"


def processor() -> str:
    """The processor's name."""
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            return line.split(":")[1].strip()
    return platform.machine()


if __name__ == "__main__":
    main()
