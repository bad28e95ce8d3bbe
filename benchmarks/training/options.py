"""Measures step time and memory of the options of training, one process each, in turn, and writes what it saw as JSON.

    python3 benchmarks/training/options.py --brt target/release/brt --data runs/code --out options.json

Each option trains the same steps of `benchmarks/configs/compare/rec_fixed_skip.toml` at a larger size, with one thread. Times
are medians over the steps of a run, as its `result.json` says; ratios are to the first run of the same round.
"""

import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
CONFIG = ROOT / "benchmarks/configs/compare/rec_fixed_skip.toml"
SIZE = {
    "model.model_dim": 256, "model.num_layers": 6, "model.num_heads": 4, "model.head_dim": 64, "model.ffn_dim": 1024,
    "model.window_len": 64, "data.segment_len": 512, "data.batch": 8, "train.num_steps": 12, "train.validate_every": 0,
    "schedule.num_warmup_steps": 2, "evaluation.max_document_len": 64, "evaluation.batch": 1, "train.log_every": 4,
}
# Sections with a kind are replaced as a whole.
ADAMW = '[optimizer]\nkind = "adamw"\nbeta1 = 0.9\nbeta2 = 0.98\nepsilon = 1e-8\nweight_decay = 0.1\n'
MUON = '[optimizer]\nkind = "muon"\nmomentum = 0.95\nbeta1 = 0.9\nbeta2 = 0.98\nepsilon = 1e-8\nweight_decay = 0.1\n'
OPTIONS = {
    "f32, everything kept": ({}, ""),
    "bf16": ({"train.precision": "bf16"}, ""),
    "recompute": ({"train.memory": "recompute"}, ""),
    "accumulate 4": ({"train.accumulate": 4}, ""),
    "bf16, recompute, accumulate 4": (
        {"train.precision": "bf16", "train.memory": "recompute", "train.accumulate": 4}, ""),
    "AdamW": ({}, ADAMW),
    "Muon": ({}, MUON),
    "statistics every step": ({"train.statistics_every": 1}, ""),
}


def run(brt, data, work, keys, section):
    config = work / "run.toml"
    config.write_text(f"extends = {json.dumps(str(CONFIG))}\n{section}")
    out = work / "run"
    shutil.rmtree(out, ignore_errors=True)
    flags = [f"--{key}={value}" for key, value in (SIZE | keys).items()]
    command = [brt, "train", config, "--data", data, "--out", out, "--threads", "1", *flags]
    dry = subprocess.run([*command, "--dry-run"], check=True, capture_output=True, text=True).stdout
    subprocess.run(command, check=True, capture_output=True)
    training = json.loads((out / "result.json").read_text())["training"]
    memory = next(line for line in dry.splitlines() if line.startswith("memory"))
    return training["median_step_secs"], training["peak_bytes"], training["cpu_secs"], memory


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--brt", required=True)
parser.add_argument("--data", required=True, type=pathlib.Path)
parser.add_argument("--out", required=True, type=pathlib.Path)
parser.add_argument("--rounds", type=int, default=3)
arguments = parser.parse_args()
work = pathlib.Path(arguments.out).with_suffix(".work")
work.mkdir()
found = {name: {"step_secs": [], "ratios": [], "peak_bytes": [], "load": []} for name in OPTIONS}
for _ in range(arguments.rounds):
    first = None
    for name, (keys, section) in OPTIONS.items():
        load = os.getloadavg()[0]
        secs, peak, _, dry = run(arguments.brt, arguments.data, work, keys, section)
        first = first or secs
        entry = found[name]
        entry["step_secs"].append(secs)
        entry["ratios"].append(secs / first)
        entry["peak_bytes"].append(peak)
        entry["load"].append(load)
        entry["dry_run"] = dry
shutil.rmtree(work)
lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
git = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
machine = {
    "cpu": next(line.split(":")[1].strip() for line in lines if line.startswith("model name")),
    "num_cpus": os.cpu_count(), "threads": 1, "seed": 1,
    "commit": subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip(),
}
arguments.out.write_text(json.dumps({"machine": machine, "size": SIZE, "options": found}, indent=1) + "\n")
for name, entry in found.items():
    secs, ratio = statistics.median(entry["step_secs"]), statistics.median(entry["ratios"])
    print(f"{name:32} {secs:6.3f} s  x {ratio:4.2f}  {max(entry['peak_bytes']) / 2**20:7.0f} MiB   {entry['dry_run']}")
