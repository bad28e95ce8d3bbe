"""Kills a real run with SIGKILL at random moments, lets it go on each time, and compares it with one left alone.

    python3 benchmarks/training/kill.py --brt target/release/brt --data runs/code --kills 24

A checkpoint is written after every step, so that many kills come while one is being written. Losses and the tensors of the last
checkpoint must be the same byte for byte.
"""

import argparse
import json
import pathlib
import random
import shutil
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
CONFIG = ROOT / "benchmarks/configs/compare/rec_fixed_skip.toml"

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--brt", required=True)
parser.add_argument("--data", required=True, type=pathlib.Path)
parser.add_argument("--kills", type=int, default=24)
parser.add_argument("--seed", type=int, default=1)
arguments = parser.parse_args()
random.seed(arguments.seed)
work = pathlib.Path(tempfile.mkdtemp())
keys = {
    "train.num_steps": 8 * arguments.kills, "train.checkpoint_every": 1, "train.log_every": 1, "train.validate_every": 0,
    "schedule.num_warmup_steps": 5, "evaluation.max_document_len": 256, "model.dropout": 0.1,
}


def start(out):
    flags = [f"--{key}={value}" for key, value in keys.items()]
    command = [arguments.brt, "train", CONFIG, "--data", arguments.data, "--out", out, "--threads", "1", "--resume"]
    return subprocess.Popen([*command, *flags], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def finish(out):
    assert start(out).wait() == 0
    result = json.loads((out / "result.json").read_text())
    losses = [(line["step"], line["train_bits_per_token"], line["gradient_norm"]) for line in result["curve"]]
    last = max((out / "checkpoints").glob("step-*"), key=lambda path: int(path.name.split("-")[1]))
    tensors = {file.name: file.read_bytes() for file in last.glob("*.safetensors")}
    return losses, result["test"], tensors, result["training"]["num_resumes"]


whole, killed = work / "whole", work / "killed"
expected = finish(whole)
during_write = 0
for kill in range(arguments.kills):
    run = start(killed)
    time.sleep(random.uniform(0.2, 2.2))
    run.kill()
    code = run.wait()
    checkpoints = killed / "checkpoints"
    steps = [path.name for path in checkpoints.glob("step-*")] if checkpoints.exists() else []
    parts = [name for name in steps if name.endswith(".part")]
    during_write += bool(parts)
    whole_ones = sorted((int(name.split("-")[1]) for name in steps if not name.endswith(".part")), reverse=True)
    print(f"kill {kill + 1:2}: exit {code}, checkpoints {whole_ones}{', writing ' + parts[0] if parts else ''}")
    if (killed / "result.json").exists():
        print("it had ended")
        break
got = finish(killed)
print(f"{got[3]} resumes, {during_write} kills while a checkpoint was written")
print(f"losses of {len(got[0])} steps: {'the same' if got[0] == expected[0] else 'DIFFERENT'}")
print(f"scores of {len(got[1]['documents'])} test documents: {'the same' if got[1] == expected[1] else 'DIFFERENT'}")
for name, data in expected[2].items():
    print(f"{name}: {len(data)} bytes: {'the same' if got[2][name] == data else 'DIFFERENT'}")
shutil.rmtree(work)
