"""Kills `dinomaly quantize` at random times, and counts what is lost and what is left.

    python kills.py target/release/dinomaly tests/fixtures/released/format-1/model [KILLS]

After every kill the model at --out must be whole; after one more run nothing may lie beside it. Exit status 1 otherwise.
"""

import os
import random
import shutil
import subprocess
import sys
import tempfile
import time

program, model = (os.path.abspath(path) for path in sys.argv[1:3])
kills = int(sys.argv[3]) if len(sys.argv) > 3 else 300
random.seed(4)
with tempfile.TemporaryDirectory() as folder:
    os.chdir(folder)
    shutil.copytree(model, "model")
    quantize = [program, "quantize", "model", "--to", "f16", "--out", "out"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run(quantize, check=True, **quiet)
    begun = time.monotonic()
    subprocess.run(quantize, check=True, **quiet)
    usual = time.monotonic() - begun
    lost = 0
    for _ in range(kills):
        process = subprocess.Popen(quantize, **quiet)
        time.sleep(random.uniform(0.3, 1.1) * usual)
        process.kill()
        process.wait()
        lost += subprocess.run([program, "inspect", "out"], **quiet).returncode != 0
    time.sleep(1.2)
    subprocess.run(quantize, check=True, **quiet)
    left = sorted(set(os.listdir(".")) - {"model", "out"})
    print(f"{kills} kills, {usual:.3f} s a run: {lost} models lost, left after the next run: {left}")
    sys.exit(lost > 0 or bool(left))
