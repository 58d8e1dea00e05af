#!/usr/bin/env python3
"""Metrics of `dinomaly fewshot` on real photos, for several numbers of good photos and draws of them.

    DINOMALY_DATA=DATA tests/peers/few_shot.py PROGRAM [--backbone FILE] [--photos 4,16] [--draws 3] [--memory subspace,bank]
        [--options '--size 320'] [PRODUCT …]

PRODUCT is a folder of DINOMALY_DATA in MVTec-AD's layout. The photos of a draw are those of numpy's RandomState of that seed. All
test photos count. Printed: means over the draws, with the standard deviation of I-AUROC; recall and false alarms at the
model's own threshold. Needs numpy.
"""

import argparse
import csv
import io
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program", type=Path)
    parser.add_argument("products", nargs="*", default=["few/bottle", "few/capsule", "few/leather", "screw", "magnetic_tile", "pcb"])
    parser.add_argument("--backbone")
    parser.add_argument("--photos", default="4,16")
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--memory", default="subspace,bank")
    parser.add_argument("--options", default="")
    options = parser.parse_args()
    print("| product | photos | memory | I-AUROC | P-AUROC | AUPRO | I-F1max | recall | false alarms |")
    print("|---|---|---|---|---|---|---|---|---|")
    for product in options.products:
        data = Path(os.environ["DINOMALY_DATA"]) / product
        for count in map(int, options.photos.split(",")):
            good = sorted((data / "train/good").iterdir())
            if count > len(good):
                continue
            draws = options.draws if count < len(good) else 1
            for memory in options.memory.split(","):
                found = [draw(options, data, good, count, seed, memory) for seed in range(draws)]
                mean = {name: np.mean([row[name] for row in found]) for name in found[0]}
                deviation = np.std([row["i_auroc"] for row in found])
                names = ["p_auroc", "aupro", "i_f1max", "recall", "false_alarms"]
                print(f"| {product} | {count} | {memory} | {mean['i_auroc']:.1f} ± {deviation:.1f} | "
                      + " | ".join(f"{mean[name]:.1f}" for name in names) + " |", flush=True)


def draw(options, data, good, count, seed, memory):
    """Metrics in percent with one choice of photos."""
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        photos = folder / "photos"
        photos.mkdir()
        for i in np.random.RandomState(seed).permutation(len(good))[:count]:
            shutil.copy(good[i], photos)
        model = folder / "model"
        backbone = ["--backbone", options.backbone] if options.backbone else []
        run([options.program, "fewshot", photos, "--out", model, "--memory", memory, *backbone, *options.options.split()])
        report = folder / "report.json"
        run([options.program, "evaluate", model, data, "--json", report])
        metrics = metrics_of(json.loads(report.read_text()))
        for name, place in (("recall", "defective"), ("false_alarms", "good")):
            folders = [p for p in (data / "test").iterdir() if (p.name == "good") == (place == "good")]
            rows = [row for p in folders for row in csv.DictReader(io.StringIO(run([options.program, "detect", model, p])))]
            metrics[name] = 100 * np.mean([row["defective"] in ("true", "1", "yes") for row in rows])
        return metrics


def metrics_of(report):
    mean = report["mean"]
    return {name: 100 * mean[name] for name in ("i_auroc", "p_auroc", "aupro", "i_f1max")}


def run(command):
    result = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if result.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}: {result.stderr}")
    return result.stdout


if __name__ == "__main__":
    main()
