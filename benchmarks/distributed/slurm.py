"""Runs the job scripts of docs/scaling.md under a real Slurm: two nodes with two processes each, in network namespaces.

    python3 benchmarks/distributed/slurm.py --text TEXTS --out FOLDER    # as root; Debian's slurm-wlm and munge, target/release/brt

Prepares a corpus by the job array, trains on it with one process killed in the middle, and compares tokens and losses with
those of one process and of `brt launch`. Writes slurm.json into the folder.
"""
import argparse
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BRT = ROOT / "target/release/brt"
CONFIG = ROOT / "benchmarks/configs/laptop/rec_fixed_skip.toml"
NODES = ["brt-node1", "brt-node2"]
STEPS = 300


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--text", required=True, type=Path, help="folder of texts, as `brt data prepare --corpus folder:` takes it")
    parser.add_argument("--out", required=True, type=Path)
    a = parser.parse_args()
    shared = (a.out / "shared").resolve()
    (shared / "runs").mkdir(parents=True)
    train_script, array_script, merge = scripts(shared, a.text.resolve())
    with Cluster(a.out.resolve()) as cluster:
        number = cluster.submit(array_script)
        cluster.wait(number)
        subprocess.run(["bash", "-c", merge], check=True, cwd=a.out)
        brt("data", "prepare", "--corpus", f"folder:{a.text}", "--out", shared / "alone")
        parts, alone = [tokens(shared / name) for name in ("books", "alone")]
        killed, number = None, cluster.submit(train_script)
        while cluster.is_running(number):
            if killed is None and last_step(shared / "runs/first") >= STEPS // 3:
                killed = kill_a_process(number)
        states, restarts = cluster.states(number), cluster.restarts(number)
    brt("launch", "--nproc", 4, "train", CONFIG, "--data", shared / "books", "--out", shared / "runs/calm", *OPTIONS)
    results = [json.loads((shared / "runs" / name / "result.json").read_text()) for name in ("first", "calm")]
    summary = {
        "slurm": subprocess.run(["slurmd", "-V"], capture_output=True, text=True).stdout.strip(),
        "num_nodes": len(NODES),
        "num_processes": 4,
        "num_steps": STEPS,
        "states": states,
        "killed_rank": killed,
        "restarts": restarts,
        "num_resumes": results[0]["training"]["num_resumes"],
        "losses_are_equal": losses(results[0]) == losses(results[1]),
        "num_tokens": {split: len(part) // 2 for split, part in parts.items()},
        "tokens_are_equal": parts == alone,
        "commit": results[0]["build"]["commit"],
        "machine": results[0]["machine"],
    }
    (a.out / "slurm.json").write_text(json.dumps(summary, indent=2) + "\n")
    print(json.dumps(summary, indent=2))
    sys.exit(not (states == ["COMPLETED"] and restarts == 1 and summary["losses_are_equal"] and summary["tokens_are_equal"]))


def tokens(corpus):
    """The tokens of each split, two bytes each, in the order of its files."""
    splits = {}
    for path in sorted(corpus.glob("*.tokens")):
        splits[path.name.split(".")[-2]] = splits.get(path.name.split(".")[-2], b"") + path.read_bytes()
    return splits


OPTIONS = ["--threads", 1, "--steps", STEPS, "--train.checkpoint_every=20", "--model.vocab_size=260"]
RUNNING = {"PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "REQUEUED", "SUSPENDED"}
LIMIT = 300  # Seconds of a job, those in the queue included.


def scripts(shared, text):
    """The scripts of the documentation, with this machine's sizes and paths."""
    blocks = re.findall(r"```[a-z]*\n(.*?)```", (ROOT / "docs/scaling.md").read_text(), re.S)
    train = next(block for block in blocks if "--ntasks-per-node" in block)
    array, merge = next(block for block in blocks if "--array" in block).split("\n\n")
    changes = {
        "--nodes=4 --ntasks-per-node=8": "--nodes=2 --ntasks-per-node=2",
        "--array=1-100": "--array=1-5",
        "/100": "/5",
        "-of-100": "-of-5",
        "rec.toml": f"{CONFIG} {' '.join(map(str, OPTIONS))}",
        "jsonl:/shared/books": f"folder:{text}",
        "/shared/books-prepared": f"{shared}/books",
        "/shared/": f"{shared}/",
        "brt ": f"{BRT} ",
    }
    pattern = re.compile("|".join(map(re.escape, changes)))
    train, array, merge = (pattern.sub(lambda match: changes[match[0]], block) for block in (train, array, merge))
    return train, array, merge


class Cluster:
    """slurmctld here, and a slurmd on each of two hosts."""

    def __init__(self, folder):
        self.folder, self.daemons, self.submitted = folder, [], {}

    def __enter__(self):
        os.makedirs("/run/munge", exist_ok=True)
        if subprocess.run(["pgrep", "munged"], capture_output=True).returncode != 0:
            subprocess.run(["chown", "munge:", "/run/munge"], check=True)
            self.start(["runuser", "-u", "munge", "--", "munged", "--foreground"])
        ip("link", "add", "brt-bridge", "type", "bridge")
        ip("address", "add", "10.79.0.254/24", "dev", "brt-bridge")
        ip("link", "set", "brt-bridge", "up")
        names = f"127.0.0.1 localhost\n10.79.0.254 {socket.gethostname()}\n" + "".join(f"10.79.0.{i + 1} {name}\n" for i, name in enumerate(NODES))
        (self.folder / "hosts").write_text(names)
        for i, name in enumerate(NODES):
            ip("netns", "add", name)
            ip("link", "add", f"brt-veth{i}", "type", "veth", "peer", "name", "eth0", "netns", name)
            ip("link", "set", f"brt-veth{i}", "master", "brt-bridge", "up")
            ip("-n", name, "address", "add", f"10.79.0.{i + 1}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")
            ip("-n", name, "link", "set", "lo", "up")
        for name in ("state", "spool-" + NODES[0], "spool-" + NODES[1]):
            (self.folder / name).mkdir()
        conf = self.folder / "slurm.conf"
        conf.write_text(CONF.format(folder=self.folder, control=socket.gethostname(), cpus=os.cpu_count()))
        os.environ["SLURM_CONF"] = str(conf)
        self.start(["slurmctld", "-D", "-f", conf])
        for name in NODES:
            # With names of its own, and not by `ip netns exec`, which hides the control groups that slurmd looks for.
            command = f"mount --bind {self.folder}/hosts /etc/hosts && exec slurmd -D -N {name} -f {conf}"
            self.start(["nsenter", f"--net=/run/netns/{name}", "unshare", "--mount", "sh", "-c", command])
        return self

    def start(self, command):
        log = open(self.folder / f"daemon-{len(self.daemons)}.txt", "w")
        self.daemons.append(subprocess.Popen([str(word) for word in command], stdout=log, stderr=log))

    def __exit__(self, *_):
        subprocess.run(["scancel", "--user", "root"])
        time.sleep(2)
        for daemon in reversed(self.daemons):
            daemon.terminate()
            daemon.wait()
        for i, name in enumerate(NODES):
            ip("link", "delete", f"brt-veth{i}")
            ip("netns", "delete", name)
        ip("link", "delete", "brt-bridge")

    def submit(self, script):
        path = self.folder / f"job-{time.monotonic_ns()}.sh"
        path.write_text(script)
        for _ in range(60):  # The controller needs a moment.
            done = subprocess.run(["sbatch", "--parsable", path], cwd=self.folder, capture_output=True, text=True)
            if done.returncode == 0:
                return done.stdout.strip()
            time.sleep(0.5)
        sys.exit(done.stderr)

    def states(self, number):
        return re.findall(r"JobState=(\S+)", self.show(number))

    def is_running(self, number):
        """Waits a moment, and tells whether a job, or one of its array, has not ended."""
        time.sleep(0.2)
        since = self.submitted.setdefault(number, time.monotonic())
        if time.monotonic() - since > LIMIT:
            sys.exit(f"job {number}: {self.states(number)} after {LIMIT} s, see {self.folder}")
        return any(state in RUNNING for state in self.states(number))

    def restarts(self, number):
        return int(re.search(r"Restarts=(\d+)", self.show(number))[1])

    def show(self, number):
        return subprocess.run(["scontrol", "show", "job", number], capture_output=True, text=True, check=True).stdout

    def wait(self, number):
        while self.is_running(number):
            pass
        if set(self.states(number)) != {"COMPLETED"}:
            sys.exit(f"job {number}: {self.states(number)}, see {self.folder}")


# Requeued jobs start again after a second instead of the usual two minutes.
CONF = """ClusterName=brt
SlurmctldHost={control}(10.79.0.254)
SlurmUser=root
AuthType=auth/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=requeue_delay=1,sched_interval=1,bf_interval=1
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
NodeName=brt-node1 NodeAddr=10.79.0.1 NodeHostname=brt-node1 CPUs={cpus} State=UNKNOWN
NodeName=brt-node2 NodeAddr=10.79.0.2 NodeHostname=brt-node2 CPUs={cpus} State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def ip(*arguments):
    subprocess.run(["ip", *arguments], check=True)


def brt(*arguments):
    subprocess.run([str(word) for word in (BRT, *arguments)], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def kill_a_process(job):
    """Kills rank 3 of a job, and returns its number."""
    for entry in Path("/proc").iterdir():
        try:
            variables = (entry / "environ").read_bytes().split(b"\0")
            if (entry / "comm").read_text() == "brt\n" and {b"RANK=3", f"SLURM_JOB_ID={job}".encode()} <= set(variables):
                os.kill(int(entry.name), signal.SIGKILL)
                return 3
        except (OSError, ValueError):
            pass
    return None


def last_step(run):
    folder = run / "checkpoints"
    names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    return max((int(name[5:]) for name in names if name[5:].isdigit()), default=0)


def losses(result):
    line = lambda l: [l["step"], l["train_bits_per_token"], l.get("validation_bits_per_byte")]
    return [[line(l) for l in result["curve"]], result["test"], result["test_state_reset"]]


main()
