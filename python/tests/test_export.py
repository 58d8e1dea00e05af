"""Exported files in ONNX Runtime: the guide's example runs, and finds what the detector finds."""

import json

import numpy as np
from PIL import Image

from conftest import DEMO_MODEL, ROOT, program
from test_texts import examples

# Ten times what was measured, of the map's largest value.
TOLERANCE = 1.2e-5


def test_the_example_of_the_guide_finds_what_the_detector_finds(data, demo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    view = json.loads((DEMO_MODEL / "preprocessor_config.json").read_text())["size"]
    photo = sorted((data / "pcb/test/good").iterdir())[0]
    # Of the size that photos are resized to, so that nothing but the graph is compared.
    Image.open(photo).convert("RGB").resize((view["width"], view["height"])).save("photo.png")
    program("export", DEMO_MODEL, "--out", "model.onnx")
    [example] = examples((ROOT / "docs/exporting.md").read_text())
    known = {}
    exec(compile(example, "docs/exporting.md", "exec"), known)

    expected = demo.detect("photo.png")
    found = known["anomaly_map"][0]
    assert np.isfinite(found).all()
    assert np.abs(found - expected.map).max() < TOLERANCE * expected.map.max()
    assert abs(known["score"][0] - expected.score) < TOLERANCE * expected.map.max()
    calibration = json.loads((DEMO_MODEL / "calibration.json").read_text())
    assert {name: of["threshold"] for name, of in known["classes"].items()} == {
        name: of["threshold"] for name, of in calibration["classes"].items()
    }
