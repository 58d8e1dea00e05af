#!/usr/bin/env python3
"""`dinomaly score` against anomalib's own `Engine.predict` on the same checkpoint and photos: time and memory.

    DINOMALY_WEIGHTS=WEIGHTS VENV/bin/python tests/peers/anomalib_predict.py PROGRAM [--photos 500] [--rounds 3] [--batches 1 8]

The encoder is DeiT-Ti (WEIGHTS/deit_tiny_patch16_224.safetensors) at 224 pixels, the decoder random, in a checkpoint that anomalib writes
and `dinomaly import` reads. anomalib would download weights: `timm.create_model` is replaced by a function that gives this encoder. Its engine
predicts from files without drawing and without keeping predictions, one photo at a time as it does by default, and in larger batches.

anomalib's time and memory are counted after its imports, and its memory is what the process grew by. Ours is the whole process, start and
model included, in both. Both take turns with two threads; PyTorch's wait for each other without turning, which on a busy machine takes five times
the processor's time. Scores are compared.

Needs anomalib 2.7.0.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WEIGHTS = "deit_tiny_patch16_224.safetensors"
THREADS, SIDE = 2, 224
PEER = os.environ | {"OMP_NUM_THREADS": str(THREADS), "OMP_WAIT_POLICY": "passive"}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program", type=Path)
    parser.add_argument("--photos", type=int, default=500)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--peer", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peer:
        print(json.dumps(predict(options.peer, options.batches[0])))
        return
    with tempfile.TemporaryDirectory() as folder:
        compare(options, Path(folder))


def compare(options, folder):
    program = options.program.resolve()

    def run(*words):
        subprocess.run([program, *map(str, words)], check=True, capture_output=True)

    run("generate", folder / "drawn", "--classes", "gear", "--size", options.size, "--train", options.photos, "--good", 1, "--defective", 1)
    photos = folder / "photos"
    (folder / "drawn/gear/train/good").rename(photos)
    (folder / "few").mkdir()
    for path in sorted(photos.iterdir())[:8]:
        (folder / "few" / path.name).write_bytes(path.read_bytes())
    subprocess.run([sys.executable, __file__, program, "--peer", folder / "write"], check=True, capture_output=True)
    run("import", folder / "model.ckpt", "--data", folder / "few", "--out", folder / "model")
    found = {}
    for turn in range(options.rounds):
        for batch in options.batches:
            words = [sys.executable, __file__, program, "--peer", folder / "predict", "--batches", batch]
            output = subprocess.run([str(word) for word in words], env=PEER, check=True, capture_output=True, text=True).stdout
            found.setdefault(f"anomalib, batches of {batch}", []).append(json.loads(output.splitlines()[-1]))
        begun = time.perf_counter()
        words = ["score", folder / "model", "--from", photos, "--to", folder / f"results-{turn}"]
        threads = os.environ | {"RAYON_NUM_THREADS": str(THREADS)}
        process = subprocess.Popen([program, *map(str, words)], env=threads, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        assert status == 0
        seconds, processor = time.perf_counter() - begun, used.ru_utime + used.ru_stime
        found.setdefault("ours", []).append({"seconds": seconds, "processor": processor, "MiB": used.ru_maxrss / 1024})
        print({name: {key: round(value, 1) for key, value in rows[-1].items() if key != "scores"} for name, rows in found.items()}, file=sys.stderr)
    csv = subprocess.run([program, "detect", folder / "model", photos], check=True, capture_output=True, text=True).stdout
    ours = {line.split(",")[0].rpartition("/")[2]: float(line.split(",")[1]) for line in csv.splitlines()[1:]}
    theirs = found[f"anomalib, batches of {options.batches[0]}"][0]["scores"]
    assert set(ours) == set(theirs) and len(ours) == options.photos
    print("largest relative difference of a score:", max(abs(ours[name] / theirs[name] - 1) for name in ours))
    print("| | s | processor s | MiB |\n|---|---|---|---|")
    figures = ["seconds", "processor", "MiB"]
    for name, rows in found.items():
        print(f"| {name} |", " | ".join(f"{statistics.median(row[figure] for row in rows):.1f}" for figure in figures), "|")
    best = {figure: min((rows for name, rows in found.items() if name != "ours"), key=lambda rows: statistics.median(row[figure] for row in rows)) for figure in figures}
    ratios = [statistics.median(a[figure] / b[figure] for a, b in zip(found["ours"], best[figure])) for figure in figures]
    print("ours to the better of anomalib's, median of the rounds:", ", ".join(f"{ratio:.2f}" for ratio in ratios))


def resident():
    """MiB of this process now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def predict(place, batch):
    """Writes the checkpoint, if the place is called so, or predicts with it."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    import timm
    import torch
    from safetensors.torch import load_file
    from timm.models.vision_transformer import VisionTransformer

    torch.set_num_threads(THREADS)
    weights = load_file(Path(os.environ["DINOMALY_WEIGHTS"]) / WEIGHTS)

    def encoder(_name, **_options):
        model = VisionTransformer(img_size=SIDE, embed_dim=192, depth=12, num_heads=3, num_classes=0, dynamic_img_size=True)
        missing = model.load_state_dict(weights, strict=False).missing_keys
        assert not missing, missing
        return model.eval()

    timm.create_model = encoder
    import lightning
    from anomalib.data import PredictDataset
    from anomalib.engine import Engine
    from anomalib.models import Dinomaly
    from anomalib.models.image.dinomaly import torch_model
    from torch.utils.data import DataLoader

    torch_model.DINO_ARCHITECTURES["small"] |= {"embed_dim": 192, "num_heads": 3}
    folder = place.parent
    if place.name == "write":
        torch.manual_seed(0)
        pixels = Dinomaly.configure_pre_processor(image_size=(SIDE, SIDE), crop_size=SIDE)
        model = Dinomaly(encoder_name="vit_small_test", pre_processor=pixels, visualizer=False)
        trainer = lightning.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
        trainer.strategy.connect(model)
        trainer.save_checkpoint(folder / "model.ckpt", weights_only=True)
        return {}
    before, begun, used = resident(), time.perf_counter(), time.process_time()
    model = Dinomaly.load_from_checkpoint(folder / "model.ckpt", weights_only=False, visualizer=False)
    photos = PredictDataset(path=folder / "photos")
    loader = DataLoader(photos, batch_size=batch, collate_fn=photos.collate_fn)
    scores = {}

    class Keep(lightning.Callback):
        def on_predict_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0):
            for path, score in zip(outputs.image_path, outputs.pred_score):
                scores[Path(path).name] = float(score)

    options = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "default_root_dir": folder / "anomalib"}
    engine = Engine(**options, callbacks=[Keep()])
    engine.predict(model=model, dataloaders=loader, return_predictions=False)
    figures = {"seconds": time.perf_counter() - begun, "processor": time.process_time() - used}
    figures["MiB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before
    return figures | {"scores": scores}


if __name__ == "__main__":
    main()
