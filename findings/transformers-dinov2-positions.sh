#!/usr/bin/env bash
# transformers 5.24.0: one position table becomes three for another grid, by who computes DINOv2.
#
# Guess: Dinov2Model, Dinov2WithRegistersModel and the original code fit the same table to a photo in the same way.
# Seen: a table of 5 x 5 made for 7 x 7; largest differences, relative to the largest value:
#     original and Dinov2Model: 0.11
#     original and Dinov2WithRegistersModel: 0.18
#   The original passes the scale (7 + 0.1) / 5, Dinov2Model the size 7, and Dinov2WithRegistersModel also antialias=True, for which torch
#   takes another kernel (a = -0.5 for -0.75), in enlarging too.
# Ours: shared/src/model/positions/table.rs has all three, native/src/encoders/backbone/told.rs says whose is whose.
# Needs some 6 GB for PyTorch and what it brings. PYTHON names an interpreter that has transformers 5.24.0 already.
set -euo pipefail
T=$(mktemp -d); trap 'rm -rf "$T"' EXIT; cd "$T"
python=${PYTHON:-}
if [ -z "$python" ]; then
  python3 -m venv python
  python/bin/pip install -qq --disable-pip-version-check torch==2.15.0 transformers==5.24.0
  python=python/bin/python
fi
cat > positions.py <<'EOF'
import torch
from transformers import Dinov2Config, Dinov2Model, Dinov2WithRegistersConfig, Dinov2WithRegistersModel

shape = dict(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, patch_size=4, image_size=20)
models = [Dinov2Model(Dinov2Config(**shape)), Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**shape))]
table = torch.randn(1, 26, 8, generator=torch.Generator().manual_seed(1))
grid = table[:, 1:].reshape(1, 5, 5, 8).permute(0, 3, 1, 2)
scale = (7 + 0.1) / 5
original = torch.nn.functional.interpolate(grid, scale_factor=(scale, scale), mode="bicubic")
original = original.permute(0, 2, 3, 1).reshape(1, 49, 8)
for model in models:
    embeddings = model.embeddings
    embeddings.position_embeddings.data = table.clone()
    with torch.no_grad():
        found = embeddings.interpolate_pos_encoding(torch.zeros(1, 50, 8), 28, 28)[:, 1:]
    difference = (found - original).abs().max() / original.abs().max()
    print(f"original and {type(model).__name__}: {difference:.2f}")
EOF
seen=$(HF_HUB_OFFLINE=1 "$python" -W ignore positions.py)
echo "$seen"
[ "$seen" = "original and Dinov2Model: 0.11
original and Dinov2WithRegistersModel: 0.18" ] || { echo "CHANGED: transformers fits position tables in another way"; exit 1; }
echo "As stated."
