"""Throughput of one and two processes, sums of tensors, and both over links of injected delay and rate.

    python3 benchmarks/distributed/measure.py --out FOLDER        # as root; brt and its examples built in release

Writes measure.json into the folder. Corpus: one of random bytes, made here; times do not depend on what is read.
"""
import argparse
import json
import os
import platform
import random
import shutil
import socket
import statistics
import subprocess
import tempfile
from pathlib import Path

from link import Link

ROOT = Path(__file__).resolve().parents[2]
BRT, ALL_REDUCE = ROOT / "target/release/brt", ROOT / "target/release/examples/all_reduce"
# (delay in ms each way, Mbit/s)
LINKS = [(0, 1000), (1, 1000), (5, 1000), (1, 200), (1, 50)]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--rounds", default=3, type=int)
    a = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        corpus(place)
        result = {
            "cpu": cpu(),
            "num_cpus": os.cpu_count(),
            "os": platform.platform(),
            "load_average": os.getloadavg()[0],
            "commit": subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip(),
            "throughput": {name: throughput(place, a.rounds, *kind) for name, kind in CONFIGS.items()},
            "all_reduce_loopback": all_reduce(lambda rank: [], "127.0.0.1"),
            "links": [over_link(place, *kind) for kind in LINKS],
            "small_sums": [small_sums(n) for n in (2, 4, 8, 16)],
        }
    (a.out / "measure.json").write_text(json.dumps(result, indent=1) + "\n")


CONFIGS = {
    # name: configuration, overrides, steps
    "0.25 M parameters, 16 rows of 128": (ROOT / "benchmarks/configs/laptop/rec_fixed_skip.toml", [], 60),
    "5.4 M parameters, 4 rows of 1024": (ROOT / "benchmarks/peers/a.toml", ["--model.vocab_size=260"], 8),
}


def corpus(place):
    random.seed(1)
    for split, size in (("train", 400_000), ("validation", 2_000), ("test", 2_000)):
        (place / "text" / split).mkdir(parents=True)
        for i in range(16):
            text = "".join(random.choice("abcdefgh \n") for _ in range(size // 16))
            (place / "text" / split / f"{i}.txt").write_text(text)
    run([BRT, "data", "prepare", "--corpus", f"folder:{place}/text", "--out", place / "corpus"])


def run(command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{command}: status {done.returncode}: {done.stderr}")


def train_command(place, config, overrides, steps, out, threads):
    fixed = [BRT, "train", config, "--data", place / "corpus", "--out", place / out, "--threads", threads]
    off = ["--train.validate_every=0", "--train.keep_best=false", "--train.statistics_every=0", "--train.log_every=1"]
    off += ["--schedule.num_warmup_steps=2", f"--train.checkpoint_every={steps}", "--evaluation.num_batches=1"]
    return [*fixed, "--steps", steps, *off, *overrides]


def training(place, out):
    """Median step of a run, in seconds, without the first two; and what its sums of gradients took."""
    result = json.loads((place / out / "result.json").read_text())
    steps = [line["step_secs"] for line in result["curve"]][2:]
    facts = result["training"]
    per_step = facts["reduce_secs"] / facts["num_steps"]
    shutil.rmtree(place / out)
    return {"median_step_secs": statistics.median(steps), "reduced_bytes": facts["reduced_bytes"], "reduce_secs_per_step": per_step}


def throughput(place, rounds, config, overrides, steps):
    """The same batch: one process with one thread, with two, and two processes with one each, in turn."""
    kinds = {"1 process, 1 thread": (1, 1), "1 process, 2 threads": (1, 2), "2 processes, 1 thread each": (2, 1)}
    seen = {name: [] for name in kinds}
    for _ in range(rounds):
        for name, (nproc, threads) in kinds.items():
            command = train_command(place, config, overrides, steps, "run", threads)
            run([BRT, "launch", "--nproc", nproc, *command[1:]] if nproc > 1 else command)
            seen[name].append(training(place, "run"))
    middle = lambda runs: {key: statistics.median(r[key] for r in runs) for key in runs[0]}
    summary = {name: middle(runs) for name, runs in seen.items()}
    one, two = (summary[name]["median_step_secs"] for name in ("1 process, 1 thread", "2 processes, 1 thread each"))
    return {**summary, "speedup_of_2_processes": one / two, "efficiency": one / two / 2}


def processes(command, enter, host, n=2):
    """Runs a command as so many ranks, each in its place, and returns what rank 0 printed."""
    port = str(20_000 + os.getpid() % 8000)
    environment = {"WORLD_SIZE": str(n), "MASTER_ADDR": host, "MASTER_PORT": port, "OMP_WAIT_POLICY": "passive"}
    start = lambda rank: subprocess.Popen(
        [str(word) for word in [*enter(rank), *command]],
        env={**os.environ, **environment, "RANK": str(rank)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    ranks = [start(rank) for rank in range(n)]
    outputs = [rank.communicate() for rank in ranks]
    if any(rank.returncode for rank in ranks):
        raise SystemExit("\n".join(error for _, error in outputs))
    return outputs[0][0]


def all_reduce(enter, host, n=2):
    return [json.loads(line) for line in processes([ALL_REDUCE], enter, host, n).splitlines()]


def small_sums(n):
    """What processes on two hosts 5 ms apart wait for a few numbers: around Gloo's ring, 16 of four bytes, and by the tree."""
    with Link(5) as link:
        sums = all_reduce(lambda rank: link.enter(rank * 2 // n), "10.78.0.1", n)
    ring = next(line["median_secs"] for line in sums if line.get("bytes") == 64)
    tree = next(line["median_secs"] for line in sums if "numbers" in line)
    print(n, ring, tree, flush=True)
    return {"num_processes": n, "delay_ms": 5, "ring_secs": ring, "tree_secs": tree}


def over_link(place, delay_ms, mbit):
    """Sums and steps over a link, and what a model of the link says of a sum of two processes: half of the bytes each way,
    twice, and four delays, for Gloo sends a word before each message. (A sum of one number has two.)"""
    config, overrides, steps = CONFIGS["0.25 M parameters, 16 rows of 128"]
    with Link(delay_ms, mbit) as link:
        sums = all_reduce(link.enter, "10.78.0.1")
        processes(train_command(place, config, overrides, steps, "run", 1), link.enter, "10.78.0.1")
        step = training(place, "run")
    predicted = lambda size: 4 * delay_ms / 1e3 + size * 8 / (mbit * 1e6)
    for line in sums:
        if "bytes" in line:
            line["predicted_secs"] = round(predicted(line["bytes"]), 6)
    print(delay_ms, mbit, sums[-2], step, flush=True)
    return {"delay_ms": delay_ms, "mbit": mbit, "all_reduce": sums, "training": step, "predicted_sum_of_gradients_secs": predicted(step["reduced_bytes"])}


def cpu():
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next(line.split(": ")[1] for line in lines if line.startswith("model name"))


main()
