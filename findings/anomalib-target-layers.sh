#!/usr/bin/env bash
# anomalib 2.7.0: Dinomaly's target_layers are collected in ascending order, also if they are listed in another, and what is collected has wrong names.
#
# Guess: target_layers=[9, 2] gives the output of block 9 and that of block 2, in this order.
# Seen: timm's forward_intermediates returns them by their place in the encoder, and TimmFeatureExtractor gives them the names of the list:
#     features["blocks.9"] of [9, 2] is block 2, features["blocks.2"] is block 9
#   And fuse_layer_encoder, an argument of the same model, makes one that cannot run:
#     AttributeError: 'DinomalyModel' object has no attribute 'fuse_layer_encoder'
# Ours: native/src/encoders/anomalib.rs sorts the layers of a checkpoint, and refuses one with fuse_layer_encoder.
# Needs some 6 GB for PyTorch and what it brings. PYTHON names an interpreter that has anomalib 2.7.0 already.
set -euo pipefail
T=$(mktemp -d); trap 'rm -rf "$T"' EXIT; cd "$T"
python=${PYTHON:-}
if [ -z "$python" ]; then
  python3 -m venv python
  python/bin/pip install -qq --disable-pip-version-check anomalib==2.7.0 timm==1.0.31
  python=python/bin/python
fi
cat > layers.py <<'EOF'
import timm
import torch
from timm.models.vision_transformer import VisionTransformer

small = dict(img_size=20, patch_size=4, embed_dim=8, depth=12, num_heads=2, num_classes=0)
timm.create_model = lambda name, **options: VisionTransformer(**small, dynamic_img_size=True)
from anomalib.models.image.dinomaly import torch_model

torch_model.DINO_ARCHITECTURES["small"] |= {"embed_dim": 8, "num_heads": 2}
DinomalyModel = torch_model.DinomalyModel
unsorted = DinomalyModel("small", target_layers=[9, 2]).eval()
alone = {layer: DinomalyModel("small", target_layers=[layer]).eval() for layer in [2, 9]}
picture = torch.randn(1, 3, 28, 28)
for model in alone.values():
    model.encoder.load_state_dict(unsorted.encoder.state_dict())
outputs = {layer: model.encoder(picture)[f"blocks.{layer}"] for layer, model in alone.items()}
named = unsorted.encoder(picture)
block = lambda name: next(layer for layer, output in outputs.items() if torch.equal(output, named[name]))
print(f'features["blocks.9"] of [9, 2] is block {block("blocks.9")}, features["blocks.2"] is block {block("blocks.2")}')
try:
    DinomalyModel("small", fuse_layer_encoder=[[0, 1], [2, 3]]).eval()(picture)
except AttributeError as error:
    print(f"AttributeError: {error}")
EOF
seen=$(HF_HUB_OFFLINE=1 "$python" -W ignore layers.py)
echo "$seen"
[ "$seen" = 'features["blocks.9"] of [9, 2] is block 2, features["blocks.2"] is block 9
AttributeError: '"'DinomalyModel' object has no attribute 'fuse_layer_encoder'" ] ||
  { echo "CHANGED: anomalib collects target layers in another order, or fuses other layers"; exit 1; }
echo "As stated."
