"""The whole check of a machine with a GPU, libtorch 2.11 and no network, in 8 minutes.

    benchmarks/gpu/pack.sh                                  # where there is Rust: fills target/gpu
    python3 benchmarks/gpu/run.py OUT                       # where there is a GPU, target/gpu carried along
    python3 benchmarks/gpu/run.py OUT --device cpu --tiny   # a dry run

OUT gets the log and the raw numbers of each part, and summary.json. No part stops the others; the exit code is 1 where one
failed.
"""

import argparse
import importlib.util
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAMS = ROOT / "target/gpu"
PAPER = ROOT / "benchmarks/configs/paper"

# The rows of the paper's tables.
ROWS = [
    "slide12", "slide13", "xl512", "xl1024", "xl2048", "rec_fixed_skip", "rec_fixed_single", "rec_fixed_dual",
    "rec_lstm_skip", "rec_lstm_single", "rec_lstm_dual", "feedback_fixed_skip", "feedback_lstm_dual",
    "memorizing_32k", "memorizing_64k",
]

# Those that need much memory for a row: fewer rows in a step.
LARGE_ROWS = {"xl2048", "memorizing_32k", "memorizing_64k"}

# Seconds that each part may take.
LIMITS = {"machine": 20, "golden": 50, "steps": 170, "peers": 90, "processes": 50, "compare": 100}

TINY = """
[model]
model_dim = 32
num_layers = 4
num_heads = 2
head_dim = 16
ffn_dim = 64
window_len = 16
vocab_size = 256
[data]
batch = 2
segment_len = 64
"""
TINY_TABLES = {
    "recurrence": "[model.recurrence]\nlayers = [2]\nnum_states = 16\n",
    "memory": "[model.memory]\nlayer = 2\ncapacity = 64\nnum_neighbours = 8\n",
}


def environment():
    """The libtorch of the machine's PyTorch, looked up and not imported."""
    env = dict(os.environ, BRT_BIN=str(PROGRAMS / "brt"), CARGO_MANIFEST_DIR=str(ROOT / "xtask"))
    env["OMP_WAIT_POLICY"] = "passive"
    torch = importlib.util.find_spec("torch")
    if torch is not None:
        lib = pathlib.Path(torch.origin).parent / "lib"
        env["LD_LIBRARY_PATH"] = f"{lib}:{env.get('LD_LIBRARY_PATH', '')}"
    return env


def row(name, out, tiny):
    """The configuration of a row, or one of its kind that a CPU can step."""
    path = PAPER / f"{name}.toml"
    if not tiny:
        return path
    text = f'extends = ["{path}"]\n{TINY}'
    for kind, table in TINY_TABLES.items():
        if kind == {"rec": "recurrence", "fee": "recurrence", "mem": "memory"}.get(name[:3]):
            text += table
    tiny_path = out / "tiny" / f"{name}.toml"
    tiny_path.parent.mkdir(exist_ok=True)
    tiny_path.write_text(text)
    return tiny_path


def parts(args, out):
    """The name and the commands of each part."""
    brt, xtask = PROGRAMS / "brt", PROGRAMS / "xtask"
    on_gpu = args.device != "cpu"
    query = "--query-gpu=name,driver_version,memory.total,clocks.max.sm"
    yield "machine", [["nvidia-smi", query, "--format=csv"]] * on_gpu + [[brt, "doctor"]]
    yield "golden", [[PROGRAMS / "brt-golden", "--dir", ROOT / "crates/brt-golden/golden"] + ["--cuda"] * on_gpu]
    # A process for each row: one that fails, or takes all of the memory, costs itself alone. Without attention dropout, whose
    # masks are shared between rows as libtorch's fused attention cannot.
    steps = []
    for name in ROWS:
        rows = max(args.rows // 4, 1) if name in LARGE_ROWS else args.rows
        size = [] if args.tiny else ["--data.batch", str(rows), "--model.attention_dropout", "0.0"]
        steps.append([brt, "bench", row(name, out, args.tiny), "--steps-only", "--kind", "bf16", "--rounds",
                      "1" if args.tiny else "5", "--device", args.device, "--out", out / f"steps-{name}.json", *size])
    yield "steps", steps
    peers = [xtask, "peers", "--tokens", PROGRAMS / "tokens.bin", "--python", sys.executable, "--device", args.device, "--out", out / "peers"]
    if args.tiny:
        peers += ["--configs", "a", "--rounds", "1", "--prompt-len", "140", "--generate", "4"]
    else:
        peers += ["--configs", ROOT / "benchmarks/gpu/peers.toml"]
    # The port is there only where somebody has installed it.
    has_port = importlib.util.find_spec("block_recurrent_transformer_pytorch") is not None
    yield "peers", [peers + ["--contestants", "brt,plain,port" if has_port else "brt,plain"]]
    # A process for each GPU, also where there is one: NCCL's sums are then of one process.
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    found = list(pathlib.Path("/dev").glob("nvidia[0-9]*"))
    num_gpus = 2 if not on_gpu else len(visible) if visible != [""] else max(len(found), 1)
    equal = [sys.executable, ROOT / "benchmarks/distributed/equal.py", "--brt", brt, "--text", PROGRAMS / "text",
             "--nproc", str(num_gpus), "--device", "cuda" if on_gpu else "cpu", "--out", out / "processes"]
    if not args.tiny:
        equal += ["--config", ROOT / "benchmarks/gpu/peers.toml", "--train.precision=bf16", f"--data.batch={4 * num_gpus}"]
    yield "processes", [equal]
    minutes = "0.3" if args.tiny else "1.2"
    yield "compare", [[xtask, "compare", "--minutes", minutes, "--jobs", "1", "--out", out / "compare",
                       "--corpus", f"folder:{PROGRAMS / 'text'}"]]


def run(name, commands, out, env):
    """Runs the commands of a part within its limit; their output goes to a log. One that fails does not stop the next."""
    start, log = time.monotonic(), out / f"{name}.txt"
    failures = []
    with log.open("w") as file:
        for command in commands:
            left = LIMITS[name] - (time.monotonic() - start)
            if left <= 0:
                failures.append(f"more than {LIMITS[name]} s")
                break
            try:
                # In a session of its own, so that what it has started ends with it.
                process = subprocess.Popen(
                    [str(word) for word in command], stdout=file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                    env=env, cwd=ROOT, start_new_session=True,
                )
            except OSError as error:
                failures.append(str(error))
                continue
            try:
                code = process.wait(timeout=left)
                if code != 0:
                    failures.append(f"exit code {code} of {' '.join(str(word) for word in command)}")
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                failures.append(f"more than {LIMITS[name]} s")
                break
    last = (log.read_text(errors="replace").strip().splitlines() or [""])[-1][:160]
    outcome = "passed" if not failures else "failed: " + "; ".join(failures)
    return {"part": name, "outcome": outcome, "secs": round(time.monotonic() - start, 1), "last_line": last}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--device", default="cuda:0", help="cuda:N or cpu [cuda:0]")
    parser.add_argument("--rows", type=int, default=8, help="rows of 4,096 tokens in a step of the paper's models [8]")
    parser.add_argument("--tiny", action="store_true", help="models that a CPU can step")
    parser.add_argument("--only", help="parts, separated by commas")
    args = parser.parse_args()
    if not (PROGRAMS / "brt").exists():
        parser.error(f"{PROGRAMS}: expected programs; run benchmarks/gpu/pack.sh where there is Rust")
    out = args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    env, summary = environment(), []
    for name, commands in parts(args, out):
        if args.only and name not in args.only.split(","):
            continue
        summary.append(run(name, commands, out, env))
        print("{part}: {outcome} in {secs} s: {last_line}".format(**summary[-1]), flush=True)
        (out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    sys.exit(any(part["outcome"] != "passed" for part in summary))


if __name__ == "__main__":
    main()
