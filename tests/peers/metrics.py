"""The seven metrics by scikit-learn and a plain loop for AUPRO, on the arrays of `--bench metrics`, timed and compared.

    cargo bench -p dinomaly-tests --bench metrics -- --maps 1000 --out DIR
    python3 -m venv VENV && VENV/bin/pip install numpy scikit-learn scipy
    VENV/bin/python tests/peers/metrics.py DIR

Times are those on the processor, so that other work on the machine counts little.

The image and pixel metrics are scikit-learn's, called as the official evaluation calls them. AUPRO follows the official definition:
200 thresholds between the lowest and the highest value, at each the mean over all 8-connected regions of the share of their pixels
above it, against the share of normal pixels above it, rates below 0.3, divided by the largest. Regions are labelled once here; the
official loop labels them anew at each threshold, so that the true peer is slower than this one.

About 55 bytes a pixel are needed at the peak: 1,000 maps take some 3.7 GB, 4,000 maps four times that.
"""

import json
import resource
import sys
import time
from pathlib import Path

import numpy as np
from scipy import ndimage
from sklearn.metrics import auc, average_precision_score, precision_recall_curve, roc_auc_score

NAMES = ["i_auroc", "i_ap", "i_f1max", "p_auroc", "p_ap", "p_f1max", "aupro"]


def f1_max(labels, scores):
    precision, recall, _ = precision_recall_curve(labels, scores)
    return (2 * precision * recall / (precision + recall + 1e-7))[:-1].max()


def aupro(maps, masks, steps=200, limit=0.3):
    regions = []
    for image, mask in enumerate(masks):
        labels, count = ndimage.label(mask, structure=np.ones((3, 3)))
        regions += [(image, *np.nonzero(labels == region)) for region in range(1, count + 1)]
    normal = masks == 0
    low, high = maps.min(), maps.max()
    rates, overlaps = [], []
    # As the numpy of the official environment counts: the range in float32, the steps in float64, the comparison in float32.
    for threshold in np.arange(float(low), float(high), float(high - low) / steps):
        above = maps > np.float32(threshold)
        overlaps.append(np.mean([above[image][rows, columns].mean() for image, rows, columns in regions]))
        rates.append(np.logical_and(normal, above).sum() / normal.sum())
    rates, overlaps = np.array(rates), np.array(overlaps)
    kept = rates < limit
    return auc(rates[kept] / rates[kept].max(), overlaps[kept])


def main(folder):
    ours = json.loads((folder / "ours.json").read_text())
    shape = (ours["maps"], ours["side"], ours["side"])
    read = lambda name, kind: np.fromfile(folder / name, dtype=kind)
    maps, masks = read("maps.f32", "<f4").reshape(shape), read("masks.u8", "u1").reshape(shape)
    scores, labels = read("scores.f32", "<f4"), read("labels.u8", "u1")

    begun = time.process_time()
    found = []
    for truth, values in [(labels, scores), (masks.ravel(), maps.ravel())]:
        found += [roc_auc_score(truth, values), average_precision_score(truth, values), f1_max(truth, values)]
    pixels = time.process_time() - begun
    found.append(aupro(maps, masks))
    seconds = time.process_time() - begun

    for name, value in zip(NAMES, found):
        difference = abs(value - ours["metrics"][name])
        print(f"{name:<9}{value:.10f}  ours differs by {difference:.1e}")
        assert difference < 1e-9, f"{name} differs"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(f"peer: {seconds:.1f} s ({pixels:.1f} s without AUPRO), peak memory {peak / 1e9:.2f} GB")
    print(f"ours: {ours['seconds']:.2f} s, peak memory {ours['peak_bytes'] / 1e9:.2f} GB: {seconds / ours['seconds']:.1f} times as fast")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
