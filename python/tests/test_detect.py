"""Verdicts on photos are the program's, whatever a photo comes as."""

import json
import os
import signal
import threading
import time

import numpy as np
import pytest
from PIL import Image

import dinomaly
from conftest import DEMO_MODEL, program

FIELDS = ["score", "threshold", "normalised", "defective", "verdict", "nearest"]


def printed(model, *words):
    """The rows that the program prints."""
    return json.loads(program("detect", model, *words, "--json").stdout)


def row(result):
    return {name: getattr(result, name) for name in FIELDS if getattr(result, name) is not None}


def test_scores_of_real_photos_equal_the_programs_to_the_last_digit(bottles, data):
    photos = sorted((data / "few/bottle/test").glob("*/*")) + sorted((data / "screw/test/good").glob("*"))[:4]
    rows = printed(bottles, *photos)
    results = dinomaly.Detector.load(bottles).detect(photos)
    assert len(results) == len(rows) == 17
    for result, line in zip(results, rows):
        assert row(result) == {name: line[name] for name in FIELDS if name in line}
        assert str(result.score) == repr(line["score"])
    # All three verdicts are compared.
    assert {result.verdict for result in results} == {"good", "defective", "unknown"}


def test_regions_and_heatmaps_equal_the_programs(bottles, data, tmp_path):
    photos = sorted((data / "few/bottle/test/broken_large").glob("*"))
    rows = printed(bottles, *photos, "--regions", "--heatmaps", tmp_path)
    found = 0
    for i, (result, line) in enumerate(zip(dinomaly.Detector.load(bottles).detect(photos), rows)):
        assert result.pixel_threshold == line["pixel_threshold"]
        assert len(result.regions) == len(line["regions"])
        for region, expected in zip(result.regions, line["regions"]):
            for name in ["x0", "y0", "x1", "y1", "area", "peak", "mean"]:
                assert getattr(region, name) == pytest.approx(expected[name], abs=0.006)
            assert np.allclose(region.outline, expected["outline"], atol=0.006)
            found += 1
        heatmap = result.heatmap(outlines=True)
        written = Image.open(next(tmp_path.glob(f"{i:03}_*.png")))
        assert heatmap.size == result.size == written.size and heatmap.mode == "RGB"
        assert np.array_equal(np.asarray(heatmap), np.asarray(written))
        assert len(result.regions_above(result.pixel_threshold, min_area=1e9)) == 0
        assert not np.array_equal(np.asarray(heatmap), np.asarray(result.heatmap(0.1)))
    assert found > 0


class Tensor:
    """What a library has that knows neither numpy nor Pillow."""

    def __init__(self, array):
        self.array = array


class WithArray(Tensor):
    def __array__(self, dtype=None, copy=None):
        return self.array


class WithDlpack(Tensor):
    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


def forms(path):
    """A photo file in every form that a detector takes."""
    picture = Image.open(path)
    array = np.asarray(picture)
    yield str(path)
    yield path
    yield path.read_bytes()
    yield bytearray(path.read_bytes())
    yield Image.open(path)
    yield array
    yield WithArray(array)
    yield WithDlpack(array.copy())
    # Rows that do not lie one behind the other.
    yield np.concatenate([array, array], axis=1)[:, : array.shape[1]]
    if picture.mode == "RGB":
        yield picture.convert("RGBA")
    if picture.mode == "L":
        yield array[:, :, None]
    try:
        import torch
    except ImportError:
        return
    if array.dtype == np.uint8:
        yield torch.tensor(array)


def as_files(folder):
    """Photos of each kind of colours, as files without loss."""
    rng = np.random.default_rng(3)
    colour = rng.integers(0, 256, (70, 90, 3), dtype=np.uint8)
    Image.fromarray(colour).save(folder / "colour.png")
    Image.fromarray(colour[:, :, 0]).save(folder / "grey.png")
    Image.fromarray((colour[:, :, 0].astype(np.uint16) * 150)).save(folder / "grey16.png")
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(colour).save(folder / "turned.png", exif=turned)
    return sorted(folder.iterdir())


def test_every_form_of_a_photo_has_one_result(demo, tmp_path):
    for path in as_files(tmp_path):
        first = demo.detect(path)
        for form in forms(path):
            if path.stem == "turned" and not isinstance(form, (str, bytes, bytearray, os.PathLike, Image.Image)):
                continue  # Pixels alone do not say how they are turned.
            if path.stem == "turned" and getattr(form, "mode", "") == "RGBA":
                continue
            found = demo.detect(form)
            assert row(found) == row(first), (path.name, type(form))
            assert np.array_equal(found.map, first.map) and found.region == first.region
            assert np.array_equal(np.asarray(found.heatmap()), np.asarray(first.heatmap()))
    assert demo.detect(tmp_path / "turned.png").size == (70, 90)


def test_16_bit_grey_is_seen_in_the_models_window(tmp_path):
    rng = np.random.default_rng(5)
    good = tmp_path / "good"
    good.mkdir()
    for i in range(4):
        Image.fromarray((2000 + rng.integers(0, 30000, (64, 64))).astype(np.uint16)).save(good / f"{i}.png")
    detector = dinomaly.few_shot(good, tmp_path / "model", size=64)
    photo = good / "0.png"
    by_file, array = detector.detect(photo), np.asarray(Image.open(photo))
    assert array.dtype == np.uint16
    assert detector.detect(array).score == by_file.score
    assert detector.detect(array.astype(">u2")).score == by_file.score
    assert detector.detect(Image.open(photo).convert("I")).score == by_file.score
    assert detector.detect((array >> 8).astype(np.uint8)).score != by_file.score


def test_results_have_what_they_say(demo):
    photo = np.zeros((50, 80, 3), np.uint8)
    result = demo.detect(photo)
    assert isinstance(result, dinomaly.Result)
    assert result.map.dtype == np.float32 and result.map.ndim == 2
    # The model looks at the centre.
    assert result.size == (80, 50) and result.region == (5.0, 3.125, 75.0, 46.875)
    assert f"score {result.score}" in repr(result)
    assert set(demo.thresholds) == set(demo.classes) and "gear" in demo.classes
    assert demo.detect(photo, class_name="gear").threshold == demo.thresholds["gear"]
    assert demo.detect([]) == [] and len(demo.detect((photo,))) == 1


@pytest.mark.parametrize(
    "photo, kind, sentence",
    [
        (7, TypeError, "photo in memory is of type int: expected a path, the bytes of a photo file, a PIL.Image"),
        ([np.zeros((4, 4), np.uint8), None], TypeError, "photo 1 is of type NoneType: expected a path"),
        (np.zeros((3, 40, 50), np.uint8), ValueError, r"\(3, 40, 50\), with its channels first: .* permute"),
        (np.zeros((40, 50, 4), np.uint8), ValueError, r"an array of shape \(40, 50, 4\): expected uint8 of"),
        (np.zeros((2, 40, 50, 3), np.uint8), ValueError, r"an array of shape \(2, 40, 50, 3\): expected"),
        (np.zeros((40, 50, 3)), TypeError, "an array of float64 of shape .* expected uint8"),
        (np.zeros((40, 50, 3), np.uint16), TypeError, "an array of uint16 of shape .* expected uint8"),
        (np.zeros((0, 50, 3), np.uint8), ValueError, "photo in memory: a picture of 50x0 pixels is empty"),
        (Image.new("F", (9, 9)), ValueError, "a picture of mode F, which has no fixed black and white"),
        (b"no photo", dinomaly.Error, "photo in memory: not a PNG, JPEG"),
        ("gone.png", dinomaly.Error, "photo gone.png cannot be read: No such file"),
    ],
)
def test_what_is_no_photo_is_refused_in_a_sentence(demo, photo, kind, sentence):
    with pytest.raises(kind, match=sentence) as refused:
        demo.detect(photo)
    assert "\n" not in str(refused.value)


def test_a_tensor_that_cannot_be_an_array_says_why(demo):
    class OnGpu:
        def __array__(self, dtype=None, copy=None):
            raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first")

    with pytest.raises(ValueError, match="photo in memory cannot become an array of numpy: can't convert cuda:0"):
        demo.detect(OnGpu())


def test_models_and_options_that_do_not_exist_are_refused(demo, tmp_path):
    load = dinomaly.Detector.load
    with pytest.raises(dinomaly.Error, match="cannot be used: there is no such folder"):
        load(tmp_path / "gone")
    with pytest.raises(ValueError, match="device 'tpu': expected cpu, gpu, cuda"):
        load(DEMO_MODEL, device="tpu")
    with pytest.raises(dinomaly.Error, match="has no class shoe: it has "):
        demo.detect(np.zeros((9, 9), np.uint8), class_name="shoe")
    result = demo.detect(np.zeros((9, 9), np.uint8))
    with pytest.raises(ValueError, match="opacity is 2: expected a number from 0 to 1"):
        result.heatmap(2)
    with pytest.raises(ValueError, match="pixel_threshold is -1: expected a positive number"):
        result.regions_above(-1)


def test_a_heatmap_of_a_file_that_is_gone_or_another_says_so(demo, tmp_path):
    path = tmp_path / "a.png"
    Image.new("RGB", (40, 30)).save(path)
    result = demo.detect(path)
    Image.new("RGB", (41, 30)).save(path)
    with pytest.raises(ValueError, match="another size"):
        result.heatmap()
    path.unlink()
    with pytest.raises(dinomaly.Error, match="a.png cannot be read"):
        result.heatmap()


def test_int8_is_another_precision(demo):
    photo = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    exact, rounded = demo.detect(photo).score, dinomaly.Detector.load(DEMO_MODEL, int8=True).detect(photo).score
    assert exact != rounded and abs(exact - rounded) < 0.02


def many(count):
    return list(np.random.default_rng(1).integers(0, 256, (count, 48, 48, 3), dtype=np.uint8))


def test_a_list_has_the_results_of_its_photos_in_order(demo):
    photos = many(19)
    alone = [row(demo.detect(photo)) for photo in photos]
    assert [row(result) for result in demo.detect(photos)] == alone
    assert len({result["score"] for result in alone}) == 19


def test_other_threads_go_on_while_photos_are_looked_at(demo):
    ticks, done = [], threading.Event()

    def tick():
        while not done.is_set():
            ticks.append(time.perf_counter())
            time.sleep(0.001)

    clock = threading.Thread(target=tick)
    clock.start()
    begun = time.perf_counter()
    demo.detect(many(60))
    ended = time.perf_counter()
    done.set()
    clock.join()
    during = [moment for moment in ticks if begun < moment < ended]
    # Holding the lock throughout would leave none.
    assert len(during) > 5, (len(during), ended - begun)


def test_threads_may_share_a_detector(demo):
    photos = many(6)
    alone = [row(demo.detect(photo)) for photo in photos]
    found = [None] * len(photos)

    def look(i):
        found[i] = row(demo.detect(photos[i]))

    threads = [threading.Thread(target=look, args=(i,)) for i in range(len(photos))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == alone


@pytest.mark.skipif(os.name == "nt", reason="Windows sends Ctrl-C otherwise")
def test_ctrl_c_stops_between_batches(demo):
    begun = time.perf_counter()
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        demo.detect(many(5000))
    assert time.perf_counter() - begun < 10
    assert demo.detect(many(1))[0].score > 0, "it can be used again"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="only Unix forks")
def test_a_forked_process_is_told_to_spawn(demo):
    demo.detect(many(1))
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            demo.detect(many(1))
            sentence = "nothing was raised"
        except RuntimeError as error:
            sentence = str(error)
        os.write(writing, sentence.encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert "this process was forked" in os.read(reading, 1000).decode()
