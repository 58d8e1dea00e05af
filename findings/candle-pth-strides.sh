#!/usr/bin/env bash
# candle-core 0.11.1: refuses tensors of a .pth file that PyTorch saved in the memory format channels_last.
#
# Guess: PthTensors reads any tensor of floats in a .pth file: offset, shape and strides are written beside its storage.
# Seen: strides of a row-major or column-major tensor are taken, others are an error. Convolutions of models that were trained with
#   model.to(memory_format=torch.channels_last) have others, and so do views such as qkv[:, ::2]:
#     row-major: [2, 3, 2, 2]
#     channels_last: cannot retrieve non-contiguous tensors
# The file is written as torch.save writes it, by Python's own pickle, because PyTorch is large.
# Ours: the module of .pth files has candle parse the pickle alone, and follows the strides itself.
set -euo pipefail
T=$(mktemp -d); trap 'rm -rf "$T"' EXIT; cd "$T"
python3 - <<'EOF'
import collections, io, pickle, struct, sys, types, zipfile


class FloatStorage:
    __module__ = "torch"


def _rebuild_tensor_v2(*_):
    pass


_rebuild_tensor_v2.__module__ = "torch._utils"
for name, what in (("torch", FloatStorage), ("torch._utils", _rebuild_tensor_v2)):
    sys.modules[name] = types.ModuleType(name)
    setattr(sys.modules[name], what.__name__, what)


class Tensor:
    def __init__(self, shape, strides):
        self.arguments = (STORAGE, 0, shape, strides, False, collections.OrderedDict())

    def __reduce__(self):
        return _rebuild_tensor_v2, self.arguments


class Pickler(pickle.Pickler):
    def persistent_id(self, value):
        return ("storage", FloatStorage, "0", "cpu", 24) if value is STORAGE else None


STORAGE = FloatStorage()
pickled = io.BytesIO()
Pickler(pickled, 2).dump({
    "row-major": Tensor((2, 3, 2, 2), (12, 4, 2, 1)),
    "channels_last": Tensor((2, 3, 2, 2), (12, 1, 6, 3)),
})
with zipfile.ZipFile("model.pth", "w") as file:
    file.writestr("model/data.pkl", pickled.getvalue())
    file.writestr("model/byteorder", "little")
    file.writestr("model/data/0", struct.pack("<24f", *range(24)))
    file.writestr("model/version", "3\n")
EOF
cargo init -q --vcs none --name finding .
echo 'candle-core = { version = "=0.11.1", default-features = false }' >> Cargo.toml
cat > src/main.rs <<'EOF'
fn main() {
    let file = candle_core::pickle::PthTensors::new("model.pth", None).unwrap();
    for name in ["row-major", "channels_last"] {
        match file.get(name) {
            Ok(tensor) => println!("{name}: {:?}", tensor.unwrap().dims()),
            Err(error) => println!("{name}: {}", error.to_string().split(" Layout").next().unwrap()),
        }
    }
}
EOF
seen=$(cargo run -q)
echo "$seen"
[ "$seen" = "row-major: [2, 3, 2, 2]
channels_last: cannot retrieve non-contiguous tensors" ] || { echo "CHANGED: candle reads .pth tensors of other strides, or no longer the plain ones"; exit 1; }
echo "As stated."
