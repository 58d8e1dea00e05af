"""Makes ../fixtures/foundations: small encoders of random weights in the published naming of each foundation, and what
independent implementations (transformers 5.24, timm 1.0.31, PyTorch 2.15, SciPy's splines) make of a random picture.

    python foundations.py

NAME.safetensors (or .pth) is the checkpoint, its values rounded to half precision; NAME.expected.safetensors holds
`input [1, 3, side, side]` and `block.i [1, tokens, width]` of every block. BEiT has a picture on another grid, too.
"""

import tempfile
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from scipy.interpolate import RectBivariateSpline
from timm.models.beit import Beit
from timm.models.vision_transformer import VisionTransformer
from transformers import Dinov2Config, Dinov2Model, DINOv3ViTConfig, DINOv3ViTModel, ViTConfig, ViTModel

OUT = Path(__file__).parent.parent / "fixtures" / "foundations"
WIDTH, HEADS, DEPTH, PATCH, GRID = 16, 2, 2, 4, 5
COMMON = dict(hidden_size=WIDTH, num_hidden_layers=DEPTH, num_attention_heads=HEADS, patch_size=PATCH, image_size=GRID * PATCH)


def randomise(model, seed):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            values = torch.randn(parameter.shape, generator=generator) * (0.5 if parameter.dim() < 2 else 0.3)
            if "norm" in name and name.endswith("weight"):
                values += 1
            parameter.copy_(values.half().float())
    return model.eval()


def record(model, blocks, grid=GRID, seed=7):
    outputs, hooks = {}, []
    for i, block in enumerate(blocks):
        def keep(_module, _inputs, output, i=i):
            outputs[f"block.{i}"] = (output if isinstance(output, torch.Tensor) else output[0]).clone()

        hooks.append(block.register_forward_hook(keep))
    picture = torch.randn(1, 3, grid * PATCH, grid * PATCH, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        model(picture)
    for hook in hooks:
        hook.remove()
    return {"input": picture} | outputs


def published(model):
    """The tensors of a transformers model under the names that its files have."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return load_file(Path(folder) / "model.safetensors")


def write(name, state, expected):
    save_file({key: value.half().contiguous() for key, value in state.items()}, OUT / f"{name}.safetensors")
    save_file({key: value.contiguous() for key, value in expected.items()}, OUT / f"{name}.expected.safetensors")


def dinov2_giant():
    model = randomise(Dinov2Model(Dinov2Config(**COMMON, mlp_ratio=2, use_swiglu_ffn=True)), 1)
    write("dinov2_swiglu", published(model), record(model, model.encoder.layer if hasattr(model, "encoder") else model.layers))


def dinov3(name, seed, **more):
    config = DINOv3ViTConfig(**COMMON, intermediate_size=32, num_register_tokens=4, **more)
    model = randomise(DINOv3ViTModel(config), seed)
    state = published(model)
    write(name, state, record(model, model.model.layer))
    return state


def dinov3_original(state):
    """The names of the original .pth file, with a bias of the keys that its mask takes away."""
    head = WIDTH // HEADS // 4
    renamed = {
        "cls_token": state["embeddings.cls_token"],
        "storage_tokens": state["embeddings.register_tokens"],
        "mask_token": state["embeddings.mask_token"][0],
        "patch_embed.proj.weight": state["embeddings.patch_embeddings.weight"],
        "patch_embed.proj.bias": state["embeddings.patch_embeddings.bias"],
        "rope_embed.periods": 100.0 ** (torch.arange(head) / head),
        "norm.weight": state["norm.weight"],
        "norm.bias": state["norm.bias"],
    }
    for i in range(DEPTH):
        theirs = {name.removeprefix(f"layer.{i}."): value for name, value in state.items() if name.startswith(f"layer.{i}.")}
        ours = {f"{norm}.{end}": theirs[f"{norm}.{end}"] for norm in ["norm1", "norm2"] for end in ["weight", "bias"]}
        ours["attn.qkv.weight"] = torch.cat([theirs[f"attention.{part}_proj.weight"] for part in "qkv"])
        biases = [theirs["attention.q_proj.bias"], torch.full([WIDTH], 0.7), theirs["attention.v_proj.bias"]]
        ours["attn.qkv.bias"] = torch.cat(biases)
        ours["attn.qkv.bias_mask"] = torch.tensor([1.0, 0.0, 1.0]).repeat_interleave(WIDTH)
        for end in ["weight", "bias"]:
            ours[f"attn.proj.{end}"] = theirs[f"attention.o_proj.{end}"]
            ours[f"mlp.fc1.{end}"] = theirs[f"mlp.up_proj.{end}"]
            ours[f"mlp.fc2.{end}"] = theirs[f"mlp.down_proj.{end}"]
        ours |= {f"ls{k}.gamma": theirs[f"layer_scale{k}.lambda1"] for k in [1, 2]}
        renamed |= {f"blocks.{i}.{name}": value for name, value in ours.items()}
    torch.save({name: value.half() for name, value in renamed.items()}, OUT / "dinov3_original.pth")


def other_grid(table, to):
    """The fine-tuning code's interpolation: stored ways at geometrically growing distances, a spline read at whole ones."""
    source, target = 2 * GRID - 1, 2 * to - 1
    left, right = 1.01, 1.5
    while right - left > 1e-6:
        ratio = (left + right) / 2
        if (1 - ratio ** (source // 2)) / (1 - ratio) > target // 2:
            right = ratio
        else:
            left = ratio
    steps = np.cumsum(ratio ** np.arange(source // 2))
    knots = np.concatenate([-steps[::-1], [0], steps])
    places = np.clip(np.arange(target) - target // 2, knots[0], knots[-1])
    maps = table[:-3].T.double().numpy().reshape(-1, source, source)
    ways = np.stack([RectBivariateSpline(knots, knots, head)(places, places).flatten() for head in maps])
    return torch.cat([torch.tensor(ways).T.float(), table[-3:]])


def beit():
    def make(grid):
        return Beit(
            img_size=grid * PATCH, patch_size=PATCH, embed_dim=WIDTH, depth=DEPTH, num_heads=HEADS, mlp_ratio=2,
            init_values=0.1, use_abs_pos_emb=False, use_rel_pos_bias=True, num_classes=0,
        )

    model = randomise(make(GRID), 4)
    state = model.state_dict()
    expected = record(model, model.blocks)
    other, ends = make(7).eval(), "relative_position_bias_table"
    other.load_state_dict({name: other_grid(value, 7) if name.endswith(ends) else value for name, value in state.items()})
    expected |= {f"grid7.{name}": value for name, value in record(other, other.blocks, 7).items()}
    write("beitv2", state, expected)


def vit():
    config = ViTConfig(**COMMON, intermediate_size=32, layer_norm_eps=1e-6)
    model = randomise(ViTModel(config, add_pooling_layer=False), 5)
    write("vit", published(model), record(model, model.layers if hasattr(model, "layers") else model.encoder.layer))


def moco():
    """MoCo v3's training state: two encoders, a projection head, a predictor."""
    model = VisionTransformer(
        img_size=GRID * PATCH, patch_size=PATCH, embed_dim=WIDTH, depth=1, num_heads=HEADS, mlp_ratio=2, num_classes=0
    )
    state = randomise(model, 6).state_dict()
    both = {f"module.base_encoder.{name}": value.half() for name, value in state.items()}
    both |= {f"module.momentum_encoder.{name}": value.half() + 1 for name, value in state.items()}
    both |= {"module.base_encoder.head.0.weight": torch.ones(4, WIDTH), "module.predictor.0.weight": torch.ones(4, 4)}
    torch.save({"epoch": 300, "arch": "vit_base", "state_dict": both, "optimizer": {}}, OUT / "mocov3.pth")
    save_file(record(model, model.blocks), OUT / "mocov3.expected.safetensors")


if __name__ == "__main__":
    OUT.mkdir(exist_ok=True)
    dinov2_giant()
    state = dinov3("dinov3", 2)
    dinov3_original(state)
    dinov3("dinov3_gated", 3, use_gated_mlp=True, hidden_act="silu")
    beit()
    vit()
    moco()
