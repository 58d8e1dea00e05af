#!/usr/bin/env python3
"""AUPIMO, F1 at a threshold and confidence intervals by public implementations, and by `dinomaly.evaluate` on equal maps.

    VENV/bin/pip install anomalib==2.7.0
    VENV/bin/python tests/peers/pimo.py            # the values that tests beside the code compare with
    VENV/bin/pip install dinomaly-….whl
    VENV/bin/python tests/peers/pimo.py --beside   # tables of both

AUPIMO: anomalib 2.7.0's `aupimo_scores`, which takes 300,000 evenly spaced thresholds between the lowest and the highest score of good
photos unless it is told otherwise. F1: scikit-learn's `f1_score`. Intervals: the bootstrap of SciPy, with the percentile method, on two
samples, good and defective photos, and scikit-learn's metrics; both are random, so that their ends differ as those of two seeds do.
"""

import sys
import time
import warnings

import numpy as np
import torch
from anomalib.metrics.pimo.functional import aupimo_scores
from scipy import ndimage, stats
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

warnings.filterwarnings("ignore")


def noise(seed, count):
    """The pseudo-random numbers of the tests beside the code, 0..1."""
    state, values = seed, np.empty(count, np.float32)
    for i in range(count):
        state = (state * 1_664_525 + 1_013_904_223) & 0xFFFFFFFF
        values[i] = (state >> 8) / (1 << 24)
    return values


def anomalib(maps, masks, thresholds):
    maps, masks = torch.from_numpy(maps), torch.from_numpy(masks)
    *_, classes, areas, _ = aupimo_scores(maps, masks, thresholds, force=True)
    return areas[classes == 1].mean().item()


def at(metric, threshold=None):
    """A metric of two samples of scores, good and defective photos."""

    def statistic(good, bad):
        found = np.concatenate([good, bad])
        return metric([0] * len(good) + [1] * len(bad), found if threshold is None else found > np.float32(threshold))

    return statistic


def scipy_interval(good, bad, statistic, seed):
    found = stats.bootstrap(
        (good, bad), statistic, n_resamples=10_000, method="percentile", vectorized=False, rng=seed
    )
    return found.confidence_interval


def values_of_tests():
    maps = noise(11, 30 * 50 * 100).reshape(30, 50, 100)
    masks = np.zeros(maps.shape, bool)
    for i in range(10):
        masks[20 + i, 20:28, 10 + i : 18 + i] = True
        maps[20 + i] += masks[20 + i] * np.float32(0.1 * i)
    # With 100,000 good pixels both ends of the area are rates that occur.
    print("AUPIMO", [anomalib(maps, masks, thresholds) for thresholds in [300_000, 3_000_000]])
    labels = np.arange(40) >= 30
    scores = noise(12, 40) + np.float32(0.3) * labels.astype(np.float32)
    print("F1 at 0.75", f1_score(labels, scores > np.float32(0.75)))
    for name, statistic in image_metrics(0.75):
        for seed in [0, 1]:
            print(name, seed, *scipy_interval(scores[~labels], scores[labels], statistic, seed))


def image_metrics(threshold):
    return [("i_auroc", at(roc_auc_score)), ("i_ap", at(average_precision_score)), ("i_f1", at(f1_score, threshold))]


def photos(good, bad, side, lift, seed):
    """Smooth maps as of a detector, whose defects are lifted by about `lift`."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((good + bad, side, side), bool)
    maps = np.empty(masks.shape, np.float32)
    for i in range(good + bad):
        maps[i] = ndimage.gaussian_filter(rng.normal(size=(side, side)), 3) + rng.normal() * 0.01
        if i >= good:
            y, x = rng.integers(10, side - 40, 2)
            masks[i, y : y + rng.integers(5, 30), x : x + rng.integers(5, 30)] = True
            maps[i] += masks[i] * lift * rng.random()
    return masks, maps, masks.any((1, 2)), maps.reshape(good + bad, -1).max(1)


def compare_pimo():
    print("| good, defective photos, side | thresholds | anomalib | ours | difference | seconds | ours |")
    print("|---|---|---|---|---|---|---|")
    for seed, (good, bad, side, lift) in enumerate([(20, 20, 128, 0.5), (60, 40, 256, 0.5), (60, 40, 256, 1.0)]):
        masks, maps, labels, scores = photos(good, bad, side, lift, seed)
        begun = time.process_time()
        ours = dinomaly.evaluate(masks, maps, labels, scores)["aupimo"]
        own = time.process_time() - begun
        for thresholds in [300_000, 3_000_000] if good < 60 else [300_000]:
            begun = time.process_time()
            theirs = anomalib(maps, masks, thresholds)
            seconds = time.process_time() - begun
            row = f"{theirs:.6f} | {ours:.6f} | {ours - theirs:+.1e} | {seconds:.1f} | {own:.1f}"
            print(f"| {good}, {bad}, {side} | {thresholds:,} | {row} |")


def compare_intervals():
    masks, maps, labels, scores = photos(60, 40, 96, 0.35, 9)
    threshold = float(np.quantile(scores[~labels], 0.9))
    ours = dinomaly.evaluate(masks, maps, labels, scores, threshold=threshold, intervals=10_000)
    predicted = scores > np.float32(threshold)
    print(f"\nF1 at a threshold: scikit-learn {f1_score(labels, predicted):.15f}, ours {ours['i_f1']:.15f}\n")
    print("| metric | SciPy, seeds 0 and 1 | ours, seeds 0 and 1 |")
    print("|---|---|---|")
    other = dinomaly.evaluate(masks, maps, labels, scores, threshold=threshold, intervals=10_000, seed=1)["intervals"]

    show = lambda ends: f"{ends[0]:.4f}–{ends[1]:.4f}"
    for name, statistic in image_metrics(threshold):
        bootstrap = lambda seed: scipy_interval(scores[~labels], scores[labels], statistic, seed)
        theirs = " and ".join(show(bootstrap(seed)) for seed in [0, 1])
        print(f"| {name} | {theirs} | {show(ours['intervals'][name])} and {show(other[name])} |")
    # Pixels: photos are drawn, as here, and scikit-learn ranks all pixels of each draw.
    rng = np.random.default_rng(0)
    few, aurocs, aps = 300, [], []
    for _ in range(few):
        chosen = np.concatenate([rng.choice(np.flatnonzero(labels == label), (labels == label).sum()) for label in [0, 1]])
        found, truth = maps[chosen].ravel(), masks[chosen].ravel()
        aurocs.append(roc_auc_score(truth, found))
        aps.append(average_precision_score(truth, found))
    for name, values in [("p_auroc", aurocs), ("p_ap", aps)]:
        ends = f"{show(ours['intervals'][name])} and {show(other[name])}"
        print(f"| {name} | {show(np.quantile(values, [0.025, 0.975]))} ({few} draws) | {ends} |")


if "--beside" in sys.argv:
    import dinomaly

    compare_pimo()
    compare_intervals()
else:
    values_of_tests()
