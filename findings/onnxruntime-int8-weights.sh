#!/usr/bin/env bash
# onnxruntime 1.32.0: rounds the inputs of a product whose weights are stored in int8, unasked.
#
# Guess: DequantizeLinear and then MatMul, both on float tensors, is a product in single precision of the widened weights. The file has no
#   operation that rounds an input.
# Seen: so it is up to ORT_ENABLE_BASIC. From ORT_ENABLE_EXTENDED on, and ORT_ENABLE_ALL is the default, both become one operation, which
#   rounds the input in blocks. Relative difference to the product in f64:
#     ORT_DISABLE_ALL below 1e-6
#     ORT_ENABLE_BASIC below 1e-6
#     ORT_ENABLE_EXTENDED above 1e-3
#     ORT_ENABLE_ALL above 1e-3
# Ours: `export` widens the weights to single precision in the file, and writes int8 only with --int8.
set -euo pipefail
T=$(mktemp -d); trap 'rm -rf "$T"' EXIT; cd "$T"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check numpy==2.4.6 onnx==1.20.0 onnxruntime==1.32.0
cat > compare.py <<'EOF'
import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

rng = np.random.default_rng(0)
weight = rng.integers(-127, 128, (256, 128), dtype=np.int8)
scales = rng.uniform(0.001, 0.002, 128).astype(np.float32)
x = rng.normal(size=(1, 16, 256)).astype(np.float32)
graph = helper.make_graph(
    [
        helper.make_node("DequantizeLinear", ["weight", "scales"], ["wide"], axis=1),
        helper.make_node("MatMul", ["x", "wide"], ["y"]),
    ],
    "product",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 16, 256])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 16, 128])],
    [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(scales, "scales")],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
expected = x.astype(np.float64) @ (weight.astype(np.float64) * scales.astype(np.float64))
for level in ["ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED", "ORT_ENABLE_ALL"]:
    options = ort.SessionOptions()
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    off = np.abs(session.run(None, {"x": x})[0] - expected).max() / np.abs(expected).max()
    print(level, "below 1e-6" if off < 1e-6 else "above 1e-3" if off > 1e-3 else f"{off:.1e}")
EOF
seen=$(venv/bin/python compare.py)
echo "$seen"
[ "$seen" = "ORT_DISABLE_ALL below 1e-6
ORT_ENABLE_BASIC below 1e-6
ORT_ENABLE_EXTENDED above 1e-3
ORT_ENABLE_ALL above 1e-3" ] || { echo "CHANGED: products with weights in int8 are computed otherwise"; exit 1; }
echo "As stated."
