#!/usr/bin/env bash
# rten 0.27.0: ArgMax gives the last of equal values.
#
# Guess: the first one, as ONNX says of `select_last_index`, whose default is 0.
# Seen: the last one, with the attribute and without. TopK with k = 1 gives the first:
#     ArgMax: 2
#     TopK: 1
# Ours: `export` writes a choice of the largest as TopK.
set -euo pipefail
T=$(mktemp -d); trap 'rm -rf "$T"' EXIT; cd "$T"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check numpy==2.4.6 onnx==1.20.0
cat > write.py <<'EOF'
import numpy as np
from onnx import TensorProto, helper, numpy_helper, save

graph = helper.make_graph(
    [
        helper.make_node("ArgMax", ["x"], ["largest"], axis=0, select_last_index=0),
        helper.make_node("TopK", ["x", "k"], ["_", "top"]),
    ],
    "choice",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])],
    [helper.make_tensor_value_info(name, TensorProto.INT64, [1]) for name in ["largest", "top"]],
    [numpy_helper.from_array(np.array([1]), "k")],
)
save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), "choice.onnx")
EOF
venv/bin/python write.py
cargo init -q --vcs none --name finding .
cat >> Cargo.toml <<'EOF'
rten = { version = "=0.27.0", default-features = false, features = ["onnx_format"] }
rten-tensor = "=0.27.0"
EOF
cat > src/main.rs <<'EOF'
use rten_tensor::AsView;

fn main() {
    let model = rten::Model::load_file("choice.onnx").unwrap();
    let x = rten_tensor::NdTensor::from_data([4], vec![0.0f32, 5.0, 5.0, 1.0]);
    let outputs = model.run(vec![(model.input_ids()[0], x.into())], model.output_ids(), None).unwrap();
    for (name, output) in ["ArgMax", "TopK"].iter().zip(outputs) {
        println!("{name}: {}", output.into_tensor::<i32>().unwrap().to_vec()[0]);
    }
}
EOF
seen=$(cargo run -q)
echo "$seen"
[ "$seen" = "ArgMax: 2
TopK: 1" ] || { echo "CHANGED: rten chooses another one of equal values"; exit 1; }
echo "As stated."
