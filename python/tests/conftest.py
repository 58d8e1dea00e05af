"""What several tests use: photos, models, and the program."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import dinomaly

ROOT = Path(__file__).resolve().parents[2]
DEMO_MODEL = ROOT / "native/assets/demo-model"


@pytest.fixture(scope="session")
def data():
    """The folder of real photos; what needs it is skipped without it, unless DINOMALY_REQUIRE_DATA makes that a failure."""
    folder = os.environ.get("DINOMALY_DATA")
    if folder is None:
        if "DINOMALY_REQUIRE_DATA" in os.environ:
            pytest.fail("DINOMALY_DATA names no folder of photos, and DINOMALY_REQUIRE_DATA is set")
        pytest.skip("SKIPPED: DINOMALY_DATA names no folder of photos")
    return Path(folder)


def program(*words, check=True):
    """Runs the program that `pip install` brought."""
    path = Path(sys.executable).parent / ("dinomaly.exe" if os.name == "nt" else "dinomaly")
    return subprocess.run([path, *map(str, words)], capture_output=True, text=True, check=check)


@pytest.fixture(scope="session")
def drawn(tmp_path_factory):
    """A folder of generated photos: gear/train/good, gear/test/…"""
    folder = tmp_path_factory.mktemp("drawn") / "photos"
    program("generate", folder, "--classes", "gear", "--train", 6, "--good", 2, "--defective", 2)
    return folder


@pytest.fixture(scope="session")
def demo():
    return dinomaly.Detector.load(DEMO_MODEL)


@pytest.fixture(scope="session")
def bottles(data, tmp_path_factory):
    """A model of four real photos, in a folder."""
    model = tmp_path_factory.mktemp("models") / "bottles"
    dinomaly.few_shot(data / "few/bottle", model)
    return model
