"""Exported models in ONNX Runtime and OpenVINO: the same photos, their maps against each other, and the seven metrics.

    cargo build --release -p dinomaly
    python3 -m venv VENV && VENV/bin/pip install numpy pillow onnxruntime openvino scikit-learn scipy
    VENV/bin/python tests/peers/onnx.py MODEL DATA [--classes screw,tile] [--photos 40] [--int8]

MODEL is a model folder, DATA a data set as `dinomaly evaluate` takes it, in the layout of MVTec AD. Photos are decoded and resized by Pillow,
masks as the official evaluation does it, metrics are those of `metrics.py`. Printed are, for each class, the metrics of both runtimes
beside those of `dinomaly evaluate`, and the largest difference of a map between the runtimes as a share of the map's largest value.
`--photos` takes the first ones of each kind only; then ours are left out, which are of all.
"""

import argparse
import json
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
import openvino
from metrics import NAMES, aupro, f1_max
from PIL import Image
from sklearn.metrics import average_precision_score, roc_auc_score

PROGRAM = Path(__file__).parents[2] / "target/release/dinomaly"
SIDE = 256
PHOTOS = {".png", ".jpg", ".jpeg", ".bmp"}


def runtimes(file):
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    compiled = openvino.Core().compile_model(str(file), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    about = session.get_modelmeta().custom_metadata_map

    def of_onnx_runtime(photo):
        return session.run(["score", "map"], {"photo": photo})

    def of_openvino(photo):
        found = compiled({"photo": photo})
        return [found[compiled.output(name)] for name in ["score", "map"]]

    return about, {"onnxruntime": of_onnx_runtime, "openvino": of_openvino}


class View:
    """A photo's and a mask's way to the input."""

    def __init__(self, about):
        view = json.loads(about["dinomaly.preprocessor"])
        self.resize, self.crop = view["size"]["height"], view["crop_size"]["height"]
        self.offset = round((self.resize - self.crop) / 2)

    def cut(self, picture):
        picture = picture.resize((self.resize, self.resize), Image.Resampling.BILINEAR)
        return np.asarray(picture)[self.offset :, self.offset :][: self.crop, : self.crop]

    def photo(self, path):
        return self.cut(Image.open(path).convert("RGB"))[None]

    def mask(self, path):
        if path is None:
            return np.zeros((SIDE, SIDE), bool)
        mask = self.cut(Image.open(path).convert("L")) != 0
        source = np.floor(np.arange(SIDE, dtype=np.float32) * np.float32(self.crop / SIDE)).astype(int).clip(max=self.crop - 1)
        return mask[source][:, source]


def photos(folder, most):
    """Path and mask of each test photo of a class."""
    for kind in sorted((folder / "test").iterdir()):
        for path in sorted(p for p in kind.iterdir() if p.suffix.lower() in PHOTOS)[:most]:
            masks = [] if kind.name == "good" else sorted((folder / "ground_truth" / kind.name).glob(path.stem + "*"))
            yield path, masks[0] if masks else None


def seven(scores, maps, masks):
    labels, flat = masks.any((1, 2)), (masks.ravel(), maps.ravel())
    image = [roc_auc_score(labels, scores), average_precision_score(labels, scores), f1_max(labels, scores)]
    return image + [roc_auc_score(*flat), average_precision_score(*flat), f1_max(*flat), aupro(maps, masks)]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--classes")
    parser.add_argument("--photos", type=int)
    parser.add_argument("--int8", action="store_true")
    parser.add_argument("--program", type=Path, default=PROGRAM)
    args = parser.parse_args()
    classes = args.classes.split(",") if args.classes else sorted(p.name for p in args.data.iterdir() if (p / "test").is_dir())
    with tempfile.TemporaryDirectory() as folder:
        file, ours = Path(folder, "model.onnx"), Path(folder, "ours.json")
        subprocess.run([args.program, "export", args.model, "--out", file, "--check"] + ["--int8"] * args.int8, check=True)
        about, run = runtimes(file)
        if args.photos is None:
            evaluate = [args.program, "evaluate", args.model, args.data, "--classes", ",".join(classes), "--json", ours]
            subprocess.run(evaluate, check=True, stdout=subprocess.DEVNULL)
            ours = {row["class"]: row["metrics"] for row in json.loads(ours.read_text())["classes"]}
    view = View(about)
    for name in classes:
        both, masks = {runtime: ([], []) for runtime in run}, []
        for path, mask in photos(args.data / name, args.photos):
            masks.append(view.mask(mask))
            photo = view.photo(path)
            for runtime, infer in run.items():
                score, found = infer(photo)
                both[runtime][0].append(score[0])
                both[runtime][1].append(found[0])
        maps = {runtime: np.stack(found) for runtime, (_, found) in both.items()}
        a, b = maps.values()
        assert np.isfinite(a).all() and np.isfinite(b).all()
        differs = (np.abs(a - b).max((1, 2)) / a.max((1, 2))).max()
        print(f"{name}: {len(masks)} photos, maps differ by at most {differs:.1e} of the largest value")
        if args.photos is None:
            print("  ours        " + " ".join(f"{100 * ours[name][key]:7.3f}" for key in NAMES))
        for runtime, (scores, _) in both.items():
            found = seven(np.array(scores), maps[runtime], np.stack(masks))
            print(f"  {runtime:<12}" + " ".join(f"{100 * value:7.3f}" for value in found))


if __name__ == "__main__":
    main()
