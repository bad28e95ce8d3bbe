"""Predicts how training scales over GPUs, from the sizes of the paper's models: the tables of docs/scaling.md.

    python3 benchmarks/distributed/predict.py

Nothing here was run on GPUs. What is assumed stands in the first lines; the model of a sum is the one that measure.py checks
over links of injected delay and rate.
"""
import math

# Assumed: matrix products in bfloat16 at 45 % of what an H100 can do, as docs/performance.md aims at.
FLOPS = 0.45 * 989e12
# Assumed rate of sums in bytes per second and process: within a host of 8 GPUs, between hosts with a 400 Gb/s card for each
# GPU, and between hosts with one 100 Gb/s card.
NETWORKS = {"8 × 400 Gb/s": (300e9, 300e9), "1 × 100 Gb/s": (300e9, 12.5e9)}
DELAY = 20e-6  # Of one message, in seconds.
BUCKET = 25 * 2**20  # The last bucket is summed when the backward pass has ended.
BACKWARD = 2 / 3  # Of a step.
TOKENS = 4 * 4096  # Of a step and GPU.
# Parameters and FLOPs per training token, from `brt info`.
MODELS = {
    "150M, `rec_fixed_skip`": (193_362_040, 1_254_359_040),
    "1.3B, `rec_fixed_skip_24layers_1300m`": (1_345_182_176, 8_447_852_544),
}


def seconds_of_sum(num_bytes, n, network):
    """Each process sends and receives the bytes twice, but for its own part; messages go through trees, as in NCCL."""
    rate = NETWORKS[network][0 if n <= 8 else 1]
    return 2 * (n - 1) / n * num_bytes / rate + 2 * math.log2(n) * DELAY


def efficiency(model, n, network, parts=1):
    """Share of the step in which processors compute. With parts, gradients are summed once for so many times the tokens."""
    parameters, flops = MODELS[model]
    compute = parts * TOKENS * flops / FLOPS
    # Twice in a step a few numbers, by which all decide alike, go up and down a tree; at worst with a word before each message.
    numbers = 2 * 2 * math.log2(n) * 2 * DELAY
    total, last = seconds_of_sum(4 * parameters, n, network), seconds_of_sum(BUCKET, n, network)
    hidden = BACKWARD * compute / parts  # Gradients are there in the last part's backward pass.
    return compute / (compute + max(total - hidden, last) + numbers)


def main():
    print("| model | network | step, computing | sum of gradients, 64 GPUs | 8 GPUs | 64 GPUs | 512 GPUs | 512, `accumulate = 8` |")
    print("|---|---|--:|--:|--:|--:|--:|--:|")
    for model, (parameters, flops) in MODELS.items():
        for network in NETWORKS:
            shares = [efficiency(model, n, network) for n in (8, 64, 512)] + [efficiency(model, 512, network, 8)]
            step, total = TOKENS * flops / FLOPS, seconds_of_sum(4 * parameters, 64, network)
            cells = [f"{math.floor(100 * share)}%" for share in shares]
            print(f"| {model} | {network} | {step * 1e3:.0f} ms | {total * 1e3:.0f} ms | {' | '.join(cells)} |")


main()
