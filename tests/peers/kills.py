#!/usr/bin/env python3
"""Kills commands that write, and counts what is lost and what is left.

    tests/peers/kills.py target/release/dinomaly tests/fixtures/released/format-1/model [KILLS [COMMAND …]]

Each command is killed KILLS times (default 40) at random times, and with strace (Linux) at every system call that makes a file
appear, vanish or last. After every kill its result must be whole, the earlier one or the new one; then one more run must succeed and
leave the same files with the same bytes as an unbroken one, and nothing else. Exit status 1 otherwise.
"""

import csv
import hashlib
import json
import os
import random
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import time

CALLS = ["rename", "renameat", "renameat2", "fsync", "fdatasync", "unlink", "unlinkat", "rmdir", "mkdir", "linkat", "symlinkat"]
SMALL = "--resize 64 --crop 64 --heads 1 --layers 2,3,4,5,6,7,8,9"
TRAIN = f"train data --backbone encoder.safetensors --out out --iterations 3 --batch 2 {SMALL} --holdout 0.3"
IMPORT = f"import official.safetensors --data data --out out {SMALL}"
DISTILL = "distill --teacher teacher.pth --teacher-heads 1 --student out --width 4 --depth 1 --grid 2 --batch 1 --iterations 410"
PLAN = """data = "data"
backbone = "encoder.safetensors"
heads = 1
layers = [2, 3, 4, 5, 6, 7, 8, 9]
iterations = 3
batch = 2
resize = 64
crop = 64
holdout = 0.3
seeds = [1, 2]

[[variant]]
name = "default"
"""

program, model = (os.path.abspath(path) for path in sys.argv[1:3])
kills = int(sys.argv[3]) if len(sys.argv) > 3 else 40
fixtures = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../fixtures")
quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def is_model(path):
    return subprocess.run([program, "inspect", path], **quiet).returncode == 0


def ends_with(end):
    def whole(path):
        with open(path, "rb") as file:
            return file.read().rstrip().endswith(end)

    return whole


def is_json(path):
    with open(path, encoding="utf-8") as file:
        json.load(file)
    return True


def are_pngs(path):
    names = (name for name in os.listdir(path) if not name.startswith(".dinomaly-"))
    return all(ends_with(b"IEND\xaeB`\x82")(os.path.join(path, name)) for name in names)


def is_table(path):
    with open(path, encoding="utf-8", newline="") as file:
        return len({len(row) for row in csv.reader(file)}) == 1


def tensors(path):
    """Header and data of a safetensors file."""
    with open(path, "rb") as file:
        content = file.read()
    length = struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def is_encoder(path):
    header, data = tensors(path)
    return len(data) == max(tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__")


def is_site(path):
    with open(os.path.join(path, "models.json"), encoding="utf-8") as file:
        models = json.load(file)["models"]
    files = [file for model in models for file in [model["manifest"], *model["files"].values()]]
    return all(digest(os.path.join(path, file)).startswith(os.path.basename(file).split(".")[0]) for file in files)


def is_ablation(path):
    names = lambda folder: [os.path.join(path, folder, name) for name in os.listdir(os.path.join(path, folder))]
    cells = [name for name in names("cells") if name.endswith(".json")] if os.path.isdir(f"{path}/cells") else []
    models = names("models") if os.path.isdir(f"{path}/models") else []
    finished = [name for name in models if "." not in os.path.basename(name)]
    return all(map(is_json, cells)) and all(map(is_model, finished))


# Arguments, whether what they write to `out` is whole, whether an earlier result stands there first.
COMMANDS = {
    "quantize": ("quantize model --to f16 --out out", is_model, True),
    "calibrate": ("calibrate model data --out out", is_model, True),
    "train": (TRAIN, is_model, False),
    "train --restart": (TRAIN + " --restart", is_model, True),
    "import": (IMPORT, is_model, True),
    "distill": (DISTILL, is_encoder, True),
    "ablate": ("ablate plan.toml --out out", is_ablation, False),
    "evaluate --report": ("evaluate model data --report out", ends_with(b"</html>"), True),
    "evaluate --json": ("evaluate model data --json out", is_json, True),
    "evaluate --csv": ("evaluate model data --csv out", is_table, True),
    "detect --heatmaps": ("detect model data/gear/test/good --heatmaps out", are_pngs, True),
    "attention": ("attention model photo.png --out out", are_pngs, True),
    "generate": ("generate out --size 48 --train 2 --good 1 --defective 1 --classes gear", None, False),
    "site": ("site model --wasm wasm --samples data/gear/test/good --out out", is_site, True),
}
INPUTS = {"model", "data", "photo.png", "official.safetensors", "encoder.safetensors", "teacher.pth", "plan.toml", "wasm"}


# How fast a report was made.
SPEED = re.compile(rb"<dd>[0-9.]+</dd>|in [0-9.]+ s: [0-9.]+ photos per second")


def digest(path):
    with open(path, "rb") as file:
        return hashlib.sha256(SPEED.sub(b"", file.read())).hexdigest()


def clear():
    for name in set(os.listdir(".")) - INPUTS:
        shutil.rmtree(name) if os.path.isdir(name) and not os.path.islink(name) else os.remove(name)


def found():
    """Every folder, and every file with its digest, but the inputs."""
    tree = {}
    for folder, folders, files in os.walk("."):
        if folder == ".":
            folders[:] = set(folders) - INPUTS
            files = set(files) - INPUTS
        tree.update({os.path.join(folder, name): None for name in folders})
        tree.update({os.path.join(folder, name): digest(os.path.join(folder, name)) for name in files})
    return tree


def age():
    """Makes half-written files old enough that a run on this machine takes them for those of a dead one."""
    for folder, folders, files in os.walk("."):
        for name in (name for name in folders + files if name.startswith(".dinomaly-")):
            os.utime(os.path.join(folder, name), (time.time() - 60,) * 2)


def shown(paths):
    """The first three, without what lies below another."""
    top = sorted(path for path in paths if os.path.dirname(path) not in paths)
    more = f" and {len(top) - 3} more" if len(top) > 3 else ""
    return (", ".join(top[:3]) or "nothing") + more


def campaign(name, arguments, is_whole, earlier):
    command = [program, *arguments.split()]
    clear()
    begun = time.monotonic()
    subprocess.run(command, check=True, **quiet)
    usual = time.monotonic() - begun
    expected = found()
    tried, lost, failed, left, other = 0, 0, 0, set(), set()

    def prepare():
        if not earlier:
            clear()

    def after_kill():
        nonlocal tried, lost, failed
        tried += 1
        if is_whole and (earlier or os.path.exists("out")):
            try:
                lost += not is_whole("out")
            except (OSError, ValueError, KeyError, struct.error):
                lost += 1
        # A finished data set is not generated again.
        if name != "generate" or not os.path.exists("out"):
            age()
            failed += subprocess.run(command, **quiet).returncode != 0
        now = found()
        left.update(set(now) - set(expected))
        other.update(path for path in expected if path not in now or now[path] != expected[path])

    for _ in range(kills):
        prepare()
        process = subprocess.Popen(command, **quiet)
        time.sleep(random.uniform(0.02, 1.05) * usual)
        process.kill()
        process.wait()
        after_kill()
    for call in CALLS if shutil.which("strace") else []:
        for number in range(1, 100):
            prepare()
            inject = ["-e", f"trace={call}", "-e", f"inject={call}:signal=SIGKILL:when={number}"]
            traced = subprocess.run(["strace", "-f", "-o", "/dev/null", *inject, *command], **quiet)
            if traced.returncode == 0:
                break
            after_kill()
    print(f"| {name} | {tried} | {lost} | {failed} | {shown(left)} | {shown(other)} |", flush=True)
    return lost or failed or left or other


def main():
    random.seed(4)
    chosen = sys.argv[4:] or COMMANDS
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        shutil.copytree(model, "model")
        shutil.copytree(os.path.join(fixtures, "released/format-1/site/wasm"), "wasm")
        shutil.copy(os.path.join(fixtures, "backbones/dinov2_registers.pth"), "teacher.pth")
        encoder = next(name for name in os.listdir("model") if name.startswith("encoder-"))
        shutil.copy(os.path.join("model", encoder), "encoder.safetensors")
        with open("plan.toml", "w", encoding="utf-8") as file:
            file.write(PLAN)
        # The names in a model are those of an official checkpoint.
        parts = [tensors(os.path.join("model", name)) for name in os.listdir("model") if name.endswith(".safetensors")]
        header, data = {}, b""
        for part, bytes_of_part in parts:
            for tensor in (tensor for key, tensor in part.items() if key != "__metadata__"):
                tensor["data_offsets"] = [offset + len(data) for offset in tensor["data_offsets"]]
            header |= {key: tensor for key, tensor in part.items() if key != "__metadata__"}
            data += bytes_of_part
        text = json.dumps(header).encode()
        with open("official.safetensors", "wb") as file:
            file.write(struct.pack("<Q", len(text)) + text + data)
        generate = "generate data --size 64 --train 6 --good 2 --defective 1 --classes gear"
        subprocess.run([program, *generate.split()], check=True, **quiet)
        shutil.copy("data/gear/train/good/000.png", "photo.png")
        print("| command | kills | results lost | next runs that fail | left after them | other than unbroken |")
        print("|---|---|---|---|---|---|")
        sys.exit(any([campaign(name, *COMMANDS[name]) for name in chosen]))


main()
