#!/usr/bin/env python3
"""Golden values of Dinomaly2 from its public code: forward pass, loss, gradients, dropout, ten optimiser steps.

    tests/peers/dinomaly2.py CODE tests/fixtures/dinomaly2

CODE is a checkout of https://github.com/guojiajeremy/Dinomaly2 at commit 1745c613 (Apache-2.0). Its classes and functions are
imported and run; how they are put together (bottleneck, parameter groups, order of a step) is read off `train` in dinomaly_2D.py,
which does it inside a function. Weights and photos are random, and everything is small; the bottleneck is narrowed to 40 channels, not
256. Written are two cases: `dinomaly2`, and `small-normaliser`, in which the epsilon of linear attention shows. All is computed in float32 and again in float64 from the same float32
weights: the difference is the noise that any implementation in float32 may have. Needs torch, numpy, safetensors.
"""

import copy
import json
import sys
import types
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

DIM, HEADS, DEPTH, PATCH, REGISTERS, GRID, BATCH = 16, 2, 6, 4, 2, 4, 2
LAYERS, GROUPS, BLOCKS = [1, 2, 3, 4], [[0, 1], [2, 3]], 4
WIDTH, EPS, DROPOUT = 40, 1e-8, 0.4
PREFIX = 1 + REGISTERS
NOISY = {"0.1": "narrowed", "1.2": "hidden", "1.4": "out"}


def import_public_code(folder):
    """The public code's modules. Metrics and pictures, which need libraries that nothing here does, are left empty."""
    left_out = ["sklearn", "sklearn.metrics", "cv2", "skimage", "pandas", "adeval"]
    for name in left_out:
        empty = types.ModuleType(name)
        empty.__getattr__ = lambda _: None
        sys.modules[name] = empty
    sys.path.insert(0, str(folder))
    import models.uad
    import models.vision_transformer
    import optimizers
    import utils
    from dinov2.models.vision_transformer import DinoVisionTransformer

    for name in left_out:
        del sys.modules[name]
    public = types.SimpleNamespace(
        Dinomaly=models.uad.Dinomaly, Block=models.vision_transformer.Block,
        LinearAttention2=models.vision_transformer.LinearAttention2, StableAdamW=optimizers.StableAdamW,
        loss=utils.global_cosine_hm_percent, plain_loss=utils.global_cosine, Scheduler=utils.WarmupCosineScheduler,
        maps=utils.cal_anomaly_maps, kernel=utils.get_gaussian_kernel, Encoder=DinoVisionTransformer)
    # A field of torch's schedulers that later versions no longer set.
    if not hasattr(torch.optim.lr_scheduler.LRScheduler, "_get_lr_called_within_step"):
        public.Scheduler._get_lr_called_within_step = True
    return public


def build(public):
    """The model, put together as in dinomaly_2D.py, with random weights."""
    torch.manual_seed(7)
    encoder = public.Encoder(img_size=GRID * PATCH, patch_size=PATCH, embed_dim=DIM, depth=DEPTH, num_heads=HEADS, block_chunks=0,
                             init_values=1.0, num_register_tokens=REGISTERS, interpolate_antialias=False, interpolate_offset=0.1)
    bottleneck = nn.ModuleList([
        nn.Sequential(nn.Linear(DIM, WIDTH), nn.Dropout(p=DROPOUT)),
        nn.Sequential(nn.Linear(WIDTH, DIM * 4), nn.GELU(), nn.Dropout(p=DROPOUT), nn.Linear(DIM * 4, DIM), nn.Dropout(p=DROPOUT))])
    decoder = nn.ModuleList([
        public.Block(dim=DIM, num_heads=HEADS, mlp_ratio=4.0, qkv_bias=True, norm_layer=partial(nn.LayerNorm, eps=1e-8),
                     attn=partial(public.LinearAttention2, eps=EPS)) for _ in range(BLOCKS)])
    model = public.Dinomaly(encoder=encoder, bottleneck=bottleneck, decoder=decoder, target_layers=LAYERS,
                            remove_class_token=False, fuse_layer_encoder=GROUPS, fuse_layer_decoder=GROUPS,
                            fuse_layer_bottleneck=list(range(len(LAYERS))), context_aware_recenter=True)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                fan_in = parameter[0].numel() if "token" not in name and "pos_embed" not in name else 1
                parameter.normal_(std=fan_in**-0.5)
            elif name.endswith("weight") or name.endswith("gamma"):
                parameter.uniform_(0.6, 1.4)
            else:
                parameter.normal_(std=0.2)
    return model.eval()


def with_small_normaliser(model):
    """The model with a normaliser as small as the epsilon in one head. (elu + 1 in float32 has few digits there.)"""
    model = copy.deepcopy(model)
    with torch.no_grad():
        for part in range(2):
            model.decoder[0].attn.qkv.bias[part * DIM:part * DIM + DIM // HEADS] -= 12
    return model


def stats(single, double, **more):
    """Magnitudes of a tensor, and how much it differs in float32."""
    difference = (single.double() - double).abs()
    return {"maxabs": double.abs().max().item(), "rms": double.pow(2).mean().sqrt().item(),
            "f32_noise_max": difference.max().item(), **more}


def forward(public, model, photos):
    """Every step of the forward pass, by the names of the golden set."""
    seen, hooks = {}, []

    def watch(module, name):
        hooks.append(module.register_forward_hook(lambda _, __, out: seen.update({name: out.detach().clone()})))

    watch(model.encoder.patch_embed, "patch_embed")
    for i in range(LAYERS[-1] + 1):
        watch(model.encoder.blocks[i], f"enc_block.{i}")
    watch(model.bottleneck[1], "bottleneck_out")
    hooks.append(model.bottleneck[0].register_forward_pre_hook(lambda _, x: seen.update(fused=x[0].detach().clone())))
    for i, block in enumerate(model.decoder):
        watch(block, f"dec_block.{i}")
    with torch.no_grad():
        en, de = model(photos)
        seen["tokens"] = model.encoder.prepare_tokens(photos)
        side = photos.shape[-1]
        up, _ = public.maps(en, de, side)
        maps = [1 - F.cosine_similarity(e, d) for e, d in zip(en, de)]
        resized = F.interpolate(up, size=256, mode="bilinear", align_corners=False)
        blurred = public.kernel(kernel_size=5, sigma=4).to(up.dtype)(resized).flatten(1)
    for hook in hooks:
        hook.remove()
    for j, (e, d, m) in enumerate(zip(en, de, maps)):
        seen |= {f"en.{j}": e, f"de.{j}": d, f"amap_group.{j}": m}
    seen["amap_mean"], seen["amap_up"] = torch.stack(maps).mean(0), up
    top = torch.sort(blurred, dim=1, descending=True)[0][:, :int(blurred.shape[1] * 0.01)]
    seen["image_score_top1pct"], seen["image_score_max"] = top.mean(1), blurred.max(1)[0]
    return {name: tensor.contiguous() for name, tensor in seen.items()}


def trained(model):
    """The trainable tensors, by the names of the state dict."""
    return {f"{part}.{name}": p for part in ["bottleneck", "decoder"] for name, p in getattr(model, part).named_parameters()}


def gradients(public, model, photos, p, factor):
    """Loss and gradients at a hard-mining rate, in evaluation mode: without dropout."""
    model.zero_grad(set_to_none=True)
    en, de = model(photos)
    before, after = [None] * len(de), [None] * len(de)
    for j, d in enumerate(de):
        d.register_hook(lambda g, j=j: before.__setitem__(j, g.clone()))
    loss = public.loss(en, de, p=p, factor=factor)
    for j, d in enumerate(de):
        d.register_hook(lambda g, j=j: after.__setitem__(j, g.clone()))
    loss.backward()
    found = {f"grad/{name}": parameter.grad.clone() for name, parameter in trained(model).items()}
    mined = {}
    for j, (e, d) in enumerate(zip(en, de)):
        distance = 1 - F.cosine_similarity(e, d.detach()).unsqueeze(1)
        k = int(distance.numel() * (1 - p))
        threshold = torch.topk(distance.reshape(-1), k=k)[0][-1]
        easy = distance < threshold
        mined[str(j)] = {"k": k, "numel": distance.numel(), "thresh": threshold.item(), "n_scaled": int(easy.sum())}
        found |= {f"point_dist.{j}": distance, f"grad_de_before_hook.{j}": before[j], f"grad_de_after_hook.{j}": after[j]}
    norm = torch.stack([p.grad.norm() for p in trained(model).values()]).norm().item()
    return loss.item(), norm, mined, found


class GivenDropout(nn.Module):
    """Dropout with a given mask."""

    def __init__(self, mask):
        super().__init__()
        self.register_buffer("mask", mask)

    def forward(self, x):
        return x * self.mask / (1 - DROPOUT)


def steps(public, model, photos, total, warmup, p, count):
    """The first steps of a run, in the order of dinomaly_2D.py, without dropout."""
    model = copy.deepcopy(model)
    bottleneck, decoder = model.bottleneck, model.decoder
    trainable = nn.ModuleList([bottleneck, decoder])
    optimizer = public.StableAdamW(
        [{"params": bottleneck[0].parameters(), "lr": 2e-4}, {"params": bottleneck[1].parameters()},
         {"params": decoder.parameters()}], lr=2e-3, betas=(0.9, 0.999), weight_decay=1e-4, amsgrad=False, eps=1e-10)
    scheduler = public.Scheduler(optimizer, final_ratio=1.0, total_epochs=total, warmup_epochs=warmup)
    log, kept = [], {}
    for it in range(count):
        en, de = model(photos)
        loss = public.loss(en, de, p=p, factor=0.1)
        optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(trainable.parameters(), max_norm=0.1)
        rates = [group["lr"] for group in optimizer.param_groups]
        optimizer.step()
        log.append({"it": it, "lr": rates[2], "lr_first_layer": rates[0], "p": p, "loss": loss.item(),
                    "grad_norm_before_clip": norm.item()})
        scheduler.step()
        kept[it + 1] = {name: parameter.detach().clone() for name, parameter in trained(model).items()}
    en, de = model(photos)
    return log, kept, public.plain_loss(en, de).item()


def schedule(public, total, warmup, ratio, iterations):
    """Rates of both groups at some iterations of a longer run."""
    parameters = [nn.Parameter(torch.zeros(1)) for _ in range(2)]
    optimizer = public.StableAdamW([{"params": parameters[:1], "lr": 2e-4}, {"params": parameters[1:]}], lr=2e-3)
    scheduler = public.Scheduler(optimizer, final_ratio=ratio, total_epochs=total, warmup_epochs=warmup)
    found = {}
    for it in range(max(iterations) + 1):
        if it in iterations:
            found[str(it)] = [optimizer.param_groups[1]["lr"], optimizer.param_groups[0]["lr"]]
        optimizer.step()
        scheduler.step()
    return {"total": total, "warmup": warmup, "final_ratio": ratio, "rates": found}


def write_case(public, single, photos, folder, encoder, rates):
    """Weights, forward pass and gradients at hard-mining rates, those of the last one stored; returns what `meta.json` says."""
    folder.mkdir(parents=True, exist_ok=True)
    double = copy.deepcopy(single).double()
    save(folder, "trainable", trained(single))
    found = [forward(public, model, x) for model, x in [(single, photos), (double, photos.double())]]
    save(folder, "forward", {"input": photos, **found[1]})
    losses, stored = {}, {}
    for p in rates:
        ends = [gradients(public, model, x, p, 0.1) for model, x in [(single, photos), (double, photos.double())]]
        (loss32, norm32, mined, tensors32), (loss64, norm64, mined64, tensors64) = ends
        assert all(mined[j]["n_scaled"] == mined64[j]["n_scaled"] for j in mined), "float32 mines other points than float64"
        name = f"p{p:g}"
        stored |= {f"{name}/{key}": tensor for key, tensor in tensors64.items() if p == rates[-1] or not key.startswith("grad/")}
        losses[name] = {
            "loss_f32": loss32, "loss_f64": loss64, "p": p, "factor": 0.1, "hard_mining": mined, "grad_norm_total_f32": norm32,
            "grad_norm_total_f64": norm64, "grad_stats": of_gradients(tensors32, tensors64)}
    save(folder, "grads", stored)
    config = {"enc": "dinov2", "dim": DIM, "heads": HEADS, "depth": DEPTH, "patch": PATCH, "registers": REGISTERS, "grid": GRID,
              "input": GRID * PATCH, "batch": BATCH, "target_layers": LAYERS, "dec": "linear", "dec_depth": BLOCKS, "mask_n": 0,
              "remove_class_token": False, "fuse_encoder": GROUPS, "fuse_decoder": GROUPS, "model": "ViTill", "bottleneck": "bmlp",
              "drop": DROPOUT, "loss": "hm", "recentring": "target", "bottleneck_width": WIDTH, "attention_eps": EPS}
    return {"config": config, "files": {"encoder": encoder, "trainable": "trainable.safetensors"},
            "forward_stats": {name: stats(found[0][name], found[1][name]) for name in found[0]}, "loss": losses,
            "params_without_grad": []}


def of_gradients(single, double):
    """Magnitudes and noise of every gradient."""
    return {key.removeprefix("grad/"): stats(single[key], double[key]) for key in double if key.startswith("grad/")}


def save(folder, name, tensors):
    save_file({key: tensor.detach().float().contiguous() for key, tensor in tensors.items()}, folder / f"{name}.safetensors")


def write_dropout(public, single, photos, folder):
    """Gradients with given masks in the bottleneck."""
    generator, tokens = torch.Generator().manual_seed(5), PREFIX + GRID * GRID
    widths = {"narrowed": WIDTH, "hidden": 4 * DIM, "out": DIM}
    masks = {name: (torch.rand(BATCH, tokens, width, generator=generator) >= DROPOUT).float() for name, width in widths.items()}
    ends = []
    for x in [photos, photos.double()]:
        model = copy.deepcopy(single).to(x.dtype)
        for place, name in NOISY.items():
            part, index = map(int, place.split("."))
            assert isinstance(model.bottleneck[part][index], nn.Dropout)
            model.bottleneck[part][index] = GivenDropout(masks[name].to(x.dtype))
        ends.append((gradients(public, model, x, 0.9, 0.1), forward(public, model, x)))
    ((loss32, _, _, tensors32), seen32), ((loss64, _, _, tensors64), seen64) = ends
    save(folder, "train_dropout", {
        "input": photos, "fused": seen64["fused"], "bottleneck_out": seen64["bottleneck_out"],
        **{f"mask_{name}": mask for name, mask in masks.items()},
        **{f"p0.9/{key}": tensor for key, tensor in tensors64.items() if key.startswith("grad/bottleneck")}})
    return {"keep_scale": 1 / (1 - DROPOUT), "loss_f32": loss32, "loss_f64": loss64,
            "bottleneck_out_stats": stats(seen32["bottleneck_out"], seen64["bottleneck_out"]),
            "grad_stats": of_gradients(tensors32, tensors64)}


def write_steps(public, single, photos, folder):
    """Ten steps of a short run, which reaches its full learning rate at the fifth."""
    double = copy.deepcopy(single).double()
    ends = [steps(public, model, x, 40, 4, 0.9, 10) for model, x in [(single, photos), (double, photos.double())]]
    (log32, kept32, final32), (log64, kept64, final64) = ends
    save(folder, "traj_public_step10", kept64[10])

    def of_parameter(name):
        difference = (kept32[10][name].double() - kept64[10][name]).abs().flatten()
        return stats(kept32[10][name], kept64[10][name], q999_abs_f32_vs_f64=float(np.quantile(difference, 0.999)))

    settings = {"total_iters": 40, "warmup": 4, "pmode": 0.9, "public": "dinomaly2"}
    return {"traj": {"public": {
        "params_unchanged_after_step1": True, "settings": settings, "steps_f32": log32, "steps_f64": log64,
        "final_plain_global_cosine_loss_f32": final32, "final_plain_global_cosine_loss_f64": final64,
        "param_stats": {"10": {name: of_parameter(name) for name in kept64[10]}}}}}


def main():
    public, out = import_public_code(Path(sys.argv[1]).resolve()), Path(sys.argv[2])
    model = build(public)
    photos = torch.randn(BATCH, 3, GRID * PATCH, GRID * PATCH, generator=torch.Generator().manual_seed(3))
    usual, small = out / "dinomaly2", out / "small-normaliser"
    meta = write_case(public, model, photos, usual, "encoder.safetensors", [0.0, 0.9])
    # The blocks after the last target layer never run.
    later = tuple(f"blocks.{i}." for i in range(LAYERS[-1] + 1, DEPTH))
    save(usual, "encoder", {k: v for k, v in model.encoder.state_dict().items() if not k.startswith(later)})
    meta |= write_dropout(public, model, photos, usual) | write_steps(public, model, photos, usual)
    meta["schedules"] = [schedule(public, 40000, 100, 1.0, [0, 1, 50, 99, 100, 101, 2000]),
                         schedule(public, 400, 100, 0.1, [0, 1, 99, 100, 101, 250, 399])]
    metas = {usual: meta}
    metas[small] = write_case(public, with_small_normaliser(model), photos, small, "../dinomaly2/encoder.safetensors", [0.9])
    for folder, meta in metas.items():
        (folder / "meta.json").write_text(json.dumps(meta, indent=1) + "\n")


if __name__ == "__main__":
    main()
