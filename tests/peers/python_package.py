"""Photos through the Python package and through the program, in turns, as whole processes.

    cargo build --release && maturin build --release --manifest-path python/Cargo.toml --out wheels
    python3 -m venv VENV && VENV/bin/pip install wheels/dinomaly-*.whl
    VENV/bin/python tests/peers/python_package.py target/release/dinomaly MODEL FOLDER [--photos 100] [--rounds 5]

FOLDER holds photos, in folders below it, too. Python's time has its start and the import of numpy in it. Scores are compared.
"""

import argparse
import csv
import io
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

SCRIPT = """
import sys, dinomaly
for photo, result in zip(sys.argv[2:], dinomaly.Detector.load(sys.argv[1]).detect(sys.argv[2:])):
    print(photo, result.score, result.map.max(), result.verdict, sep=",")
"""


def measured(command):
    """Output, and seconds elapsed and on the processor."""
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    elapsed, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return output, elapsed, used


def processor():
    names = [line.partition(":")[2].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")]
    return f"{names[0]} ({len(names)} threads)" if names else platform.processor()


def main():
    options = argparse.ArgumentParser()
    options.add_argument("program")
    options.add_argument("model")
    options.add_argument("folder", type=Path)
    options.add_argument("--photos", type=int, default=100)
    options.add_argument("--rounds", type=int, default=5)
    options = options.parse_args()
    endings = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}
    photos = [str(path) for path in sorted(options.folder.rglob("*")) if path.suffix.lower() in endings]
    photos = photos[: options.photos]
    times = {"program": [], "Python": []}
    for _ in range(options.rounds):
        output, *seconds = measured([options.program, "detect", options.model, *photos])
        times["program"].append(seconds)
        by_program = [(row["photo"], row["score"]) for row in csv.DictReader(io.StringIO(output))]
        output, *seconds = measured([sys.executable, "-c", SCRIPT, options.model, *photos])
        times["Python"].append(seconds)
        by_python = [tuple(line.split(",")[:2]) for line in output.splitlines()]
        assert by_program == by_python, "scores differ"
    print(f"{len(photos)} photos, scores equal, {options.rounds} rounds in turns on {processor()}")
    for i, kind in enumerate(["elapsed", "on the processor"]):
        program, python = ([seconds[i] for seconds in times[name]] for name in ["program", "Python"])
        medians = statistics.median(program), statistics.median(python)
        ratio = statistics.median(b / a for a, b in zip(program, python))
        print(f"{kind}: program {medians[0]:.2f} s, Python {medians[1]:.2f} s (medians); median ratio of a round {ratio:.3f}")


main()
