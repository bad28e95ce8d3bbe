"""Measures `brt data` on large inputs made by repetition, one command at a time, and writes what it saw as JSON.

    python3 benchmarks/data/measure.py --brt target/release/brt --work /tmp/measure --out measured.json

Needs 25 GB of disk and the program `zstd`. Every figure is of one run; wall and processor time and the largest resident
memory are those of the whole process.
"""

import argparse
import json
import os
import pathlib
import platform
import shutil
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BOOKS = ROOT / "crates/brt-data/corpora/books.jsonl.zst"


def run(brt, arguments):
    """Runs `brt data …` and returns what it took."""
    load = os.getloadavg()[0]
    start = time.perf_counter()
    process = subprocess.Popen([brt, "data", *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    output = process.stdout.read().decode()
    errors = process.stderr.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"brt data {' '.join(map(str, arguments))} failed: {errors}")
    return {
        "command": " ".join(["brt", "data", *(str(a).replace(str(WORK), "WORK") for a in arguments)]),
        "wall_secs": round(time.perf_counter() - start, 2),
        "user_secs": round(usage.ru_utime, 2),
        "system_secs": round(usage.ru_stime, 2),
        "peak_resident_bytes": usage.ru_maxrss * 1024,
        "load_average_before": load,
        "output": output.splitlines(),
    }


def repeat(text, count, path):
    """Writes a text many times into a file and returns the file's length."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for _ in range(count):
            file.write(text)
    return path.stat().st_size


def counts(measured):
    """Returns documents, tokens, bytes and words of all splits that a preparation printed."""
    rows = [line.split() for line in measured["output"] if line.split()[0] in ("train", "validation", "test")]
    return [sum(int(row[i].replace(",", "")) for row in rows) for i in range(1, 5)]


def check(measured, expected):
    """Compares the counts of documents, bytes and words with what Python counted."""
    documents, _, num_bytes, words = counts(measured)
    assert (documents, num_bytes, words) == expected, f"{(documents, num_bytes, words)}, expected {expected}"
    measured["counted_by_python"] = dict(zip(("documents", "bytes", "words"), expected))
    return measured


def measure(brt):
    lines = subprocess.run(["zstd", "-dc", BOOKS], check=True, capture_output=True).stdout
    texts = [json.loads(line)["text"] for line in lines.splitlines()]
    one = (len(texts), sum(len(text.encode()) for text in texts), sum(len(text.split()) for text in texts))

    def times(count):
        return tuple(count * number for number in one)

    results = {}
    num_bytes = sum(repeat(lines, 95, WORK / f"ten/{i}.jsonl") for i in range(10))
    ten = run(brt, ["prepare", "--corpus", f"jsonl:{WORK}/ten", "--out", WORK / "ten-out"])
    results["prepare_10_gb"] = check(ten, times(950)) | {"input_bytes": num_bytes}
    results["verify_10_gb"] = run(brt, ["verify", WORK / "ten-out"])
    results["verify_10_gb"]["file_bytes"] = sum(path.stat().st_size for path in (WORK / "ten-out").iterdir())
    shutil.rmtree(WORK / "ten-out")

    bpe = WORK / "bpe.json"
    results["train_bpe_16k"] = run(brt, ["train-tokenizer", "--corpus", "books", "--vocab-size", 16384, "--out", bpe])
    (WORK / "gb").mkdir()
    (WORK / "ten/0.jsonl").rename(WORK / "gb/0.jsonl")
    gigabyte = run(brt, ["prepare", "--corpus", f"jsonl:{WORK}/gb", "--tokenizer", bpe, "--out", WORK / "gb-out"])
    results["prepare_1_gb_bpe_16k"] = check(gigabyte, times(95)) | {"input_bytes": num_bytes // 10}
    shutil.rmtree(WORK / "ten")

    text = "".join(texts).encode()
    num_bytes = repeat(text, 202, WORK / "one/a.txt")
    arguments = ["--corpus", f"files:{WORK}/one", "--validation", 0, "--test", 0, "--out", WORK / "one-out"]
    document = run(brt, ["prepare", *arguments])
    words = len((text * 2).decode().split()) - len(text.decode().split())  # Of a further copy, whose start joins.
    expected = (1, num_bytes, len(text.decode().split()) + 201 * words)
    results["prepare_one_document_of_2_gb"] = check(document, expected) | {"input_bytes": num_bytes}

    # A document of 30 KB, 100,000 times: each held-out copy shares all its runs with each training copy.
    row = json.dumps({"text": "".join(f"line {i} of a text that repeats itself\n" for i in range(800))}) + "\n"
    num_bytes = repeat(row.encode(), 100_000, WORK / "same/a.jsonl")
    results["prepare_100_000_copies"] = run(
        brt, ["prepare", "--corpus", f"jsonl:{WORK}/same", "--out", WORK / "same-out"]
    ) | {"input_bytes": num_bytes}
    return results


def machine():
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    git = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
    return {
        "cpu": next(line.split(":")[1].strip() for line in lines if line.startswith("model name")),
        "num_cpus": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": platform.platform(),
        "commit": subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip(),
    }


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--brt", required=True, help="the program")
parser.add_argument("--work", required=True, type=pathlib.Path, help="an empty folder for inputs and outputs; removed")
parser.add_argument("--out", required=True, type=pathlib.Path, help="the JSON file")
ARGUMENTS = parser.parse_args()
WORK = ARGUMENTS.work
WORK.mkdir(parents=True)
try:
    FOUND = {"machine": machine(), "threads": os.cpu_count(), "measured": measure(ARGUMENTS.brt)}
finally:
    shutil.rmtree(WORK)
ARGUMENTS.out.write_text(json.dumps(FOUND, indent=1) + "\n")
