"""The metrics of arrays are those of the official evaluation."""

import json
import os
import struct
from pathlib import Path

import numpy as np
import pytest

import dinomaly
from conftest import ROOT
from dinomaly import _metrics

GOLDEN = Path(os.environ.get("DINOMALY_GOLDEN", ROOT / "tests/fixtures/golden")) / "metrics"
OFFICIAL = {
    "i_auroc": "auroc_sp",
    "i_ap": "ap_sp",
    "i_f1max": "f1max_sp",
    "p_auroc": "auroc_px",
    "p_ap": "ap_px",
    "p_f1max": "f1max_px",
    "aupro": "aupro_official",
}
KINDS = {"F32": "<f4", "F64": "<f8", "U8": "u1", "I64": "<i8", "I32": "<i4", "BOOL": "?"}


def tensors(path):
    """The tensors of a file, by the format's definition."""
    file = path.read_bytes()
    (length,) = struct.unpack("<Q", file[:8])
    header = json.loads(file[8 : 8 + length])
    header.pop("__metadata__", None)
    data = memoryview(file)[8 + length :]
    of = lambda tensor: np.frombuffer(data[slice(*tensor["data_offsets"])], KINDS[tensor["dtype"]])
    return {name: of(tensor).reshape(tensor["shape"]) for name, tensor in header.items()}


def test_golden_cases_have_the_official_values():
    compared = 0
    cases = json.loads((GOLDEN / "expected.json").read_text())
    for name, case in cases.get("cases", cases).items():
        path = GOLDEN / f"{name}.safetensors"
        if not path.is_file():
            continue
        case_tensors = tensors(path)
        maps, masks = case_tensors["maps"], case_tensors["masks"]
        found = dinomaly.evaluate(masks, maps, case_tensors["image_labels"], case_tensors["image_scores"])
        for ours, official in OFFICIAL.items():
            expected = case["expected"].get(official)
            if found[ours] is None:
                assert any(line.startswith(("P-", "I-", "AUPRO")) for line in found["undefined"])
            elif isinstance(expected, float):
                assert found[ours] == pytest.approx(expected, rel=1e-12, abs=1e-12), (name, ours)
                compared += 1
    assert compared > 40, compared


def photos():
    """Masks, maps, labels and scores of two good and two defective photos."""
    rng = np.random.default_rng(2)
    masks = np.zeros((4, 16, 20), bool)
    masks[2, 3:6, 4:9] = masks[3, 10:12, 1:3] = True
    maps = (rng.random((4, 16, 20)) + masks * rng.random((4, 16, 20))).astype(np.float32)
    return masks, maps, np.array([0, 0, 1, 1]), maps.reshape(4, -1).max(1)


def test_arrays_of_other_kinds_have_the_same_metrics():
    masks, maps, labels, scores = photos()
    first = dinomaly.evaluate(masks, maps, labels, scores)
    assert first["undefined"] == [] and all(0 < first[name] <= 1 for name in OFFICIAL)
    bytes_of_255 = (masks * 255).astype(np.uint8)
    for same in [
        (list(masks), list(maps), list(map(bool, labels)), scores.tolist()),
        (bytes_of_255, maps.astype(np.float64), labels.astype(bool), scores.astype(np.float64)),
        (bytes_of_255.view(bool), maps[:, None], labels.astype(float), scores),
        (masks.astype(np.float32) * 0.9, np.asfortranarray(maps), None, scores),
        ([None, None, *masks[2:]], maps, None, scores),
    ]:
        assert dinomaly.evaluate(*same) == first
    assert dinomaly.evaluate(masks, maps, ~labels.astype(bool), scores)["i_auroc"] != first["i_auroc"]


def test_maps_may_differ_in_size():
    masks, maps, labels, scores = photos()
    cut = dinomaly.evaluate([masks[0, :8, :9], *masks[1:]], [maps[0, :8, :9], *maps[1:]], labels, scores)
    assert cut["p_auroc"] != dinomaly.evaluate(masks, maps, labels, scores)["p_auroc"]


def test_scores_alone_have_the_image_metrics():
    masks, maps, labels, scores = photos()
    images = dinomaly.evaluate(None, None, labels, scores)
    both = dinomaly.evaluate(masks, maps, labels, scores)
    assert [images[name] for name in OFFICIAL] == [*(both[name] for name in list(OFFICIAL)[:3]), *[None] * 4]


def test_metrics_beside_the_seven():
    rng = np.random.default_rng(3)
    masks = np.zeros((20, 80, 80), bool)
    masks[16:, 10:14, 20:26] = True
    maps = (rng.random((20, 80, 80)) + masks * rng.random((20, 80, 80))).astype(np.float32)
    labels, scores = masks.any((1, 2)), maps.reshape(20, -1).max(1)
    found = dinomaly.evaluate(masks, maps, labels, scores, threshold=1.2, intervals=50, seed=4)
    assert 0 < found["aupimo"] < 1 and found["i_f1"] == 1
    low, high = found["intervals"]["p_ap"]
    assert low < found["p_ap"] < high and found["intervals"]["i_auroc"] == (1, 1)
    assert found == dinomaly.evaluate(masks, maps, labels, scores, threshold=1.2, intervals=50, seed=4)
    plain = dinomaly.evaluate(masks, maps, labels, scores)
    assert plain == {name: value for name, value in found.items() if name not in ("i_f1", "intervals")}
    assert dinomaly.evaluate(None, None, labels, scores)["aupimo"] is None
    with pytest.raises(ValueError, match="intervals is 1: expected a number of resamples"):
        dinomaly.evaluate(masks, maps, labels, scores, intervals=1)


def test_what_is_undefined_says_why():
    masks, maps, _, scores = photos()
    found = dinomaly.evaluate(masks[:2], maps[:2], [0, 0], scores[:2])
    assert all(found[name] is None for name in OFFICIAL) and len(found["undefined"]) == 7
    assert found["undefined"][0].startswith("I-AUROC is undefined: it compares anomalous with normal")


def test_arrays_that_fit_are_not_copied():
    masks, maps, _, _ = photos()
    assert np.shares_memory(_metrics.of_map(maps[1], 1), maps)
    assert np.shares_memory(_metrics.of_mask(masks[1], 1), masks)
    assert not np.shares_memory(_metrics.of_map(maps[1].T, 1), maps)


@pytest.mark.parametrize(
    "changed, kind, sentence",
    [
        ({"masks": None}, ValueError, "masks and maps belong together"),
        ({"labels": [0, 1]}, ValueError, "each photo has one of each: found 4 masks, 4 maps, 2 labels, 4 scores"),
        ({"maps": np.zeros((4, 16))}, ValueError, r"maps are an array of shape \(4, 16\): expected photos x height"),
        ({"maps": np.zeros((4, 9, 9))}, ValueError, r"mask 0 is of shape \(16, 20\), its map of \(9, 9\)"),
        ({"maps": np.zeros((4, 16, 20), complex)}, TypeError, "map 0 is an array of complex128: expected floats"),
        ({"maps": np.full((4, 16, 20), np.nan)}, ValueError, "anomaly maps: value 0 of part 0 is NaN"),
        ({"scores": np.zeros((4, 1))}, ValueError, r"scores are of shape \(4, 1\): expected one value for each photo"),
        ({"scores": ["a"] * 4}, TypeError, "scores are of <U1: expected numbers"),
        ({"masks": [[[1], [2, 3]]] * 4}, ValueError, "mask 0 cannot become an array of numpy"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(changed, kind, sentence):
    masks, maps, labels, scores = photos()
    with pytest.raises(kind, match=sentence) as refused:
        dinomaly.evaluate(**{"masks": masks, "maps": maps, "labels": labels, "scores": scores, **changed})
    assert "\n" not in str(refused.value)
