#!/usr/bin/env python3
"""`dinomaly fewshot` against anomalib's AnomalyDINO and RAD on the same encoder and photos: time, memory, AUROC.

    DINOMALY_DATA=DATA DINOMALY_WEIGHTS=WEIGHTS tests/peers/anomalib_few_shot.py PROGRAM [--product magnetic_tile] [--photos 280]
        [--size 224] [--rounds 3] [--ours '--memory subspace' …]

The encoder is DeiT-Ti, WEIGHTS/deit_tiny_patch16_224.safetensors. AnomalyDINO refuses its name, and both peers would download weights:
`timm.create_model` is replaced by a function that gives this encoder, loaded, under any name. anomalib's own model classes are called in a
plain loop, eight photos at a time, with anomalib's reader and preprocessing: its Engine would only add to their time. Photos are
resized to a square on both sides.

Time is from photos to ready model: by the peers' clock after imports, for the program its whole run, which also scores each photo by the
others for thresholds and writes the model. Memory is the peers' largest resident memory less what imports take, for the program all of
it. Contenders take turns, with two threads each; those of the peers sleep while they wait, for the sake of busy machines. Time,
processor time and memory are medians over the rounds. Metrics are those of the last round, over all test photos, pixels at 256 × 256.
Printed with each of our rows: the median ratios to the peer of the same kind, AnomalyDINO, or RAD for `--memory rad`.

Needs anomalib 2.7.0.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WEIGHTS = "deit_tiny_patch16_224.safetensors"
THREADS, BATCH, MAP_SIDE = 2, 8, 256
PEERS = ["AnomalyDINO", "RAD"]
OURS = ["--memory subspace", "--memory bank --layers 11", "--memory rad --bank-size 128MiB"]
FIGURES = ["seconds", "processor", "MiB"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program", type=Path)
    parser.add_argument("--product", default="magnetic_tile")
    parser.add_argument("--photos", type=int, help="number of good photos, evenly chosen [default: all]")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ours", nargs="+", default=OURS, metavar="OPTIONS")
    parser.add_argument("--peer", choices=PEERS, help=argparse.SUPPRESS)
    parser.add_argument("--metrics", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.data = Path(os.environ["DINOMALY_DATA"]) / options.product
    options.weights = Path(os.environ["DINOMALY_WEIGHTS"]) / WEIGHTS
    if options.peer:
        print(json.dumps(peer(options)))
        return

    contenders = [*PEERS, *options.ours]
    found = {name: [] for name in contenders}
    for turn in range(options.rounds):
        for name in contenders:
            last = turn == options.rounds - 1
            measure = run_peer if name in PEERS else run_program
            found[name].append(measure(options, name, last))
            print(name, {key: round(value, 2) for key, value in found[name][-1].items()}, file=sys.stderr, flush=True)
    print(f"{len(good_photos(options))} photos of {options.product}, input {options.size}, {options.rounds} rounds")
    print("| | s | processor s | MiB | ratios | I-AUROC | P-AUROC |")
    print("|---|---|---|---|---|---|---|")
    for name in contenders:
        rows = found[name]
        values = [f"{statistics.median(row[figure] for row in rows):.1f}" for figure in FIGURES]
        ratios = ""
        if name not in PEERS:
            against = found["RAD" if "rad" in name.split() else "AnomalyDINO"]
            ratios = ", ".join(f"{statistics.median(a[f] / b[f] for a, b in zip(rows, against)):.2f}" for f in FIGURES)
        metrics = [f"{100 * rows[-1][metric]:.1f}" for metric in ("i_auroc", "p_auroc")]
        print(f"| {name} | {' | '.join(values)} | {ratios} | {' | '.join(metrics)} |")


def good_photos(options):
    """The good photos, or as many as wanted, evenly chosen."""
    photos = sorted((options.data / "train/good").iterdir())
    count = min(options.photos or len(photos), len(photos))
    return [photos[i * len(photos) // count] for i in range(count)]


def run_program(options, words, metrics):
    """Figures of the program with these options."""
    environment = {**os.environ, "RAYON_NUM_THREADS": str(THREADS)}
    with tempfile.TemporaryDirectory() as folder:
        photos, model, report = (Path(folder) / name for name in ("photos", "model", "report.json"))
        photos.mkdir()
        for photo in good_photos(options):
            (photos / photo.name).symlink_to(photo.resolve())
        command = [options.program, "fewshot", photos, "--out", model, "--backbone", options.weights, "--size", str(options.size)]
        log = Path(folder) / "log"
        with log.open("w") as out:
            start = time.perf_counter()
            process = subprocess.Popen([*command, *words.split()], stdout=out, stderr=out, env=environment)
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{words}: {log.read_text()}")
        figures = {"seconds": seconds, "processor": usage.ru_utime + usage.ru_stime, "MiB": usage.ru_maxrss / 1024}
        if metrics:
            subprocess.run([options.program, "evaluate", model, options.data, "--json", report],
                           check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
            mean = json.loads(report.read_text())["mean"]
            figures.update({metric: mean[metric] for metric in ("i_auroc", "p_auroc")})
        return figures


def run_peer(options, name, metrics):
    """Figures of a peer, in a process of its own."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(THREADS), "OMP_WAIT_POLICY": "passive"}
    command = [sys.executable, __file__, *sys.argv[1:], "--peer", name, *(["--metrics"] if metrics else [])]
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    if result.returncode:
        raise SystemExit(f"{name}: {result.stderr}")
    return json.loads(result.stdout.splitlines()[-1])


def peer(options):
    """What `run_peer` reads: this process is the peer."""
    import timm
    import torch
    from anomalib.data.utils import read_image
    from anomalib.models.image.anomaly_dino import AnomalyDINO
    from anomalib.models.image.anomaly_dino.torch_model import AnomalyDINOModel
    from anomalib.models.image.rad import Rad
    from anomalib.models.image.rad.torch_model import RadModel
    from safetensors.torch import load_file

    torch.set_num_threads(THREADS)
    create = timm.create_model

    def deit(_name, **_options):
        model = create("vit_tiny_patch16_224", pretrained=False, dynamic_img_size=True)
        model.load_state_dict(load_file(options.weights))
        return model

    timm.create_model = deit
    side = (options.size, options.size)
    Path("/proc/self/clear_refs").write_text("5")  # The largest resident memory counts from now on.
    before = memory("VmRSS")
    start, processor = time.perf_counter(), time.process_time()

    if options.peer == "RAD":
        model = RadModel()
        prepare = Rad.configure_pre_processor(side, side).transform
    else:
        model = AnomalyDINOModel()
        prepare = AnomalyDINO.configure_pre_processor(side).transform

    def batches(photos):
        for i in range(0, len(photos), BATCH):
            yield torch.stack([prepare(read_image(photo, as_tensor=True)) for photo in photos[i:i + BATCH]])

    model.train()
    for batch in batches(good_photos(options)):
        model(batch)
    if options.peer == "RAD":
        model.build_memory_bank()
    else:
        model.fit()

    figures = {
        "seconds": time.perf_counter() - start,
        "processor": time.process_time() - processor,
        "MiB": memory("VmHWM") - before,
    }
    if options.metrics:
        figures.update(metrics_of(options, model.eval(), batches))
    return figures


def memory(line):
    """A line of this process's status, in MiB."""
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{line}:")[1].split()[0]) / 1024


def metrics_of(options, model, batches):
    """AUROC of all test photos and of their pixels."""
    import numpy as np
    import torch
    from PIL import Image
    from sklearn.metrics import roc_auc_score

    photos = sorted((options.data / "test").glob("*/*"))
    scores, maps = [], []
    with torch.inference_mode():
        for batch in batches(photos):
            result = model(batch)
            scores += result.pred_score.flatten().tolist()
            resized = torch.nn.functional.interpolate(result.anomaly_map, size=MAP_SIDE, mode="bilinear", align_corners=False)
            maps.append(resized.flatten().numpy())
    masks = np.zeros((len(photos), MAP_SIDE, MAP_SIDE), bool)
    for mask, photo in zip(masks, photos):
        if photo.parent.name != "good":
            file = options.data / "ground_truth" / photo.parent.name / f"{photo.stem}_mask.png"
            mask[:] = np.array(Image.open(file).convert("L").resize((MAP_SIDE, MAP_SIDE), Image.NEAREST)) > 0
    return {
        "i_auroc": float(roc_auc_score([photo.parent.name != "good" for photo in photos], scores)),
        "p_auroc": float(roc_auc_score(masks.ravel(), np.concatenate(maps))),
    }


if __name__ == "__main__":
    main()
