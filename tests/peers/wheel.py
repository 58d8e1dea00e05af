"""The wheel in a fresh environment that has no compiler: README's examples on real photos, and their scores against the program's.

    maturin build --release --manifest-path python/Cargo.toml --out wheels
    python3 tests/peers/wheel.py wheels/dinomaly-*.whl DATA/few/bottle

The environment's programs are all that is in PATH. pip takes built packages only.
"""

import csv
import io
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

README = Path(__file__).resolve().parents[2] / "python/README.md"
COMPILERS = ["cc", "c++", "gcc", "g++", "clang", "ld", "make", "rustc", "cargo", "maturin"]

# After the examples, whose names it has.
COMPARED = """
import platform, sys
print("numpy", np.__version__, "Pillow", __import__("PIL").__version__, "Python", platform.python_version(), file=sys.stderr)
for photo, result in zip(photos, results):
    print(photo, result.score, result.threshold, result.normalised, sep=",")
"""


def main():
    wheel, bottle = (Path(word).resolve() for word in sys.argv[1:])
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        venv.create(folder / "environment", with_pip=True)
        programs = folder / "environment/bin"
        environment = {"PATH": str(programs), "HOME": str(folder), "LANG": "C.UTF-8"}
        environment |= {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
        there = [name for name in COMPILERS if shutil.which(name, path=environment["PATH"])]
        assert not there, there

        def run(program, *words):
            command = [programs / program, *map(str, words)]
            return subprocess.run(command, env=environment, cwd=folder, check=True, stdout=subprocess.PIPE, text=True).stdout

        run("pip", "install", "--quiet", "--only-binary", ":all:", wheel)
        (folder / "bottle").symlink_to(bottle)
        blocks = [block.partition("\n")[2] for block in README.read_text().split("```")[1::2] if block.startswith("python\n")]
        assert len(blocks) >= 2
        (folder / "examples.py").write_text("\n".join([*blocks, COMPARED]))
        by_python = [line for line in run("python", "examples.py").splitlines() if line.count(",") == 3]
        assert (folder / "heatmap.png").is_file()
        photos = [line.partition(",")[0] for line in by_python]
        rows = csv.DictReader(io.StringIO(run("dinomaly", "detect", "model", *photos)))
        by_program = [",".join(row[name] for name in ["photo", "score", "threshold", "normalised"]) for row in rows]
        assert len(by_python) >= 10 and by_python == by_program, (by_python, by_program)
        print(f"{len(photos)} photos: score, threshold and normalised equal the program's to the last digit, such as {by_program[0]}")


main()
