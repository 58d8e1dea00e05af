#!/usr/bin/env python3
"""Memory and open files of long runs: 100,000 photos through `detect`, 20,000 steps of `train` (Linux).

    tests/peers/long_runs.py target/release/dinomaly tests/fixtures/released/format-1/model [PHOTOS [STEPS]]

Prints, for the second half of each run, the growth of memory from its first to its last quarter and the largest number of open files.
Exit status 1 if memory grows by more than 1 %.
"""

import os
import subprocess
import sys
import tempfile
import time

program, model = (os.path.abspath(path) for path in sys.argv[1:3])
photos = int(sys.argv[3]) if len(sys.argv) > 3 else 100_000
steps = int(sys.argv[4]) if len(sys.argv) > 4 else 20_000


def watch(what, count, command):
    begun = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    memory, files = [], 0
    while process.poll() is None:
        try:
            with open(f"/proc/{process.pid}/statm") as file:
                resident = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
            files = max(files, len(os.listdir(f"/proc/{process.pid}/fd")))
        except (FileNotFoundError, ProcessLookupError, IndexError):
            break
        memory.append(resident)
        time.sleep(0.2)
    if process.wait() != 0:
        sys.exit(f"{what}: {' '.join(command)} ended with {process.returncode}")
    seconds = time.monotonic() - begun
    half = memory[len(memory) // 2 :]
    quarter = max(len(half) // 4, 1)
    mean = lambda values: sum(values) / len(values)
    first, last = mean(half[:quarter]), mean(half[-quarter:])
    print(
        f"| {what} | {count} | {seconds:.0f} s | {max(memory) / 1e6:.1f} MB | {(last - first) / 1e6:+.2f} MB | {files} |",
        flush=True,
    )
    return last - first > 0.01 * first


def main():
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        generate = "generate data --size 64 --train 6 --good 2 --defective 1 --classes gear"
        subprocess.run([program, *generate.split()], check=True, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        seeds = [os.path.join("data/gear/train/good", name) for name in sorted(os.listdir("data/gear/train/good"))]
        os.mkdir("photos")
        for i in range(photos):
            os.link(seeds[i % len(seeds)], f"photos/{i:06}.png")
        print("| run | photos or steps | time | largest memory | growth in the second half | open files |")
        print("|---|---|---|---|---|---|")
        train = f"train data --out trained --iterations {steps} --batch 1 --resize 64 --crop 64 --holdout 0.3"
        found = [
            watch("detect", photos, [program, "detect", model, "photos"]),
            watch("train", steps, [program, *train.split()]),
        ]
        sys.exit(any(found))


main()
