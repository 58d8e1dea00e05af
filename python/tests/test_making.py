"""Models of photos: trained, and made without training."""

import logging
import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
from PIL import Image

import dinomaly
from conftest import program


def scores(detector, photos):
    return [result.score for result in detector.detect(sorted(photos))]


def test_a_model_of_a_few_real_photos_is_the_programs(data, bottles, tmp_path):
    program("fewshot", data / "few/bottle", "--out", tmp_path / "bottles")
    photos = (data / "few/bottle/test").glob("*/*")
    of_program = {path.name: path.read_bytes() for path in (tmp_path / "bottles").iterdir()}
    assert of_program == {path.name: path.read_bytes() for path in bottles.iterdir()}
    assert dinomaly.Detector.load(bottles).name == "bottles"
    assert len(scores(dinomaly.Detector.load(bottles), photos)) == 13


def test_a_list_of_photos_makes_the_model_of_its_folder(drawn, tmp_path):
    folder = drawn / "gear/train/good"
    of_folder = dinomaly.few_shot(folder, tmp_path / "model", memory="bank", layers=[3, 5])
    paths = sorted(folder.iterdir())
    pictures = [Image.open(path) for path in paths]
    test = list((drawn / "gear/test").glob("*/*"))
    expected = scores(of_folder, test)
    mixed = [str(paths[0]), pictures[1], np.asarray(pictures[2]), paths[3].read_bytes(), *pictures[4:]]
    in_memory = dinomaly.Detector.few_shot(mixed, memory="bank", layers=(3, 5))
    assert scores(in_memory, test) == expected
    assert in_memory.classes == ["photos"] and of_folder.classes == ["good"]


def test_progress_and_lines_are_heard(drawn, tmp_path, caplog):
    steps = []
    with caplog.at_level(logging.INFO, logger="dinomaly"):
        dinomaly.few_shot(drawn / "gear/train/good", tmp_path / "model", progress=steps.append)
    assert all(isinstance(step, dinomaly.Progress) for step in steps)
    assert [(step.done, step.total) for step in steps if step.what == "encoding photos"] == [(6, 6)]
    assert "<Progress: encoding photos 6/6 photos>" in map(repr, steps)
    lines = [record.getMessage() for record in caplog.records]
    assert any("embedded" in line for line in lines), lines
    assert any(record.levelno == logging.WARNING and "threshold of good" in record.getMessage() for record in caplog.records)


def test_a_training_goes_on_after_it_was_stopped(drawn, tmp_path):
    options = {"iterations": 12, "batch": 2, "holdout": 0.5, "size": None}
    model, done = tmp_path / "model", []

    def stop_at_5(step):
        if step.what == "training":
            done.append(step.done)
            if step.done == 5:
                raise ZeroDivisionError("enough")

    with pytest.raises(ZeroDivisionError, match="enough"):
        dinomaly.train(drawn, model, progress=stop_at_5, **options)
    assert done == [1, 2, 3, 4, 5] and not model.exists()

    steps = []
    detector = dinomaly.train(drawn, model, progress=steps.append, **options)
    training = [step for step in steps if step.what == "training"]
    assert 5 < training[0].done <= 8 and (training[-1].done, training[-1].total) == (12, 12)
    assert "loss" in training[0].message
    assert detector.classes == ["gear"]
    # The weights are those of a training that nobody stopped.
    whole = dinomaly.train(drawn, tmp_path / "whole", **options)
    photos = list((drawn / "gear/test").glob("*/*"))
    assert scores(detector, photos) == scores(whole, photos)
    # It is trained already.
    steps.clear()
    assert dinomaly.train(drawn, model, progress=steps.append, **options).name == "model"
    assert "training" not in {step.what for step in steps}


@pytest.mark.skipif(os.name == "nt", reason="Windows sends Ctrl-C otherwise")
def test_ctrl_c_stops_a_training_with_its_checkpoint(drawn, tmp_path):
    script = textwrap.dedent(
        f"""
        import sys, dinomaly
        def step(step):
            print(step.what, step.done, flush=True)
        dinomaly.train({str(drawn)!r}, {str(tmp_path / "model")!r}, iterations=int(sys.argv[1]), batch=2, progress=step)
        """
    )
    command = [sys.executable, "-c", script]
    with subprocess.Popen([*command, "100000"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        for line in run.stdout:
            if line.startswith("training 3"):
                break
        begun = time.perf_counter()
        run.send_signal(signal.SIGINT)
        last = [line for line in run.stdout if line.startswith("training ")]
        error = run.stderr.read()
    # As Python ends at an interrupt that nobody catches.
    assert run.returncode in (-signal.SIGINT, 130), error
    assert "KeyboardInterrupt" in error and time.perf_counter() - begun < 20
    stopped = int(last[-1].split()[1]) if last else 3
    with subprocess.Popen([*command, "100000"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as run:
        again = next(line for line in run.stdout if line.startswith("training "))
        run.send_signal(signal.SIGINT)
        run.stdout.read()
    assert int(again.split()[1]) >= stopped, (again, stopped)


@pytest.mark.parametrize(
    "options, kind, sentence",
    [
        ({"iteration": 3}, TypeError, "unexpected argument '--iteration' found"),
        ({"holdout": 0.9}, TypeError, "invalid value '0.9' for '--holdout <SHARE>': it must be a number from 0.0 to 0.5"),
        ({"device": "tpu"}, ValueError, "device 'tpu': expected cpu"),
        ({"device": "gpu"}, dinomaly.Error, "device gpu only runs models on photos"),
        ({"classes": "shoe"}, dinomaly.Error, "shoe"),
    ],
)
def test_options_that_do_not_exist_are_refused(drawn, tmp_path, options, kind, sentence):
    with pytest.raises(kind, match=sentence) as refused:
        dinomaly.train(drawn, tmp_path / "model", **options)
    assert "\n" not in str(refused.value)


def test_what_is_no_photos_is_refused(tmp_path):
    with pytest.raises(TypeError, match="photos are of type int: expected a folder, or a list of photos"):
        dinomaly.few_shot(7, tmp_path / "model")
    with pytest.raises(TypeError, match="photo 0 is of type int"):
        dinomaly.Detector.few_shot([7])
    with pytest.raises(dinomaly.Error, match="gone does not exist"):
        dinomaly.few_shot(tmp_path / "gone", tmp_path / "model")
    with pytest.raises(TypeError, match="--reach is for --memory rad"):
        dinomaly.few_shot(tmp_path, tmp_path / "model", reach=1)
