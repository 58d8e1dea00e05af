#!/usr/bin/env python3
"""Makes ../fixtures/libraries: checkpoints as the libraries themselves write them, small and of random weights, and what the same
libraries compute with them. tests/tests/formats/libraries.rs compares ours.

    python checkpoints.py [--out FOLDER]     # the fixtures
    python checkpoints.py --names FILE       # timm's names with heads or pixels unlike the usual: native/src/encoders/backbone/timm.csv
    python checkpoints.py --zoo FILE         # names and shapes of every vision transformer of timm, as JSON

Encoders: a folder as the library saves it, and `expected.safetensors` with `input [1, 3, side, side]` and `block.i [1, tokens, width]` of a
picture on another grid than the position table's. Dinomaly: `NAME.ckpt` by Lightning's trainer, and `NAME.expected.safetensors` with
`input [2, 3, side, side]`, `map [2, 1, side, side]` and `score [2]` of anomalib's own inference; of `wide.png` and `tall.png`, which anomalib
reads, resizes and crops itself, `photo.input`, `photo.map` and `photo.score`, likewise.

Needs anomalib 2.7.0, timm 1.0.31, transformers 5.24.0, torch 2.15.0, and no network: `timm.create_model` is replaced by a function that
ignores `pretrained` and makes a small vision transformer under the names that anomalib asks for.
"""

import argparse
import json
import os
import tempfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

OUT = Path(__file__).parent.parent / "fixtures" / "libraries"
WIDTH, HEADS, DEPTH, PATCH, GRID, OTHER = 16, 2, 2, 4, 5, 7
PIXELS = {
    (0.485, 0.456, 0.406): "",
    (0.5, 0.5, 0.5): "half",
    (0.481, 0.458, 0.408): "clip",
    (0.0, 0.0, 0.0): "raw",
    (0.43, 0.411, 0.296): "satellite",
}


def randomise(model, seed, size=0.3):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            values = torch.randn(parameter.shape, generator=generator) * (0.5 if parameter.dim() < 2 else size)
            if "norm" in name and name.endswith("weight"):
                values += 1
            parameter.copy_(values.half().float())
    return model.eval()


def picture(side, count=1, seed=7):
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


def photo(path, width, height, seed):
    """A photo of smooth colours with noise, as a camera's."""
    y, x = np.mgrid[:height, :width]
    waves = [128 + 90 * np.sin(x / (3 + c) + y / (7 - c) + seed) for c in range(3)]
    noise = np.random.default_rng(seed).normal(0, 12, (height, width, 3))
    Image.fromarray((np.stack(waves, -1) + noise).clip(0, 255).astype(np.uint8)).save(path)
    return path


def record(model, blocks, **arguments):
    """The input and the output of every block."""
    outputs, hooks = {}, []
    for i, block in enumerate(blocks):
        def keep(_module, _inputs, output, i=i):
            outputs[f"block.{i}"] = (output if isinstance(output, torch.Tensor) else output[0]).clone().contiguous()

        hooks.append(block.register_forward_hook(keep))
    pixels = picture(OTHER * PATCH)
    with torch.no_grad():
        model(pixels, **arguments)
    for hook in hooks:
        hook.remove()
    return {"input": pixels} | outputs


def of_timm(out):
    """Folders as timm.models.save_for_hf writes them, one in PyTorch's format."""
    from timm.models.eva import Eva
    from timm.models.vision_transformer import VisionTransformer

    common = dict(img_size=GRID * PATCH, patch_size=PATCH, embed_dim=WIDTH, depth=DEPTH, num_heads=HEADS, mlp_ratio=2, num_classes=0)
    encoders = {
        "timm-vit": (VisionTransformer(**common, dynamic_img_size=True), "vit_test"),
        "timm-dinov2-registers": (
            VisionTransformer(**common, dynamic_img_size=True, reg_tokens=3, no_embed_class=True, init_values=0.1),
            "vit_test_reg3_dinov2",
        ),
        "timm-dinov3": (
            Eva(
                **common, dynamic_img_size=True, num_reg_tokens=4, use_abs_pos_emb=False, use_rot_pos_emb=True, rope_type="dinov3",
                rope_temperature=100, rope_rotate_half=True, qkv_bias=False, init_values=0.1, use_fc_norm=False,
                norm_layer=lambda dim, **more: torch.nn.LayerNorm(dim, eps=1e-5, **more),
            ),
            "vit_test_dinov3",
        ),
    }
    for seed, (name, (model, architecture)) in enumerate(encoders.items()):
        randomise(model, seed)
        size = (3, GRID * PATCH, GRID * PATCH)
        model.pretrained_cfg = {"architecture": architecture, "input_size": size, "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.25, 0.5)}
        folder = out / name
        timm.models.save_for_hf(model, folder, model_args={"num_heads": HEADS}, safe_serialization=name != "timm-vit")
        save_file(record(model, model.blocks), folder / "expected.safetensors")


def of_transformers(out):
    """Folders as save_pretrained writes them, of one the weights in shards with their list."""
    from transformers import Dinov2Config, Dinov2Model, Dinov2WithRegistersConfig, Dinov2WithRegistersModel
    from transformers import DINOv3ViTConfig, DINOv3ViTModel, ViTConfig, ViTImageProcessor, ViTModel

    common = dict(
        hidden_size=WIDTH, num_hidden_layers=DEPTH, num_attention_heads=HEADS, patch_size=PATCH, image_size=GRID * PATCH
    )
    encoders = {
        "transformers-dinov2": (Dinov2Model(Dinov2Config(**common, mlp_ratio=2)), {}),
        "transformers-dinov2-registers": (
            Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**common, mlp_ratio=2, num_register_tokens=3)), {},
        ),
        "transformers-vit": (
            ViTModel(ViTConfig(**common, intermediate_size=32), add_pooling_layer=False), {"interpolate_pos_encoding": True},
        ),
        "transformers-dinov3": (DINOv3ViTModel(DINOv3ViTConfig(**common, intermediate_size=32, num_register_tokens=4)), {}),
    }
    for seed, (name, (model, arguments)) in enumerate(encoders.items()):
        randomise(model, 10 + seed)
        folder = out / name
        model.save_pretrained(folder, max_shard_size="8KB" if name == "transformers-dinov2" else "1GB")
        ViTImageProcessor(image_mean=[0.5, 0.4, 0.3], image_std=[0.2, 0.25, 0.5]).save_pretrained(folder)
        blocks = next(module for module in model.modules() if isinstance(module, torch.nn.ModuleList))
        save_file(record(model, blocks, **arguments), folder / "expected.safetensors")


def of_anomalib(out):
    """Dinomaly's checkpoints in its variants, one of them trained for three steps by anomalib's own engine."""
    from lightning import Trainer
    from timm.models.vision_transformer import VisionTransformer

    width, depth, patch, grid = 8, 12, 4, 5

    def small(_name, **_options):
        return randomise(
            VisionTransformer(
                img_size=grid * patch, patch_size=patch, embed_dim=width, depth=depth, num_heads=HEADS, mlp_ratio=4, num_classes=0,
                dynamic_img_size=True, reg_tokens=2, no_embed_class=True, init_values=0.1,
            ),
            30,
            0.5,
        )

    timm.create_model = small
    from anomalib.data import Folder
    from anomalib.data.utils.image import read_image
    from anomalib.engine import Engine
    from anomalib.models import Dinomaly
    from anomalib.models.image.dinomaly import torch_model

    torch_model.DINO_ARCHITECTURES["small"] |= {"embed_dim": width, "num_heads": HEADS}
    variants = {
        "plain": {},
        "recentred": {"use_context_recentering": True},
        "patches-only": {"remove_class_token": True},
        "other-layers": {"target_layers": [0, 1, 3, 4, 5, 6, 7, 8, 10], "decoder_depth": 9},
    }
    folder = out / "anomalib"
    folder.mkdir(parents=True, exist_ok=True)
    side = 28
    photos = [photo(folder / "wide.png", 61, 45, 1), photo(folder / "tall.png", 19, 47, 2)]
    for name, options in variants.items():
        torch.manual_seed(5)
        pixels = Dinomaly.configure_pre_processor(image_size=(32, 32), crop_size=side)
        pixels.transform.transforms[2].mean, pixels.transform.transforms[2].std = [0.5, 0.4, 0.3], [0.2, 0.25, 0.5]
        model = Dinomaly(encoder_name="vit_small_test", pre_processor=pixels, **options)
        for part in model.trainable_modules:
            randomise(part, 31)
        path = folder / f"{name}.ckpt"
        path.unlink(missing_ok=True)
        if name == "plain":
            with tempfile.TemporaryDirectory() as work:
                few = Path(work) / "photos"
                few.mkdir()
                for i in range(4):
                    pixels = np.random.default_rng(i).integers(0, 256, (40, 40, 3), dtype=np.uint8)
                    Image.fromarray(pixels).save(few / f"{i}.png")
                data = Folder("noise", root=work, normal_dir="photos", num_workers=0, train_batch_size=2, val_split_mode="none", test_split_mode="none")
                engine = Engine(max_steps=3, limit_val_batches=0, accelerator="cpu", logger=False, default_root_dir=work, enable_progress_bar=False)
                engine.fit(model, datamodule=data)
                engine.trainer.save_checkpoint(path)
        else:
            trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
            trainer.strategy.connect(model)
            trainer.save_checkpoint(path, weights_only=True)
        loaded = Dinomaly.load_from_checkpoint(path, weights_only=False).eval()
        pixels = picture(side, 2)
        with torch.no_grad():
            found = loaded.model(pixels)
        expected = {"input": pixels, "map": found.anomaly_map.contiguous(), "score": found.pred_score.contiguous()}
        pixels = torch.cat([loaded.pre_processor.transform(read_image(path, as_tensor=True))[None] for path in photos])
        with torch.no_grad():
            found = loaded.model(pixels)
        expected |= {"photo.input": pixels, "photo.map": found.anomaly_map.contiguous(), "photo.score": found.pred_score.contiguous()}
        save_file(expected, folder / f"{name}.expected.safetensors")
        print(name, path.stat().st_size, found.pred_score.tolist())


def zoo():
    """Every vision transformer of timm without its values: names and shapes, and what they do not tell."""
    models = {}
    for module in ["vision_transformer", "deit", "eva", "beit", "vision_transformer_relpos", "vision_transformer_hybrid", "naflexvit"]:
        for name in timm.list_models(module=module):
            with torch.device("meta"):
                model = timm.create_model(name, pretrained=False)
            block = model.blocks[0] if hasattr(model, "blocks") else None
            block = block[0] if isinstance(block, torch.nn.Sequential) else block
            rope = getattr(model, "rope", None)
            models[name] = {
                "heads": getattr(getattr(block, "attn", None), "num_heads", None),
                "eps": getattr(getattr(block, "norm1", None), "eps", None),
                "activation": type(getattr(getattr(block, "mlp", None), "act", None)).__name__,
                "block": type(block).__name__,
                "rope": type(rope).__name__ if rope is not None else None,
                "shapes": {key: list(value.shape) for key, value in model.state_dict().items()},
                "pixels": {
                    full: [list(config.mean), list(config.std)]
                    for full in [name, *timm.list_pretrained(f"{name}.*")]
                    if (config := timm.get_pretrained_cfg(full, allow_unregistered=False))
                },
            }
    return models


# Beginnings of names of tensors that are refused by name, whatever the model is called.
REFUSED = [
    "norm_pre", "patch_embed.backbone", "dist_token", "rope.", "blocks.0.attn.norm", "blocks.0.attn.q_norm", "blocks.0.attn.rel_pos",
    "blocks.0.attns", "blocks.0.mlp.norm", "blocks.0.in_norm",
]


def names(models):
    rows = ["name,heads,pixels"]
    for name, model in models.items():
        shapes = model["shapes"]
        is_refused = name.startswith("eva02_") or "_rope_" in name or any(key.startswith(start) for key in shapes for start in REFUSED)
        has_bias = any(key in shapes for key in ["blocks.0.attn.qkv.bias", "blocks.0.attn.q_bias", "reg_token"])
        if "cls_token" not in shapes or is_refused or not has_bias:
            continue
        heads = "" if model["heads"] * 64 == shapes["cls_token"][-1] else model["heads"]
        for full, (mean, _) in model["pixels"].items():
            pixels = PIXELS[tuple(round(value, 3) for value in mean)]
            if heads or pixels:
                rows.append(f"{full},{heads},{pixels}")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--names", type=Path)
    parser.add_argument("--zoo", type=Path)
    options = parser.parse_args()
    if options.names:
        options.names.write_text(names(zoo()))
    elif options.zoo:
        options.zoo.write_text(json.dumps(zoo()))
    else:
        of_timm(options.out)
        of_transformers(options.out)
        of_anomalib(options.out)
