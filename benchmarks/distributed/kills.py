"""Kills random processes of a run under the real torchrun, and compares its losses with those of a run that was left alone.

    python3 benchmarks/distributed/kills.py --data CORPUS --out FOLDER --kills 12
    python3 benchmarks/distributed/kills.py --data CORPUS --out FOLDER --kills 8 --hosts 2    # as root

Needs PyTorch 2.11 in this Python (its torchrun) and target/release/brt. With two hosts (network namespaces) each has an agent of
torchrun, which meet by themselves; every fourth kill is then that of a whole host, whose agent is started again. Writes
kills.json into the folder.
"""
import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from link import Link

ROOT = Path(__file__).resolve().parents[2]
BRT = ROOT / "target/release/brt"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", default=ROOT / "benchmarks/configs/laptop/rec_fixed_skip.toml")
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--steps", default="1200")
    parser.add_argument("--kills", default=12, type=int)
    parser.add_argument("--nproc", default="2", help="processes of a host [2]")
    parser.add_argument("--hosts", default=1, type=int, choices=[1, 2])
    parser.add_argument("--seed", default=1, type=int)
    parser.add_argument("overrides", nargs="*", help="keys of the configuration, --model.vocab_size=1024")
    a, overrides = parser.parse_known_args()
    train = [BRT, "train", a.config, "--data", a.data, "--threads", "1", "--resume", "--steps", a.steps]
    train += ["--train.checkpoint_every=20", "--train.keep_last=2", *overrides]
    num_processes = int(a.nproc) * a.hosts
    launch = [BRT, "launch", "--nproc", str(num_processes), *train[1:], "--out", a.out / "calm"]
    subprocess.run(launch, check=True, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", a.nproc, "--max-restarts", str(a.kills + 3)]
    meet = ["--nnodes", "2", "--rdzv-backend", "c10d", "--rdzv-endpoint", "10.78.0.1:29400", "--rdzv-id", "kills"]
    torchrun += [*(meet if a.hosts == 2 else ["--standalone"]), "--no-python", *train, "--out", a.out / "killed"]
    with Link() if a.hosts == 2 else contextlib.nullcontext() as link:
        agents = Agents(torchrun, link, a.hosts, a.out / "torchrun.log")
        kills = kill(agents, a.out / "killed", a.kills, random.Random(a.seed))
        status = agents.wait()
    results = [json.loads((a.out / name / "result.json").read_text()) for name in ("calm", "killed")]
    calm, killed = [losses(result) for result in results]
    summary = {
        "torchrun_status": status,
        "config": Path(a.config).name,
        "overrides": overrides,
        "num_steps": int(a.steps),
        "num_hosts": a.hosts,
        "num_processes": num_processes,
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


class Agents:
    """A torchrun on each host."""

    def __init__(self, command, link, num_hosts, log):
        self.command, self.link, self.log = command, link, open(log, "w")
        self.agents = [self.start(host) for host in range(num_hosts)]

    def start(self, host):
        enter, at = [], []
        if self.link:
            # What torchrun finds out by the names of hosts, which namespaces do not have.
            enter, at = self.link.enter(host), ["--local-addr", f"10.78.0.{host + 1}", "--rdzv-conf", f"is_host={int(host == 0)}"]
        command = [*enter, *self.command[:3], *at, *self.command[3:]]
        env = dict(os.environ)
        if self.link:
            # With a store of all attempts, which is the default, an agent that is started again waits for one that stays.
            env["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
        return subprocess.Popen([str(word) for word in command], stdout=self.log, stderr=self.log, env=env)

    def are_running(self):
        return all(agent.poll() is None for agent in self.agents)

    def processes(self):
        return [pid for agent in self.agents for pid in processes(agent.pid)]

    def lose(self, host):
        """Ends a host at once, and starts its agent again."""
        ended = [self.agents[host].pid, *processes(self.agents[host].pid)]
        for pid in ended:
            end(pid)
        self.agents[host].wait()
        time.sleep(1)
        self.agents[host] = self.start(host)

    def wait(self):
        return max(abs(agent.wait()) for agent in self.agents)


def kill(agents, run, num_kills, choice):
    kills = []
    while agents.are_running() and len(kills) < num_kills:
        before, wait = last_step(run), choice.uniform(0, 3)
        while agents.are_running() and last_step(run) <= before:
            time.sleep(0.02)  # It must come further than before, else kills of a start would never end.
        time.sleep(wait)
        ranks = agents.processes()
        if not ranks:
            continue
        kills.append({"last_checkpoint": last_step(run), "seconds_after_it": round(wait, 2)})
        if len(agents.agents) == 2 and len(kills) % 4 == 0:
            kills[-1]["host"] = 1  # The other one has the rendezvous, and torchrun does not outlive that.
            agents.lose(1)
        else:
            kills[-1]["process"] = choice.randrange(len(ranks))
            end(ranks[kills[-1]["process"]])
        print("killed", kills[-1], flush=True)
    return kills


def end(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # It has ended by itself.


def last_step(run):
    folder = run / "checkpoints"
    names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    return max((int(name[5:]) for name in names if name[5:].isdigit()), default=0)


def processes(parent):
    """The processes of brt that torchrun has started."""
    name = lambda pid: Path(f"/proc/{pid}/comm").read_text().strip()
    try:
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
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
