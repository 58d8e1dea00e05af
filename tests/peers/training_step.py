"""Our training step against PyTorch's: the same head, batch and cached features, the same number of threads, in turn.

    cargo bench -p dinomaly-tests --bench train --no-run       # names the program
    python3 -m venv VENV && VENV/bin/pip install torch timm numpy pillow
    VENV/bin/python tests/peers/training_step.py PROGRAM --shape tiny --grid 14 [--peers official expert-f32 expert] [--rounds 11]

All are loaded and warmed up first; then every round takes one step of each, so that other work on the machine meets all alike. Printed
are median milliseconds a step, of the clock and of all cores together, and medians of our share of each peer's time within a round.
`official` is PyTorch as the official script trains, `expert` is compiled, in bf16 or in f32: see pytorch.py.
"""

import argparse
import os
import subprocess
import time
from pathlib import Path

import numpy as np
import torch
from pytorch import Training, options_of

PEERS = {
    "official": ["--mode", "official"],
    "expert-f32": ["--mode", "expert", "--f32"],
    "expert": ["--mode", "expert"],
}


def core_milliseconds(process):
    """Milliseconds that all threads of a process have run."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return 1e3 * (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Ours:
    def __init__(self, program, options):
        command = [program, "--device", "cpu", "--turns", "--shape", options.shape, "--grid", str(options.grid)]
        command += ["--batch", str(options.batch), "--count", str(options.count), "--warmup", str(options.warmup)]
        environment = os.environ | {"RAYON_NUM_THREADS": str(options.threads)}
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        if self.process.stdout.readline().strip() != "ready":
            raise SystemExit(f"{program} ended before it was ready")

    def step(self):
        before = core_milliseconds(self.process.pid)
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        milliseconds = float(self.process.stdout.readline())
        return milliseconds, core_milliseconds(self.process.pid) - before


class Peer:
    def __init__(self, words, options):
        parser = argparse.ArgumentParser()
        options_of(parser)
        shared = ["--shape", options.shape, "--grid", str(options.grid), "--batch", str(options.batch)]
        shared += ["--count", str(options.count), "--cached", "--device", "cpu"]
        self.training = Training(parser.parse_args(shared + words))
        self.training.round_of(options.warmup)

    def step(self):
        before = core_milliseconds(os.getpid())
        return 1e3 * self.training.round_of(1), core_milliseconds(os.getpid()) - before


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("program")
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=["official", "expert-f32"])
    parser.add_argument("--shape", choices=["tiny", "small", "base", "large"], default="tiny")
    parser.add_argument("--grid", type=int, default=14, help="patches along a side")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--count", type=int, default=32, help="photos to train on")
    parser.add_argument("--warmup", type=int, default=3, help="steps that are not counted")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    sides = {"ours": Ours(options.program, options)} | {name: Peer(PEERS[name], options) for name in options.peers}
    rounds = [{name: side.step() for name, side in sides.items()} for _ in range(options.rounds)]
    print(f"{'':<12}{'ms':>10}{'of cores':>10}{'ours / it':>11}")
    for name in sides:
        clock, cores = (np.median([times[name][i] for times in rounds]) for i in (0, 1))
        print(f"{name:<12}{clock:10.0f}{cores:10.0f}{np.median([times['ours'][0] / times[name][0] for times in rounds]):11.2f}")


if __name__ == "__main__":
    main()
