"""Which photos a model calls unknown: those of other products, and those of its own.

    other_products.py PROGRAM [--backbone deit_tiny_patch16_224.safetensors] [--iterations 30]

DINOMALY_DATA names a folder with `screw`, `magnetic_tile`, `pcb` and `few` (tests/README.md). Three models: the embedded demo model on generated
photos of seeds that it has not seen, and on all real photos; then one trained on `screw` and `magnetic_tile`, and one made of their photos
without training, on the test photos of both and on all others. Prints Markdown. No dependencies.
"""

import argparse
import collections
import json
import os
import pathlib
import subprocess
import tempfile

IMAGES = {".jpg", ".png"}
KNOWN = ["screw", "magnetic_tile"]
REPOSITORY = pathlib.Path(__file__).resolve().parents[2]


def photos(folder):
    """The photos below a folder, without masks."""
    found = [path for path in folder.rglob("*") if path.suffix.lower() in IMAGES]
    return sorted(path for path in found if "ground_truth" not in path.parts)


def detect(program, model, paths):
    """The program's rows of photos."""
    command = [program, "detect", model, *paths, "--json"]
    return json.loads(subprocess.run(list(map(str, command)), check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout)


def report(program, name, model, sets):
    """A line for each set of photos: (what, class or None, paths)."""
    for what, product, paths in sets:
        rows = detect(program, model, paths)
        verdicts = collections.Counter(row["verdict"] for row in rows)
        share = 100 * verdicts["unknown"] / len(rows)
        routed = sum(row["nearest"] == product for row in rows) if product else "–"
        print(f"| {name} | {what} | {len(rows)} | {share:.1f} | {verdicts['good']} | {verdicts['defective']} | {routed} |", flush=True)


def labelled(data, product):
    """Good and defective test photos of a class."""
    test = photos(data / product / "test")
    good = [path for path in test if path.parent.name == "good"]
    bad = [path for path in test if path.parent.name != "good"]
    return [(f"own: {product}, good", product, good), (f"own: {product}, defective", product, bad)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--backbone")
    parser.add_argument("--iterations", default="30", help="of the training, whose head has no part in the verdict unknown")
    parser.add_argument("--seed", default="77", help="of the generated photos")
    options = parser.parse_args()
    program = pathlib.Path(options.program).resolve()
    data = pathlib.Path(os.environ["DINOMALY_DATA"])
    backbone = ["--backbone", options.backbone] if options.backbone else []

    def run(*arguments):
        subprocess.run(list(map(str, [program, *arguments])), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    few = [f"few/{path.name}" for path in sorted((data / "few").iterdir()) if path.is_dir()]
    real = {name: photos(data / name) for name in [*KNOWN, "pcb", *few]}
    print("| model | photos | number | unknown, % | good | defective | routed to their class |\n|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        demo = REPOSITORY / "native/assets/demo-model"
        run("generate", folder / "drawn", "--train", 1, "--good", 40, "--defective", 10, "--seed", options.seed)
        products = sorted(path.name for path in (folder / "drawn").iterdir() if path.is_dir())
        own = [row for product in products for row in labelled(folder / "drawn", product)]
        report(program, "demo", demo, own + [(name, None, paths) for name, paths in real.items()])
        both = folder / "both"
        both.mkdir()
        for name in KNOWN:
            (both / name).symlink_to(data / name)
        run("train", both, "--out", folder / "trained", "--iterations", options.iterations, "--resize", 224, "--crop", 224, *backbone)
        run("fewshot", both, "--out", folder / "few-shot", "--size", 224, *backbone)
        own = [row for product in KNOWN for row in labelled(data, product)]
        others = [(name, None, real[name]) for name in ["pcb", *few]]
        for name in ("trained", "few-shot"):
            report(program, name, folder / name, own + others)


if __name__ == "__main__":
    main()
