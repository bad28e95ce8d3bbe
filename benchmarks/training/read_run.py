"""Reads what a run wrote with other people's programs: events with TensorBoard, checkpoints with safetensors.

    pip install tensorboard safetensors numpy
    python3 benchmarks/training/read_run.py runs/first

The run must have been trained with --train.sinks '["csv", "tensorboard"]'. Every scalar and every tensor is read, and the
scalars are compared with `metrics.jsonl` and `metrics.csv`.
"""

import csv
import json
import pathlib
import sys

import numpy as np
from safetensors.numpy import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

RUN = pathlib.Path(sys.argv[1])
lines = [json.loads(line) for line in (RUN / "metrics.jsonl").read_text().splitlines()]

events = EventAccumulator(str(RUN), size_guidance={"scalars": 0})
events.Reload()
tags = events.Tags()["scalars"]
for tag in tags:
    part, name = tag.split("/", 1)
    got = {scalar.step: scalar.value for scalar in events.Scalars(tag)}
    place = (lambda line: line.get("statistics", {})) if part == "statistics" else (lambda line: line)
    expected = {line["step"]: place(line)[name] for line in lines if name in place(line)}
    assert got.keys() == expected.keys(), tag
    assert all(np.float32(expected[step]) == np.float32(value) for step, value in got.items()), tag
print(f"TensorBoard: {len(tags)} scalars at up to {len(lines)} steps, all as in metrics.jsonl")

rows = list(csv.DictReader((RUN / "metrics.csv").open()))
assert [int(row["step"]) for row in rows] == [line["step"] for line in lines]
assert all(float(row["train_bits_per_byte"]) == line["train_bits_per_byte"] for row, line in zip(rows, lines))
print(f"CSV: {len(rows)} rows, all as in metrics.jsonl")

checkpoint = max((RUN / "checkpoints").glob("step-*"), key=lambda path: int(path.name.split("-")[1]))
for file in sorted(checkpoint.glob("*.safetensors")):
    tensors = load_file(file)
    assert all(np.isfinite(tensor).all() for tensor in tensors.values())
    values = sum(tensor.size for tensor in tensors.values())
    print(f"safetensors: {checkpoint.name}/{file.name}: {len(tensors)} tensors, {values} values, all finite")
