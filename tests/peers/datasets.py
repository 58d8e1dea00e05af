#!/usr/bin/env python3
"""Counts of photos and masks, by `dinomaly data check --json` and by anomalib 2.7.0, of small folders in the layouts of public data sets.

    python datasets.py PROGRAM [--keep FOLDER]

Draws each data set with its own names of folders and files, lets both read it, and prints a table of their counts: good photos to train
on, good and defective ones to test, masks. Ends with 1 if a pair differs that should not, or if `data check` finds anything.

Where anomalib has no loader, another public one is followed, in a few lines here: KolektorSDD2 and DAGM by mixed-segdec-net-comind2021
of ViCoS (a photo is defective if its mask is not black, or if it has one), Real-IAD Variety by anomalib's reader of Real-IAD's lists and
MANTA-Tiny and 3CAD by its reader of MVTec-AD's layout, which Dinomaly2's MANTATinyDataset and 3CAD's Data_3CAD equal on such folders.

Needs anomalib 2.7.0, pyarrow and Pillow.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import pandas as pd
from PIL import Image

from anomalib.data.datasets.depth.mvtec_3d import make_mvtec_3d_dataset
from anomalib.data.datasets.image.autovi import make_autovi_dataset
from anomalib.data.datasets.image.bmad import make_bmad_dataset
from anomalib.data.datasets.image.folder import make_folder_dataset
from anomalib.data.datasets.image.kaputt import make_kaputt_dataset
from anomalib.data.datasets.image.kolektor import make_kolektor_dataset
from anomalib.data.datasets.image.mvtecad import make_mvtec_ad_dataset
from anomalib.data.datasets.image.mvtecad2 import TestType, make_mvtec2_dataset
from anomalib.data.datasets.image.realiad import make_realiad_dataset
from anomalib.data.datasets.image.tabular import make_tabular_dataset
from anomalib.data.datasets.image.vad import make_vad_dataset

TRAIN, GOOD, BAD = 12, 3, 2
SIZE = (24, 16)
FORMATS = {".jpg": "JPEG", ".png": "PNG", ".bmp": "BMP", ".tiff": "TIFF"}


def photo(path, size=SIZE):
    """A picture like no other: its name decides."""
    random = np.random.default_rng(zlib.crc32(str(path).encode()))
    pixels = random.integers(60, 200, (size[1], size[0], 3), dtype=np.uint8)
    save(path, Image.fromarray(pixels))


def mask(path, defective=True, size=SIZE):
    pixels = np.zeros((size[1], size[0]), np.uint8)
    pixels[2:5, 2:6] = 255 if defective else 0
    save(path, Image.fromarray(pixels))


def save(path, picture):
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, FORMATS[path.suffix.lower()])


def mvtec_class(folder, kinds=("bad",), ending=".png", mask_name="{}.png", first=0):
    numbers = iter(range(first, 10_000))
    for _ in range(TRAIN):
        photo(folder / f"train/good/{next(numbers):04}{ending}")
    for _ in range(GOOD):
        photo(folder / f"test/good/{next(numbers):04}{ending}")
    for kind in kinds:
        for _ in range(BAD):
            name = f"{next(numbers):04}"
            photo(folder / f"test/{kind}/{name}{ending}")
            mask(folder / f"ground_truth/{kind}/{mask_name.format(name)}")


# Each draws a data set below `root` and returns what both read: the path for the program, and the samples of anomalib as a table with the
# columns split, label_index and mask_path, or counts.


def mvtec_ad_2(root):
    for name in ["can", "vial"]:
        folder = root / name
        for i in range(TRAIN):
            photo(folder / f"train/good/{i:03}_regular.png")
        for i in range(GOOD):
            photo(folder / f"validation/good/{i:03}_regular.png")
            photo(folder / f"test_public/good/{i:03}_regular.png")
            photo(folder / f"test_private/{i:03}_regular.png")
            photo(folder / f"test_private_mixed/{i:03}_mixed.png")
        for i in range(BAD):
            photo(folder / f"test_public/bad/{i:03}_overexposed.png")
            mask(folder / f"test_public/ground_truth/bad/{i:03}_overexposed_mask.png")
    return root, [make_mvtec2_dataset(root / name, test_type=TestType.PUBLIC) for name in ["can", "vial"]]


def mvtec_3d(root):
    folder = root / "bagel"
    for split, kind, count in [("train", "good", TRAIN), ("test", "good", GOOD), ("test", "hole", BAD)]:
        for i in range(count):
            photo(folder / split / kind / f"rgb/{i:03}.png")
            photo(folder / split / kind / f"xyz/{i:03}.tiff")
            if split == "test":
                mask(folder / split / kind / f"gt/{i:03}.png", kind != "good")
    return root, [make_mvtec_3d_dataset(folder)]


def kolektor_sdd(root):
    for item in range(1, 6):
        for part in range(4):
            photo(root / f"kos{item:02}/Part{part}.jpg")
            mask(root / f"kos{item:02}/Part{part}_label.bmp", part == 0 and item < 3)
    return root, [make_kolektor_dataset(root)]


def kolektor_sdd2(root):
    for split, start, good, bad in [("train", 10000, TRAIN, 1), ("test", 20000, GOOD, BAD)]:
        for i in range(good + bad):
            photo(root / f"{split}/{start + i}.png")
            mask(root / f"{split}/{start + i}_GT.png", i >= good)
    rows = []
    for split in ["train", "test"]:
        for path in (root / split).glob("*_GT.png"):
            defective = np.asarray(Image.open(path)).any()
            rows.append((split, int(defective), str(path) if defective else ""))
    return root, [table(rows)]


def dagm(root):
    for split, start, good, bad in [("Train", 576, TRAIN, 1), ("Test", 1, GOOD, BAD)]:
        for i in range(good + bad):
            photo(root / f"Class1/{split}/{start + i:04}.PNG")
            if i >= good:
                mask(root / f"Class1/{split}/Label/{start + i:04}_label.PNG")
        (root / f"Class1/{split}/Label/Labels.txt").write_text("")
    rows = []
    for split in ["Train", "Test"]:
        for path in (root / f"Class1/{split}").glob("*.PNG"):
            label = path.parent / f"Label/{path.stem}_label.PNG"
            rows.append((split.lower(), int(label.exists()), str(label) if label.exists() else ""))
    return root, [table(rows)]


def vad(root):
    mvtec_class(root / "vad")
    return root, [make_vad_dataset(root / "vad")]


def manta(root):
    classes = [root / "agriculture/maize", root / "mechanics/nut"]
    for folder in classes:
        mvtec_class(folder, kinds=("broken", "spot"))
    return root, [make_mvtec_ad_dataset(folder) for folder in classes]


def three_cad(root):
    mvtec_class(root / "Aluminum_Pc", kinds=("Dent", "Scratch"))
    return root, [make_mvtec_ad_dataset(root / "Aluminum_Pc")]


def real_iad_variety(root):
    """Five views of each part. The first view of a defective part shows the defect."""
    name = "2pin_block_plug"
    folder = root / "realiadvariety_raw" / name
    metadata = {"meta": {"prefix": f"{name}/", "normal_class": "OK", "pre_transform": None}, "train": [], "test": []}
    for part in range(4):
        split, kind = ("train", "OK") if part < 2 else ("test", "OK" if part == 2 else "NG/AK")
        for view in range(1, 6):
            path = f"{kind}/S{part:04}/{name}_{part:04}_{kind.replace('/', '_')}_C{view}_20240101.png"
            photo(folder / path)
            shows = kind != "OK" and view == 1
            if shows:
                mask(folder / path.replace(".png", "_mask.png"))
            entry = {"category": name, "anomaly_class": "AK" if shows else "OK", "image_path": path}
            metadata[split].append(entry | {"mask_path": path.replace(".png", "_mask.png") if shows else None})
    lists = root / "realiadvariety_jsons"
    lists.mkdir(parents=True)
    (lists / f"{name}.json").write_text(json.dumps(metadata))
    return root, [make_realiad_dataset(folder, metadata=metadata, confinement_root=root)]


def autovi(root):
    folder = root / "pipe_clip"
    mvtec_class(folder, kinds=("operator", "unclipped"), mask_name="{}/0000.png")
    (folder / "defects_config.json").write_text("[]")
    return root, [make_autovi_dataset(folder)]


def kaputt(root):
    (root / "datasets").mkdir(parents=True)
    for split, good, bad in [("train", TRAIN, 0), ("validation", GOOD, BAD), ("test", GOOD, BAD)]:
        rows = []
        for i in range(good + bad):
            name = f"{split}-{i:04}"
            path = f"data/{split}/query-data/{{}}/{name}"
            photo(root / "query-image" / f"{path.format('image')}.jpg")
            photo(root / "query-crop" / f"{path.format('crop')}.jpg")
            mask(root / "query-mask" / f"{path.format('mask')}.png")
            rows.append(
                {
                    "capture_id": name,
                    "defect": i >= good,
                    "major_defect": False,
                    "defect_types": "hole,spillage" if i >= good else "",
                    "item_identifier": f"item-{i}",
                    "item_material": "paper",
                    "query_image": f"{path.format('image')}.jpg",
                    "query_crop": f"{path.format('crop')}.jpg",
                    "query_mask": f"{path.format('mask')}.png",
                }
            )
        pd.DataFrame(rows).to_parquet(root / f"datasets/query-{split}.parquet")
    return root, [make_kaputt_dataset(root)]


def bmad(root):
    for name, masks in [("Brain", True), ("Chest", False)]:
        for split, kind, count in [("train", "good", TRAIN), ("test", "good", GOOD), ("test", "Ungood", BAD)]:
            for i in range(count):
                photo(root / name / split / kind / ("" if split == "train" else "img") / f"{i:05}.png")
                if masks and split == "test":
                    mask(root / name / split / kind / f"label/{i:05}.png", kind != "good")
    return root, [make_bmad_dataset(root / name) for name in ["Brain", "Chest"]]


def tabular(root, ending):
    rows = []
    for i in range(TRAIN + GOOD + BAD):
        photo(root / f"pictures/{i:03}.png")
        defective = i >= TRAIN + GOOD
        split, path = "train" if i < TRAIN else "test", f"masks/{i:03}.png" if defective else ""
        rows.append({"image_path": f"pictures/{i:03}.png", "label_index": int(defective), "split": split, "mask_path": path})
        if defective:
            mask(root / path)
    frame, file = pd.DataFrame(rows), root / f"samples{ending}"
    frame.to_csv(file, index=False) if ending == ".csv" else frame.to_parquet(file)
    read = pd.read_csv(file) if ending == ".csv" else pd.read_parquet(file)
    # It puts paths into the columns, which those of texts refuse in pandas 3: findings/anomalib-tabular-masks.sh.
    return file, [make_tabular_dataset(read.astype(object), root=root)]


def folders(root):
    for i in range(TRAIN):
        photo(root / ("passed/monday" if i % 2 else "more") / f"{i:03}.PNG")
    for i in range(GOOD):
        photo(root / f"kept/{i:03}.png")
    for kind in ["dent", "scratch"]:
        for i in range(BAD):
            photo(root / f"faults/{kind}/deep/{i:03}.JPG")
            mask(root / f"truth/{kind}/deep/{i:03}.png")
    names = {
        "normal_dir": ["passed", "more"],
        "abnormal_dir": ["faults/dent", "faults/scratch"],
        "normal_test_dir": "kept",
        "mask_dir": ["truth/dent", "truth/scratch"],
    }
    # A list or a text of JSON is one of TOML.
    (root / "folders.toml").write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in names.items()))
    return root, [make_folder_dataset(root=root, **names)]


DATASETS = {
    "MVTec AD 2": mvtec_ad_2,
    "MVTec 3D-AD": mvtec_3d,
    "KolektorSDD": kolektor_sdd,
    "KolektorSDD2": kolektor_sdd2,
    "DAGM": dagm,
    "VAD": vad,
    "MANTA-Tiny": manta,
    "3CAD": three_cad,
    "Real-IAD Variety": real_iad_variety,
    "AutoVI": autovi,
    "Kaputt": kaputt,
    "BMAD": bmad,
    "table (CSV)": lambda root: tabular(root, ".csv"),
    "table (Parquet)": lambda root: tabular(root, ".parquet"),
    "folders": folders,
}

# Differences that are meant, with the numbers of both.
MEANT = {
    # query-mask outlines the item, so it is no mask of a defect.
    "Kaputt": ([12, 3, 2, 0], [12, 3, 2, 2]),
}


def table(rows):
    return pd.DataFrame(rows, columns=["split", "label_index", "mask_path"])


def peers_counts(samples):
    """Train, test good, test defective, and masks of those."""
    samples = pd.concat(samples)
    test = samples[samples.split == "test"]
    bad = test[test.label_index == 1]
    masks = bad.mask_path.fillna("").astype(str)
    return [
        int(((samples.split == "train") & (samples.label_index == 0)).sum()),
        int((test.label_index == 0).sum()),
        len(bad),
        int((~masks.isin(["", "nan", "None"])).sum()),
    ]


def our_counts(program, path):
    run = subprocess.run([program, "data", "check", path, "--json"], capture_output=True, text=True)
    if not run.stdout:
        sys.exit(f"{path}: {run.stderr}")
    report = json.loads(run.stdout)
    classes = report["classes"]
    counts = [sum(of) for of in zip(*[(c["train"], c["good"], sum(c["defects"].values()), c["masks"]) for c in classes])]
    return report["layout"], counts, report["findings"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--keep", type=Path, help="new folder to draw the data sets in")
    options = parser.parse_args()
    wrong = []
    with tempfile.TemporaryDirectory() as folder:
        parent = options.keep or Path(folder)
        print("| data set | layout | ours: train, test good, test defective, masks | the other reader | `data check` |")
        print("|---|---|---|---|---|")
        for name, draw in DATASETS.items():
            root = parent / name.replace(" ", "_")
            root.mkdir(parents=True)
            path, samples = draw(root)
            theirs = peers_counts(samples)
            layout, ours, findings = our_counts(options.program, path)
            # Of a class without masks, which is a note.
            findings = [found["problem"] for found in findings if found["severity"] != "note"]
            shown = [", ".join(map(str, counts)) for counts in [ours, theirs]]
            print(f"| {name} | `{layout}` | {shown[0]} | {shown[1]} | {'; '.join(findings) or 'nothing'} |")
            if findings or (ours, theirs) != MEANT.get(name, (theirs, theirs)):
                wrong.append(name)
    if wrong:
        sys.exit(f"not as expected: {', '.join(wrong)}")


if __name__ == "__main__":
    main()
