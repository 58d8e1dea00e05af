"""Our executors on the processor against ONNX Runtime and OpenVINO: the same weights, the same photo, two threads each, in turn.

    cargo build --release -p dinomaly-tests --bins
    target/release/random_model --shape vit-s14 --out MODEL          # or any f32 model of the published kind
    python3 -m venv VENV && VENV/bin/pip install numpy safetensors onnx onnxruntime openvino
    VENV/bin/python tests/peers/native.py MODEL [--rounds 9] [--photo PATCHES] [--threads 2]

All are loaded and warmed up first; then every round runs each of them once, so that other work on the machine meets all alike. Printed
are median milliseconds, medians of the ratios to each peer within a round, and how far each one's distances are from ONNX Runtime's in
f32: the largest and the root mean square difference. PATCHES are f32 values as the model takes them; random ones without.
"""

import argparse
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import openvino
from export_onnx import Model
from onnxruntime.quantization import QuantType
from onnxruntime.quantization import quantize_dynamic

OURS = ["f32", "int8", "candle"]


class Ours:
    def __init__(self, program, model, patches, executor, threads):
        environment = os.environ | {"RAYON_NUM_THREADS": str(threads)}
        command = [program, str(model), str(patches), executor]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        if self.process.stdout.readline().strip() != "ready":
            raise SystemExit(f"{program} ended before it was ready")

    def run(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def distances(self):
        return np.array(json.loads(self.process.communicate()[0]), dtype=np.float32)


class Peer:
    """`infer` takes the patches and gives the groups' distances."""

    def __init__(self, infer, patches):
        self.infer, self.patches = infer, patches
        self.run()

    def run(self):
        begun = time.perf_counter()
        self.found = self.infer(self.patches)
        return 1e3 * (time.perf_counter() - begun)

    def distances(self):
        return np.stack([np.asarray(group)[0] for group in self.found])


def onnx_runtime(file, threads):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return lambda patches: session.run(None, {"patches": patches})


def open_vino(file, threads, precision):
    compiled = openvino.Core().compile_model(
        str(file),
        "CPU",
        {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"},
    )
    request = compiled.create_infer_request()
    return lambda patches: list(request.infer({"patches": patches}).values())


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--photo", type=Path)
    parser.add_argument("--program", default="target/release/stopwatch")
    arguments = parser.parse_args()
    threads = arguments.threads
    with tempfile.TemporaryDirectory() as folder:
        f32, int8, photo = (Path(folder) / name for name in ("f32.onnx", "int8.onnx", "patches.f32"))
        model = Model(arguments.model).build()
        # A fixed batch: the runtimes then know every shape.
        for value in [*model.graph.input, *model.graph.output]:
            value.type.tensor_type.shape.dim[0].dim_value = 1
        onnx.save(model, f32)
        quantize_dynamic(f32, int8, weight_type=QuantType.QInt8, per_channel=True)
        shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
        if arguments.photo:
            patches = np.fromfile(arguments.photo, dtype="<f4").reshape(shape)
        else:
            patches = np.random.default_rng(1).standard_normal(shape, dtype=np.float32)
        patches.tofile(photo)
        sides = {
            "ONNX Runtime f32": Peer(onnx_runtime(f32, threads), patches),
            "ONNX Runtime int8": Peer(onnx_runtime(int8, threads), patches),
            "OpenVINO f32": Peer(open_vino(f32, threads, "f32"), patches),
            "OpenVINO bf16": Peer(open_vino(f32, threads, "bf16"), patches),
        }
        peers = list(sides)
        sides |= {f"ours, {name}": Ours(arguments.program, arguments.model, photo, name, threads) for name in OURS}
        rounds = [{name: side.run() for name, side in sides.items()} for _ in range(arguments.rounds)]
        found = {name: side.distances() for name, side in sides.items()}
    print(f"{'':<20}{'ms':>8}" + "".join(f"{'/ ' + peer:>21}" for peer in peers) + f"{'largest':>11}{'rms':>11}")
    for name in sides:
        difference = found[name] - found["ONNX Runtime f32"]
        ratios = [np.median([times[name] / times[peer] for times in rounds]) for peer in peers]
        print(
            f"{name:<20}{np.median([times[name] for times in rounds]):8.1f}"
            + "".join(f"{ratio:21.2f}" for ratio in ratios)
            + f"{np.abs(difference).max():11.1e}{np.sqrt((difference**2).mean()):11.1e}"
        )


if __name__ == "__main__":
    main()
