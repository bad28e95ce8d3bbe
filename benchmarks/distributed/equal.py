"""Trains one model with one process and with several, and compares what they lost: on GPUs the sums are those of NCCL.

    python3 benchmarks/distributed/equal.py --text FOLDER --device cuda --nproc 8 --out FOLDER

Prints and writes equal.json; the exit code is 1 where losses differ by more than a thousandth or nothing was summed. With one
process, as on one GPU, it shows that sums run, and not that they are right.
"""
import argparse
import json
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STEPS = 20


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--brt", default=ROOT / "target/release/brt", type=Path)
    parser.add_argument("--config", default=ROOT / "benchmarks/configs/laptop/rec_fixed_skip.toml", type=Path)
    parser.add_argument("--text", required=True, type=Path, help="folder of texts; its tokens are bytes")
    parser.add_argument("--device", default="cpu", help="cpu or cuda [cpu]")
    parser.add_argument("--nproc", default=2, type=int)
    parser.add_argument("--out", required=True, type=Path)
    a, overrides = parser.parse_known_args()
    corpus = a.out / "corpus"
    if not corpus.exists():
        run([a.brt, "data", "prepare", "--corpus", f"folder:{a.text}", "--out", corpus])
    # As many parts of the batch in one process as there are processes: then both add the same numbers.
    train = ["train", a.config, "--data", corpus, "--device", a.device, "--steps", STEPS, "--threads", 1]
    train += ["--model.vocab_size=260", "--train.validate_every=0", "--train.statistics_every=0", "--train.log_every=1"]
    train += [f"--train.checkpoint_every={STEPS}", "--schedule.num_warmup_steps=2", "--evaluation.num_batches=1", *overrides]
    for name in ("one", "several"):
        shutil.rmtree(a.out / name, ignore_errors=True)
    run([a.brt, *train, "--out", a.out / "one", f"--train.accumulate={a.nproc}"])
    run([a.brt, "launch", "--nproc", a.nproc, *train, "--out", a.out / "several"])
    one, several = [json.loads((a.out / name / "result.json").read_text()) for name in ("one", "several")]
    losses = [[line["train_bits_per_token"] for line in result["curve"]] for result in (one, several)]
    facts = several["training"]
    summary = {
        "num_processes": a.nproc,
        "device": several["machine"],
        "commit": several["build"]["commit"],
        "num_steps": facts["num_steps"],
        "largest_difference_bits_per_token": max(abs(x - y) for x, y in zip(*losses, strict=True)),
        "first_and_last_bits_per_token": [losses[1][0], losses[1][-1]],
        "reduced_bytes": facts["reduced_bytes"],
        "reduce_secs_per_step": facts["reduce_secs"] / facts["num_steps"],
        "median_step_secs": [statistics.median(line["step_secs"] for line in r["curve"][2:]) for r in (one, several)],
    }
    (a.out / "equal.json").write_text(json.dumps(summary, indent=2) + "\n")
    print(json.dumps(summary))
    sys.exit(not (summary["largest_difference_bits_per_token"] < 1e-3 and facts["reduced_bytes"] > 0))


def run(command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}: exit code {done.returncode}: {done.stderr}")


main()
