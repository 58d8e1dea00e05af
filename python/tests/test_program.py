"""The program that `pip install` brings is the program."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import dinomaly
from conftest import DEMO_MODEL, program


def test_it_has_the_version_of_the_package():
    assert program("--version").stdout == f"dinomaly {dinomaly.__version__}\n"
    by_module = subprocess.run([sys.executable, "-m", "dinomaly", "--version"], capture_output=True, text=True, check=True)
    assert by_module.stdout.endswith(f" {dinomaly.__version__}\n")


def test_exit_statuses_are_the_programs(tmp_path):
    assert "Usage: dinomaly" in program("--help").stdout
    for words, status, said in [
        (["detect"], 2, "required arguments were not provided"),
        (["detect", DEMO_MODEL, tmp_path / "gone.png"], 1, "dinomaly: photo"),
    ]:
        run = program(*words, check=False)
        assert run.returncode == status and said in run.stderr, run


@pytest.mark.skipif(os.name == "nt", reason="Windows sends Ctrl-C otherwise")
def test_ctrl_c_ends_it_with_its_status(tmp_path):
    path = Path(sys.executable).parent / "dinomaly"
    words = [path, "generate", tmp_path / "photos", "--train", "100000"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as run:
        # The folder stands beside its place until it is whole.
        while not any(tmp_path.iterdir()) and run.poll() is None:
            pass
        run.send_signal(signal.SIGINT)
        error = run.communicate(timeout=60)[1]
    assert run.returncode == 130, error
    assert "stopping: removing the unfinished data set" in error and not any(tmp_path.iterdir())


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such pipes")
def test_a_closed_pipe_ends_it_without_a_word():
    path = Path(sys.executable).parent / "dinomaly"
    with subprocess.Popen([path, "detect", "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        run.stdout.close()
        error = run.stderr.read()
    assert b"Traceback" not in error and b"panicked" not in error, error
