"""A peer of brt as a process: commands are lines on stdin, answers are lines of JSON on stdout. See README.md.

    python contestant.py plain a.toml tokens.bin --threads 1 --precision bf16 --device cpu
"""

import argparse
import contextlib
import importlib
import json
import os
import resource
import sys
import time
import tomllib
import traceback

sys.dont_write_bytecode = True  # Measuring leaves the working tree clean.
MODULES = {"plain": "plain_torch", "port": "port"}
SUPPORTED = {
    "carry": "differentiable", "position": {"kind": "t5"}, "qk_norm": "unit", "temperature": "raw",
    "logit_divisor": "sqrt_vocab_size", "dropout": 0.0, "attention_dropout": 0.0,
    "recurrence.gate": "fixed", "recurrence.layout": "skip", "recurrence.feedback": False,
    "recurrence.clear_state": False,
}


class Parser(argparse.ArgumentParser):
    def error(self, message):
        raise ValueError(message)


def parse(arguments):
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=MODULES)
    parser.add_argument("config", help="run configuration of brt, complete, without `extends`")
    parser.add_argument("tokens", help="one byte for each token")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--prompt-len", type=int, default=1024)
    parser.add_argument("--generate", type=int, default=256, help="tokens that `generate` makes")
    parser.add_argument("--documented-tokens", type=int, default=16, help="tokens that `generate_documented` makes")
    return parser.parse_args(arguments)


def read_config(path):
    """The configuration, if the peers have a model for it."""
    with open(path, "rb") as file:
        config = tomllib.load(file)
    if "extends" in config:
        raise ValueError(f"{path}: expected a complete configuration, got one that extends {config['extends']!r}")
    model = config["model"]
    given = model | {f"recurrence.{key}": value for key, value in model.get("recurrence", {}).items()}
    for key, expected in SUPPORTED.items():
        if given.get(key, expected) != expected:
            raise ValueError(f"model.{key}: expected {expected}, got {given[key]}")
    for key in ("memory", "stack_window_len"):
        if key in model:
            raise ValueError(f"model.{key}: expected none, got {model[key]}")
    return config


class Runner:
    """A contestant with its optimiser, its tokens and the clocks."""

    def __init__(self, options):
        import torch

        self.torch, self.options, self.device = torch, options, torch.device(options.device)
        torch.set_num_threads(options.threads)
        torch.set_num_interop_threads(1)
        torch.manual_seed(1)
        config = read_config(options.config)
        self.batch, self.segment_len = config["data"]["batch"], config["data"]["segment_len"]
        tokens = torch.from_file(options.tokens, size=os.path.getsize(options.tokens), dtype=torch.uint8)
        row_len = len(tokens) // self.batch
        for name, got, wanted in (
            ("a row", row_len, self.segment_len + 1), ("the file", len(tokens), options.prompt_len)):
            if got < wanted:
                raise ValueError(f"{options.tokens}: expected at least {wanted} tokens in {name}, got {got}")
        self.rows = tokens[: self.batch * row_len].view(self.batch, row_len)
        self.prompt = tokens[None, : options.prompt_len].long().to(self.device)
        self.contestant = importlib.import_module(MODULES[options.kind]).Contestant(config)
        self.model = self.contestant.model.to(self.device)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3, weight_decay=0.0, fused=True)
        self.num_steps = 0

    def ready(self):
        num_parameters = sum(parameter.numel() for parameter in self.model.parameters())
        version = f"torch {self.torch.__version__}"
        return {"name": self.contestant.name, "num_parameters": num_parameters, "version": version}

    def autocast(self):
        is_bf16 = self.options.precision == "bf16"
        return self.torch.autocast(self.device.type, dtype=self.torch.bfloat16, enabled=is_bf16)

    @contextlib.contextmanager
    def clocks(self, answer):
        self.synchronize()
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self.synchronize()
        answer |= {"wall_secs": time.perf_counter() - wall, "cpu_secs": time.process_time() - cpu}

    def synchronize(self):
        if self.device.type == "cuda":
            self.torch.cuda.synchronize(self.device)

    def segment(self):
        """Inputs and targets [B, N] of the next segment of each row."""
        first = self.num_steps * self.segment_len
        at = self.torch.arange(first, first + self.segment_len + 1) % self.rows.shape[1]
        tokens = self.rows[:, at].long().to(self.device)
        return tokens[:, :-1], tokens[:, 1:]

    def step(self):
        answer = {}
        self.model.train()
        with self.clocks(answer):
            inputs, targets = self.segment()
            self.optimizer.zero_grad()
            with self.autocast():
                logits = self.contestant.forward(inputs)
            loss = self.torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), targets.flatten())
            loss.backward()
            self.optimizer.step()
        self.num_steps += 1
        return answer | {"loss": loss.item()}

    def generate(self, make, num_tokens):
        """Times `make`, which returns the likeliest tokens after the prompt, and how it made them."""
        answer = {}
        self.model.eval()
        with self.torch.no_grad(), self.autocast(), self.clocks(answer):
            tokens, way = make(self.prompt, num_tokens)
        assert tokens.shape == (1, num_tokens), tokens.shape
        return answer | {"num_tokens": num_tokens, "way": way}

    def quit(self):
        peak_device = self.torch.cuda.max_memory_allocated(self.device) if self.device.type == "cuda" else None
        peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return {"peak_bytes": peak_bytes, "peak_device_bytes": peak_device}

    def answer(self, command):
        match command:
            case "step":
                return self.step()
            case "generate":
                return self.generate(self.contestant.generate, self.options.generate)
            case "generate_documented" if hasattr(self.contestant, "generate_documented"):
                return self.generate(self.contestant.generate_documented, self.options.documented_tokens)
            case "quit":
                return self.quit()
            case _:
                return {"error": f"unknown command {command!r}"}


def main():
    # Whatever else is printed, by libraries too, goes to stderr.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def write(answer):
        print(json.dumps(answer), file=answers)

    try:
        runner = Runner(parse(sys.argv[1:]))
        write(runner.ready())
        for line in sys.stdin:
            write(runner.answer(line.strip()))
            if line.strip() == "quit":
                break
    except Exception as error:
        text = str(error).strip().split("\n")[0]
        write({"error": f"{type(error).__name__}: {text}"})
        if os.environ.get("PEERS_DEBUG") == "1":
            traceback.print_exc()
        sys.exit(1)


main()
