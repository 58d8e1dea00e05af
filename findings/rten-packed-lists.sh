#!/usr/bin/env bash
# rten 0.27.0: refuses ONNX files whose lists of numbers are packed.
#
# Guess: a reader of protocol buffers takes a list of numbers packed (all in one field) and unpacked (a field each), as their
#   specification asks of every parser. The ONNX project publishes its format in both versions, onnx.proto (2: unpacked) and onnx.proto3
#   (packed), as files of one kind; onnx and onnxruntime read both.
# Seen, of one graph written in either way:
#     unpacked: onnx reads it, rten reads it
#     packed: onnx reads it, rten: field type mismatch
# Ours: `export` writes lists unpacked.
set -euo pipefail
T=$(mktemp -d); trap 'rm -rf "$T"' EXIT; cd "$T"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check numpy==2.4.6 onnx==1.20.0
cat > write.py <<'EOF'
from onnx import TensorProto, checker, helper, load, save

graph = helper.make_graph(
    [helper.make_node("Transpose", ["x"], ["y"], perm=[1, 0])],
    "turn",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, [3, 2])],
)
save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), "unpacked.onnx")
# Field 8 of the attribute holds 1 and 0: each with its tag 0x40, or both behind the tag 0x42 and their length. Both take four bytes.
content = open("unpacked.onnx", "rb").read()
assert content.count(b"\x40\x01\x40\x00") == 1
open("packed.onnx", "wb").write(content.replace(b"\x40\x01\x40\x00", b"\x42\x02\x01\x00"))
for name in ["unpacked", "packed"]:
    model = load(name + ".onnx")
    checker.check_model(model, full_check=True)
    assert list(model.graph.node[0].attribute[0].ints) == [1, 0]
EOF
venv/bin/python write.py
cargo init -q --vcs none --name finding .
echo 'rten = { version = "=0.27.0", default-features = false, features = ["onnx_format"] }' >> Cargo.toml
cat > src/main.rs <<'EOF'
fn main() {
    for name in ["unpacked", "packed"] {
        match rten::Model::load_file(format!("{name}.onnx")) {
            Ok(_) => println!("{name}: onnx reads it, rten reads it"),
            Err(error) => println!("{name}: onnx reads it, rten: {}", error.to_string().rsplit(": ").next().unwrap()),
        }
    }
}
EOF
seen=$(cargo run -q)
echo "$seen"
[ "$seen" = "unpacked: onnx reads it, rten reads it
packed: onnx reads it, rten: field type mismatch" ] || { echo "CHANGED: rten reads lists of numbers otherwise"; exit 1; }
echo "As stated."
