"""Kills random processes of a run under the real torchrun, and compares its losses with those of a run that was left alone.

    python3 benchmarks/distributed/kills.py --data CORPUS --out FOLDER --kills 12

Needs PyTorch 2.11 in this Python (its torchrun) and target/release/brt. Writes kills.json into the folder.
"""
import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BRT = ROOT / "target/release/brt"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", default=ROOT / "benchmarks/configs/laptop/rec_fixed_skip.toml")
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--steps", default="1200")
    parser.add_argument("--kills", default=12, type=int)
    parser.add_argument("--nproc", default="2")
    parser.add_argument("--seed", default=1, type=int)
    parser.add_argument("overrides", nargs="*", help="keys of the configuration, --model.vocab_size=1024")
    a, overrides = parser.parse_known_args()
    train = [BRT, "train", a.config, "--data", a.data, "--threads", "1", "--resume", "--steps", a.steps]
    train += ["--train.checkpoint_every=20", "--train.keep_last=2", *overrides]
    launch = [BRT, "launch", "--nproc", a.nproc, *train[1:], "--out", a.out / "calm"]
    subprocess.run(launch, check=True, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", a.nproc]
    torchrun += ["--max-restarts", str(a.kills + 3), "--no-python", *train, "--out", a.out / "killed"]
    log = open(a.out / "torchrun.log", "w")
    run = subprocess.Popen(torchrun, stdout=log, stderr=log)
    random.seed(a.seed)
    kills = []
    while run.poll() is None and len(kills) < a.kills:
        before, wait = last_step(a.out / "killed"), random.uniform(0, 3)
        while run.poll() is None and last_step(a.out / "killed") <= before:
            time.sleep(0.02)  # It must come further than before, else kills of a start would never end.
        time.sleep(wait)
        ranks = processes(run.pid)
        if ranks:
            rank = random.randrange(len(ranks))
            kills.append({"rank": rank, "last_checkpoint": last_step(a.out / "killed"), "seconds_after_it": round(wait, 2)})
            os.kill(ranks[rank], signal.SIGKILL)
            print("killed", kills[-1], flush=True)
    status = run.wait()
    results = [json.loads((a.out / name / "result.json").read_text()) for name in ("calm", "killed")]
    calm, killed = [losses(result) for result in results]
    summary = {
        "torchrun_status": status,
        "config": Path(a.config).name,
        "overrides": overrides,
        "num_steps": int(a.steps),
        "num_processes": int(a.nproc),
        "seed_of_kills": a.seed,
        "num_kills": len(kills),
        "num_resumes": results[1]["training"]["num_resumes"],
        "losses_are_equal": calm == killed,
        "test_bits_per_byte": bits_per_byte(results[1]),
        "kills": kills,
        "commit": results[1]["build"]["commit"],
        "machine": results[1]["machine"],
    }
    (a.out / "kills.json").write_text(json.dumps(summary, indent=2) + "\n")
    print({key: value for key, value in summary.items() if key not in ("kills", "machine")})
    sys.exit(not (status == 0 and calm == killed))


def last_step(run):
    folder = run / "checkpoints"
    names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    return max((int(name[5:]) for name in names if name[5:].isdigit()), default=0)


def processes(parent):
    """The processes of brt that torchrun has started."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    name = lambda pid: Path(f"/proc/{pid}/comm").read_text().strip()
    try:
        return [int(pid) for pid in children if name(pid) == "brt"]
    except FileNotFoundError:
        return []


def losses(result):
    line = lambda l: [l["step"], l["train_bits_per_token"], l.get("validation_bits_per_byte")]
    return [[line(l) for l in result["curve"]], result["test"], result["test_state_reset"]]


def bits_per_byte(result):
    bits = [d["loss_nats"] / 0.6931471805599453 / d["num_bytes"] for d in result["test"]["documents"]]
    return sum(bits) / len(bits)


main()
