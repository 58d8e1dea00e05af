#!/usr/bin/env python3
"""Makes ../fixtures/rad/expected.safetensors: what anomalib's RAD says about random features.

    python rad.py ANOMALIB

ANOMALIB is the unpacked package of anomalib 2.7.0 (the folder `anomalib` of its wheel). Its own code keeps the bank, chooses the nearest
photos and scores the patches. Its backbone is replaced by one that gives the features, and what its package imports beside, by nothing.
Needs torch, safetensors.

Of each layer: `good.LAYER [photos, 1 + patches, width]` and `test.LAYER [photos, 1 + patches, width]`, class token first; and for each
reach R `scores.R [photos, patches]`.
"""

import sys
import types
from pathlib import Path

import importlib.util

import torch
from safetensors.torch import save_file
from torch import nn

OUT = Path(__file__).parent.parent / "fixtures" / "rad" / "expected.safetensors"
LAYERS, PHOTOS, TESTS, GRID, WIDTH, NEAREST = 2, 7, 3, 5, 12, 3


class Features(nn.Module):
    """Gives what was put into `found`, by name of the layer."""

    def __init__(self, **_options):
        super().__init__()
        self.patch_size, self.num_prefix_tokens, self.found = 1, 1, {}
        self.anchor = nn.Parameter(torch.zeros(1))

    def forward(self, _picture):
        return self.found


def rad(anomalib):
    """The module of anomalib's RAD."""
    stand_ins = {
        "anomalib.data": dict(InferenceBatch=dict),
        "anomalib.models.components": dict(
            DynamicBufferMixin=type("DynamicBufferMixin", (), {}),
            GaussianBlur2d=lambda **_options: nn.Identity(),
            TimmFeatureExtractor=Features,
        ),
    }
    for name in ["anomalib", "anomalib.models", *stand_ins]:
        module = types.ModuleType(name)
        module.__dict__.update(stand_ins.get(name, {}))
        sys.modules[name] = module
    file = Path(anomalib) / "models/image/rad/torch_model.py"
    spec = importlib.util.spec_from_file_location("rad", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main():
    module = rad(sys.argv[1])
    random = torch.Generator().manual_seed(5)
    # Photos of one kind: what lies at the same place is alike.
    usual = torch.randn(LAYERS, 1, 1 + GRID * GRID, WIDTH, generator=random)
    draw = lambda count: usual + 0.5 * torch.randn(LAYERS, count, 1 + GRID * GRID, WIDTH, generator=random)
    good, test = draw(PHOTOS), draw(TESTS)
    tensors = {f"{kind}.{layer}": values[layer].contiguous() for kind, values in [("good", good), ("test", test)] for layer in range(LAYERS)}
    picture = lambda count: torch.zeros(count, 3, GRID, GRID)
    for reach in [0, 1, 2]:
        model = module.RadModel(backbone="", layers=list(range(LAYERS)), k_image=NEAREST, pos_radius=reach)
        extractor = model.feature_extractor
        extractor.found = {f"blocks.{layer}": good[layer] for layer in range(LAYERS)}
        model.train()(picture(PHOTOS))
        model.build_memory_bank()
        extractor.found = {f"blocks.{layer}": test[layer] for layer in range(LAYERS)}
        features = model._extract_features(picture(TESTS))
        scores = []
        # The scores before they are made larger and blurred.
        score = model._compute_patch_scores
        model._compute_patch_scores = lambda *of: scores.append(score(*of)) or scores[-1]
        model._score(features, (GRID, GRID), (GRID, GRID))
        tensors[f"scores.{reach}"] = scores[0].contiguous()
    OUT.parent.mkdir(exist_ok=True)
    save_file(tensors, OUT)
    print(OUT, OUT.stat().st_size, "bytes", {name: tuple(tensor.shape) for name, tensor in tensors.items()})


if __name__ == "__main__":
    main()
