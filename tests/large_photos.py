"""Small defects in large photos: what tiles find, what a whole photo shows, time and peak memory.

    tests/large_photos.py target/release/dinomaly

Generates photos of brushed metal, eight good ones for a model of each kind, and for each of three sizes a good one and one with a
defect of 12 pixels. Prints scores beside the threshold, and of `detect` the time and the largest resident memory. Scores of a model
of whole photos are left out where photos have another size, and so another scale, than those that it was made of.
"""

import argparse
import csv
import io
import os
import random
import struct
import subprocess
import tempfile
import time
import zlib
from pathlib import Path

GOOD = 8
CELL = 40
DEFECT = 12
SIZES = [(4000, 1000), (8000, 2000), (16000, 4000)]


def write_photo(path, width, height, seed, defect):
    """A photo of brushed metal: fine noise, lines along it, and cells that are slightly brighter or darker."""
    draw = random.Random(seed)
    tables = [bytes(min(255, max(0, 112 + offset + value // 8)) for value in range(256)) for offset in range(-24, 25)]
    rows = []
    for y in range(height):
        if y % CELL == 0:
            cells = [draw.randint(-8, 8) for _ in range(-(-width // CELL))]
        line = draw.randint(-6, 6)
        noise = draw.randbytes(width)
        row = b"".join(
            noise[i * CELL : (i + 1) * CELL].translate(tables[24 + cell + line]) for i, cell in enumerate(cells)
        )
        rows.append(bytearray(row))
    if defect:
        left, top = width * 5 // 8 + 7, height * 3 // 8 + 5
        for y in range(DEFECT):
            for x in range(DEFECT):
                if (2 * x + 1 - DEFECT) ** 2 + (2 * y + 1 - DEFECT) ** 2 <= DEFECT**2:
                    rows[top + y][left + x] = 60
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    pixels = zlib.compress(b"".join(b"\0" + bytes(row) for row in rows), 1)
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b""))


def run(program, *arguments):
    """Standard output, seconds, and largest resident memory in MiB."""
    begun = time.monotonic()
    child = subprocess.Popen([program, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    output = child.stdout.read().decode()
    complaints = child.stderr.read().decode()
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        raise SystemExit(f"{arguments}: {complaints}")
    return output, time.monotonic() - begun, usage.ru_maxrss / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--tile-size", default="300")
    parser.add_argument("--layers", default="2,5,8")
    parser.add_argument("--good-size", default="8000x2000", help="size of the good photos")
    parser.add_argument("--sizes", default=",".join(f"{w}x{h}" for w, h in SIZES))
    options = parser.parse_args()
    sides = lambda text: tuple(int(side) for side in text.split("x"))
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        (folder / "good").mkdir()
        for i in range(GOOD):
            write_photo(folder / "good" / f"{i}.png", *sides(options.good_size), i, False)
        models = {"whole": [], "tiles": ["--tile-size", options.tile_size]}
        for name, tiles in models.items():
            _, seconds, memory = run(
                options.program, "fewshot", folder / "good", "--out", folder / name, "--layers", options.layers, *tiles
            )
            print(f"fewshot {name}: {seconds:.1f} s, {memory:.0f} MiB", flush=True)
        print("| photo | model | good | defective | threshold | s | MiB |\n|---|---|---|---|---|---|---|")
        for width, height in map(sides, options.sizes.split(",")):
            photos = [folder / f"{width}-{kind}.png" for kind in ("good", "defective")]
            for number, photo in enumerate(photos):
                write_photo(photo, width, height, 100 + number, number == 1)
            for name in models:
                found, seconds, memory = [], [], []
                for photo in photos:
                    output, took, peak = run(options.program, "detect", folder / name, photo)
                    found.append(list(csv.DictReader(io.StringIO(output)))[0])
                    seconds.append(took)
                    memory.append(peak)
                numbers = [f"{float(row[column]):.4f}" for row, column in zip([*found, found[0]], ["score", "score", "threshold"])]
                if name == "whole" and (width, height) != sides(options.good_size):
                    numbers = ["–"] * 3
                print(
                    f"| {width} × {height} | {name} | {' | '.join(numbers)} | {max(seconds):.1f} | {max(memory):.0f} |",
                    flush=True,
                )
            for photo in photos:
                photo.unlink()


if __name__ == "__main__":
    main()
