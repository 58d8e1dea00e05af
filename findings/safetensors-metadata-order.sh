#!/usr/bin/env bash
# safetensors 0.8.0: the same tensors with the same metadata give other bytes each time.
#
# Guess: equal content gives equal bytes: the tensors are sorted, so that their order does not matter.
# Seen: the entries of __metadata__ are written in the order of a hash table, which differs from call to call. As soon as there are two
#   entries, a file's checksum says nothing about its content:
#     no metadata, tensors in two orders: 1 file
#     one entry, 50 times: 1 file
#     six entries, 50 times: more than one file
# Ours: the module that writes safetensors takes one entry at most; the checkpoint module puts JSON into it.
set -euo pipefail
T=$(mktemp -d); trap 'rm -rf "$T"' EXIT; cd "$T"
python3 -m pip install -qq --disable-pip-version-check --target python safetensors==0.8.0 numpy==2.4.6
seen=$(PYTHONPATH=python python3 - <<'EOF'
import numpy
from safetensors.numpy import save

tensors = {name: numpy.zeros(1, "float32") for name in "ab"}
files = {save(tensors), save(dict(reversed(tensors.items())))}
print(f"no metadata, tensors in two orders: {len(files)} file")
for count, entries in (("one entry", "a"), ("six entries", "abcdef")):
    files = {save(tensors, dict.fromkeys(entries, "")) for _ in range(50)}
    print(f"{count}, 50 times: {'1 file' if len(files) == 1 else 'more than one file'}")
EOF
)
echo "$seen"
[ "$seen" = "no metadata, tensors in two orders: 1 file
one entry, 50 times: 1 file
six entries, 50 times: more than one file" ] || { echo "CHANGED: safetensors' bytes vary otherwise than with two or more entries of metadata"; exit 1; }
echo "As stated."
