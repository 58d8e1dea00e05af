#!/usr/bin/env python3
"""Kills commands that write, and counts what is lost and what is left.

    tests/peers/kills.py target/release/dinomaly tests/fixtures/released/format-1/model [KILLS]

Each command is killed KILLS times (default 40) at random times, and with strace (Linux) at every system call that makes a file
appear, vanish or last. After every kill its result must be whole, the earlier one or the new one; after one more run nothing may lie
beside it, and that run must succeed. Exit status 1 otherwise.
"""

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time

CALLS = ["rename", "renameat", "renameat2", "fsync", "fdatasync", "unlink", "unlinkat", "mkdir", "linkat", "symlinkat"]
TRAIN = "train data --out out --iterations 3 --batch 2 --resize 64 --crop 64 --holdout 0.3"

program, model = (os.path.abspath(path) for path in sys.argv[1:3])
kills = int(sys.argv[3]) if len(sys.argv) > 3 else 40
quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def is_model(path):
    return subprocess.run([program, "inspect", path], **quiet).returncode == 0


def ends_with(end):
    def whole(path):
        with open(path, "rb") as file:
            return file.read().rstrip().endswith(end)

    return whole


def is_json(path):
    with open(path, encoding="utf-8") as file:
        json.load(file)
    return True


def are_pngs(path):
    return all(ends_with(b"IEND\xaeB`\x82")(os.path.join(path, name)) for name in os.listdir(path))


# Arguments, what they write, whether that is whole, whether an earlier result stands there first.
COMMANDS = {
    "quantize": ("quantize model --to f16 --out out", "out", is_model, True),
    "calibrate": ("calibrate model data --out out", "out", is_model, True),
    "train": (TRAIN, "out", is_model, False),
    "train --restart": (TRAIN + " --restart", "out", is_model, True),
    "evaluate --report": ("evaluate model data --report out", "out", ends_with(b"</html>"), True),
    "evaluate --json": ("evaluate model data --json out", "out", is_json, True),
    "detect --heatmaps": ("detect model data/gear/test/good --heatmaps out", "out", are_pngs, True),
    "attention": ("attention model photo.png --out out", "out", are_pngs, True),
    "generate": ("generate out --size 48 --train 2 --good 1 --defective 1 --classes gear", "out", None, False),
}


def clear():
    for name in set(os.listdir(".")) - {"model", "data", "photo.png"}:
        shutil.rmtree(name) if os.path.isdir(name) and not os.path.islink(name) else os.remove(name)


def campaign(name, arguments, out, is_whole, earlier):
    command = [program, *arguments.split()]
    clear()
    begun = time.monotonic()
    subprocess.run(command, check=True, **quiet)
    usual = time.monotonic() - begun
    tried = lost = failed = 0

    def after_kill():
        nonlocal tried, lost
        tried += 1
        if is_whole and (earlier or os.path.exists(out)):
            try:
                lost += not is_whole(out)
            except (OSError, ValueError):
                lost += 1

    def prepare():
        if not earlier:
            clear()

    for _ in range(kills):
        prepare()
        process = subprocess.Popen(command, **quiet)
        time.sleep(random.uniform(0.02, 1.05) * usual)
        process.kill()
        process.wait()
        after_kill()
    for call in CALLS if shutil.which("strace") else []:
        for number in range(1, 100):
            prepare()
            inject = ["-e", f"trace={call}", "-e", f"inject={call}:signal=SIGKILL:when={number}"]
            traced = subprocess.run(["strace", "-f", "-o", "/dev/null", *inject, *command], **quiet)
            if traced.returncode == 0:
                break
            after_kill()
    # Locks of the dead are free at once, but the kernel may still be closing their files.
    time.sleep(1.2)
    if not earlier and name != "train":
        clear()
    failed = subprocess.run(command, **quiet).returncode != 0
    left = sorted(set(os.listdir(".")) - {"model", "data", "photo.png", out})
    print(f"| {name} | {tried} | {lost} | {'yes' if failed else 'no'} | {', '.join(left) or 'nothing'} |", flush=True)
    return lost or failed or left


def main():
    random.seed(4)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        shutil.copytree(model, "model")
        generate = "generate data --size 64 --train 6 --good 2 --defective 1 --classes gear"
        subprocess.run([program, *generate.split()], check=True, **quiet)
        shutil.copy("data/gear/train/good/000.png", "photo.png")
        print("| command | kills | results lost | next run fails | left after it |\n|---|---|---|---|---|")
        sys.exit(any([campaign(name, *one) for name, one in COMMANDS.items()]))


main()
