"""Models on the hub: what the program publishes, the hub's own client reads, and the other way round."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

# The hub of these tests has Git LFS alone, as mirrors have. Read when the client is imported.
os.environ["HF_HUB_DISABLE_XET"] = "1"

from huggingface_hub import HfApi, ModelCard, metadata_load, snapshot_download
from huggingface_hub.repocard_data import model_index_to_eval_results

import dinomaly
from conftest import DEMO_MODEL, program
from hub import TOKEN, Hub


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub, which the program and the package use, with a cache of its own."""
    hub = Hub()
    for name in ["HF_HUB_CACHE", "HF_HUB_OFFLINE", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH"]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("HF_ENDPOINT", hub.address)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.cache = tmp_path / "home/hub"
    yield hub
    hub.server.shutdown()


@pytest.fixture
def photo():
    return np.random.default_rng(4).integers(0, 256, (96, 128, 3), np.uint8)


def test_the_hubs_client_reads_what_the_program_published(hub, photo, demo, tmp_path, monkeypatch):
    metrics = tmp_path / "metrics.json"
    maps = np.random.default_rng(0).random((4, 32, 32), dtype=np.float32)
    masks = np.zeros((4, 32, 32), bool)
    masks[2:, 8:16, 8:16] = True
    found = dinomaly.evaluate(masks, maps + masks, labels=[0, 0, 1, 1], scores=[0.1, 0.2, 0.3, 0.4])
    metrics.write_text(json.dumps({**found, "undefined": []}))
    words = ["--metrics", metrics, "--dataset", "Drawn products", "--license", "apache-2.0"]
    assert "hf:acme/demo" in program("publish", DEMO_MODEL, "hf:acme/demo", *words).stdout

    folder = Path(snapshot_download("acme/demo", endpoint=hub.address, cache_dir=hub.cache, token=False))
    manifest = json.loads((folder / "manifest.json").read_text())
    assert {file["name"] for file in manifest["files"]} | {"manifest.json", ".gitattributes"} == set(os.listdir(folder))
    for shard in DEMO_MODEL.glob("*.safetensors"):
        assert (folder / shard.name).read_bytes() == shard.read_bytes()

    # Of one cache: what the client fetched is not asked for again, and found without a network.
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    hub.log.clear()
    loaded = dinomaly.Detector.load("hf:acme/demo")
    assert loaded.detect(photo).score == demo.detect(photo).score and not hub.log

    card = ModelCard.load(folder / "README.md").data
    assert (card.library_name, card.pipeline_tag, card.license) == ("dinomaly", "image-segmentation", "apache-2.0")
    assert "anomaly-detection" in card.tags
    name, results = model_index_to_eval_results(metadata_load(folder / "README.md")["model-index"])
    assert name == card.model_name == "demo"
    assert {result.metric_name: result.metric_value for result in results} == {
        "I-AUROC": found["i_auroc"],
        "I-AP": found["i_ap"],
        "I-F1max": found["i_f1max"],
        "P-AUROC": found["p_auroc"],
        "P-AP": found["p_ap"],
        "P-F1max": found["p_f1max"],
        "AUPRO": found["aupro"],
    }
    assert {result.dataset_name for result in results} == {"Drawn products"}
    # As the client would write it.
    assert ModelCard(str(ModelCard.load(folder / "README.md"))).data.to_dict() == card.to_dict()


def test_the_package_reads_what_the_hubs_client_published(hub, photo, demo):
    api = HfApi(endpoint=hub.address, token=TOKEN)
    api.create_repo("acme/theirs")
    api.upload_folder(repo_id="acme/theirs", folder_path=DEMO_MODEL)
    detector = dinomaly.Detector.load("hf:acme/theirs")
    assert detector.detect(photo).score == demo.detect(photo).score
    # The client finds it in the cache that the package wrote.
    folder = snapshot_download("acme/theirs", cache_dir=hub.cache, local_files_only=True)
    assert dinomaly.Detector.load(folder).name == detector.name

    # An edited card changes no result.
    card = ModelCard((DEMO_MODEL / "README.md").read_text())
    card.data.license = "mit"
    api.upload_file(path_or_fileobj=str(card).encode(), path_in_repo="README.md", repo_id="acme/theirs")
    assert dinomaly.Detector.load("hf:acme/theirs").detect(photo).score == demo.detect(photo).score


def test_a_model_of_real_photos_goes_there_and_back(hub, bottles, data):
    photos = sorted((data / "few/bottle/test").glob("*/*"))[:4]
    before = program("detect", bottles, *photos).stdout
    program("publish", bottles, "hf:acme/bottles", "--license", "mit")
    assert program("detect", "hf:acme/bottles", *photos).stdout == before
    results = dinomaly.Detector.load("hf:acme/bottles").detect(photos)
    assert [str(result.score) for result in results] == [line.split(",")[1] for line in before.splitlines()[1:]]


def test_what_is_no_model_is_refused(hub):
    HfApi(endpoint=hub.address, token=TOKEN).create_repo("acme/empty")
    for place, reason in [
        ("hf:acme/empty", "has no file manifest.json in acme/empty"),
        ("hf:acme/nothing", "has no model repository acme/nothing"),
        ("hf:nothing", "names no owner"),
    ]:
        with pytest.raises(dinomaly.Error, match=reason):
            dinomaly.Detector.load(place)
