"""Training Dinomaly in plain PyTorch: what `dinomaly train` is measured against on the same machine.

    python3 -m venv VENV && VENV/bin/pip install torch timm numpy pillow
    VENV/bin/python tests/peers/pytorch.py --mode official [--shape base] [--steps 50] [--photos FOLDER]
    VENV/bin/python tests/peers/pytorch.py --mode expert

`official` trains as the official script does: f32, eager, the frozen encoder in every step. `expert` computes the same in bf16 under
autocast, compiled, with fused attention and optimiser (`--f32`: without bf16, for processors that have none); the encoder still in every
step unless `--cached` has its features made once, as ours are. Both take the same model, batch, schedule, loss and optimiser as ours. Weights are random: speed does not depend on
them. Photos are the good ones below FOLDER (CLASS/train/good, as MVTec-AD has them), else random ones.

Printed are photos a second, the median over steps (`expert`: over rounds of ten, as ours) after a warm-up, the peak of device memory,
and the first and last loss.
"""

import argparse
import math
import time
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

# Width, heads, blocks and target blocks of the encoder.
SHAPES = {
    "tiny": (192, 3, 12, range(2, 10)),
    "small": (384, 6, 12, range(2, 10)),
    "base": (768, 12, 12, range(2, 10)),
    "large": (1024, 16, 24, range(4, 19, 2)),
}
REGISTERS = 4
PREFIX = 1 + REGISTERS
# Steps of an expert between two looks at the device, as ours has them.
ROUND = 10
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class LinearAttention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        batch, tokens, width = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        q, k = F.elu(q) + 1, F.elu(k) + 1
        above = q @ (k.transpose(-2, -1) @ v)
        below = q @ k.sum(dim=-2, keepdim=True).transpose(-2, -1)
        return self.proj((above / below).transpose(1, 2).reshape(batch, tokens, width))


class Mlp(nn.Module):
    """`noise` is the bottleneck's dropout, before, between and after."""

    def __init__(self, width, noise=0.0):
        super().__init__()
        self.fc1, self.fc2, self.noise = nn.Linear(width, 4 * width), nn.Linear(4 * width, width), nn.Dropout(noise)

    def forward(self, x):
        return self.noise(self.fc2(self.noise(F.gelu(self.fc1(self.noise(x))))))


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-8), nn.LayerNorm(width, eps=1e-8)
        self.attn, self.mlp = LinearAttention(width, heads), Mlp(width)

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Head(nn.Module):
    """Bottleneck and decoder: the mean of the target layers to the two groups' means."""

    def __init__(self, width, heads):
        super().__init__()
        self.bottleneck = Mlp(width, 0.2)
        self.decoder = nn.ModuleList(Block(width, heads) for _ in range(8))
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.01, a=-0.03, b=0.03)
                nn.init.zeros_(module.bias)

    def forward(self, x):
        x, outputs = self.bottleneck(x), []
        for block in self.decoder:
            x = block(x)
            outputs.append(x)
        outputs.reverse()
        return torch.stack(outputs[:4]).mean(0), torch.stack(outputs[4:]).mean(0)


class Encoder(nn.Module):
    """The frozen encoder: the target layers' mean and the two groups' means. timm runs attention fused where `fused`."""

    def __init__(self, shape, grid, fused):
        super().__init__()
        width, heads, blocks, self.targets = SHAPES[shape]
        self.vit = timm.models.vision_transformer.VisionTransformer(
            img_size=14 * grid, patch_size=14, embed_dim=width, depth=blocks, num_heads=heads, num_classes=0,
            init_values=1e-5, reg_tokens=REGISTERS, no_embed_class=True,
        )
        for block in self.vit.blocks:
            block.attn.fused_attn = fused
        self.eval().requires_grad_(False)

    @torch.no_grad()
    def forward(self, photos):
        x, layers = self.vit._pos_embed(self.vit.patch_embed(photos)), []
        for i, block in enumerate(self.vit.blocks[: max(self.targets) + 1]):
            x = block(x)
            if i in self.targets:
                layers.append(x)
        groups = torch.stack(layers[:4]).mean(0), torch.stack(layers[4:]).mean(0)
        return torch.stack(layers).mean(0), *groups


def hard_mining_loss(encoded, decoded, rate, factor):
    """Mean over groups of one minus the cosine of whole photos; the gradient of well-reconstructed points is scaled down."""
    loss = 0
    for a, b in zip(encoded, decoded):
        a, b = a[:, PREFIX:].float(), b[:, PREFIX:].float()
        with torch.no_grad():
            distance = 1 - F.cosine_similarity(a, b, dim=-1)
            hard = int(distance.numel() * (1 - rate))
            threshold = distance.flatten().topk(hard).values[-1]
            scale = torch.where(distance < threshold, factor, 1.0).unsqueeze(-1)
        if b.requires_grad:
            b.register_hook(lambda gradient, scale=scale: gradient * scale)
        loss = loss + (1 - F.cosine_similarity(a.flatten(1), b.flatten(1))).mean()
    return loss / len(encoded)


class StableAdamW:
    """AMSGrad and a step divided by max(1, rms(gradient / denominator)), over all tensors at once where `fused`."""

    def __init__(self, parameters, fused, betas=(0.9, 0.999), decay=1e-4, eps=1e-10):
        self.parameters, self.betas, self.decay, self.eps, self.steps = list(parameters), betas, decay, eps, 0
        self.mean, self.square, self.largest = ([torch.zeros_like(p) for p in self.parameters] for _ in range(3))
        self.lists = [slice(None)] if fused else [slice(i, i + 1) for i in range(len(self.parameters))]

    @torch.no_grad()
    def step(self, rate):
        self.steps += 1
        (beta1, beta2), root = self.betas, math.sqrt(1 - self.betas[1] ** self.steps)
        for part in self.lists:
            parameters, mean, square, largest = (x[part] for x in (self.parameters, self.mean, self.square, self.largest))
            gradients = [p.grad for p in parameters]
            torch._foreach_mul_(parameters, 1 - rate * self.decay)
            torch._foreach_lerp_(mean, gradients, 1 - beta1)
            torch._foreach_mul_(square, beta2)
            torch._foreach_addcmul_(square, gradients, gradients, 1 - beta2)
            torch._foreach_maximum_(largest, square)
            below = torch._foreach_div(torch._foreach_sqrt(largest), root)
            torch._foreach_add_(below, self.eps)
            ratios = torch._foreach_norm(torch._foreach_div(gradients, below))
            sizes = [ratio / math.sqrt(p.numel()) for ratio, p in zip(ratios, parameters)]
            steps = [-rate / (1 - beta1**self.steps) / size.clamp(min=1) for size in sizes]
            torch._foreach_add_(parameters, torch._foreach_mul(torch._foreach_div(mean, below), steps))


def learning_rate(step, steps=10_000, warmup=100, peak=2e-3, last=2e-4):
    if step < warmup:
        return peak * step / (warmup - 1)
    return last + 0.5 * (peak - last) * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))


def load(folder, grid, count):
    """Photos resized and cropped as the official script has them, or random ones."""
    side = 14 * grid
    if folder is None:
        return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(1))
    resize, photos = round(side * 448 / 392), []
    for path in sorted(folder.glob("*/train/good/*"))[:count]:
        photo = Image.open(path).convert("RGB").resize((resize, resize), Image.BILINEAR)
        edge = (resize - side) // 2
        pixels = np.asarray(photo.crop((edge, edge, edge + side, edge + side)), np.float32) / 255
        photos.append(torch.from_numpy((pixels - np.float32(MEAN)) / np.float32(STD)).permute(2, 0, 1))
    if not photos:
        raise SystemExit(f"{folder} holds no CLASS/train/good/PHOTO")
    return torch.stack(photos)


def options_of(parser):
    """Adds what a training depends on."""
    parser.add_argument("--mode", choices=["official", "expert"], required=True)
    parser.add_argument("--f32", action="store_true", help="an expert where the processor has no bf16: f32 without autocast")
    parser.add_argument("--shape", choices=SHAPES, default="base")
    parser.add_argument("--photos", type=Path, help="folder in MVTec-AD's layout; random photos without")
    parser.add_argument("--count", type=int, default=64, help="photos to train on")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--grid", type=int, default=28, help="patches along a side: 28 is 392 pixels")
    parser.add_argument("--cached", action="store_true", help="features of the encoder made once, before the clock starts")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")


class Training:
    """A training on photos or on their cached features."""

    def __init__(self, options):
        self.expert, self.device = options.mode == "expert", torch.device(options.device)
        torch.manual_seed(1)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        width, heads, _, _ = SHAPES[options.shape]
        encoder = Encoder(options.shape, options.grid, fused=self.expert).to(self.device)
        self.head = Head(width, heads).to(self.device).train()
        self.optimizer = StableAdamW(self.head.parameters(), fused=self.expert)
        self.photos, self.batch = load(options.photos, options.grid, options.count), options.batch
        self.encode, self.decode = (
            (torch.compile(encoder), torch.compile(self.head)) if self.expert else (encoder, self.head)
        )
        self.mixed = torch.autocast(self.device.type, torch.bfloat16, enabled=self.expert and not options.f32)
        self.order = torch.Generator().manual_seed(1)
        self.cache, self.losses = None, []
        if options.cached:
            begins = range(0, len(self.photos), self.batch)
            with self.mixed:
                parts = [self.encode(self.photos[i : i + self.batch].to(self.device)) for i in begins]
            self.cache = [torch.cat(part) for part in zip(*parts)]

    def wait(self):
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def round_of(self, steps):
        """Seconds a step, of steps after which the device is waited for once."""
        begun = time.perf_counter()
        for step in range(len(self.losses), len(self.losses) + steps):
            chosen = torch.randperm(len(self.photos), generator=self.order)[: self.batch]
            with self.mixed:
                if self.cache is None:
                    fused, *encoded = self.encode(self.photos[chosen].to(self.device, non_blocking=True))
                else:
                    fused, *encoded = (part[chosen.to(self.device)] for part in self.cache)
                rate = min(0.9 * step / 1000, 0.9)
                loss = hard_mining_loss(encoded, self.decode(fused), rate, 0.1)
            loss.backward()
            nn.utils.clip_grad_norm_(self.head.parameters(), 0.1, foreach=self.expert)
            self.optimizer.step(learning_rate(step))
            for parameter in self.head.parameters():
                parameter.grad = None
            # The official script reads the loss of every step; an expert would not wait for it.
            self.losses.append(loss.detach() if self.expert else loss.item())
        self.wait()
        return (time.perf_counter() - begun) / steps


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options_of(parser)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--warmup", type=int, default=10, help="steps that are not counted: compiling is among them")
    options = parser.parse_args()
    training = Training(options)
    if training.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    training.round_of(max(options.warmup, 1))
    size = min(ROUND, options.steps) if training.expert else 1
    seconds = sorted(training.round_of(size) for _ in range(math.ceil(options.steps / size)))
    median = seconds[len(seconds) // 2]
    memory = f"{torch.cuda.max_memory_allocated() / 2**30:.2f} GiB" if torch.cuda.is_available() else "not measured"
    name = torch.cuda.get_device_name() if training.device.type == "cuda" else "processor"
    print(
        f"{options.mode}{', f32' if options.f32 else ''}{', cached' if options.cached else ''}, ViT {options.shape}, "
        f"{14 * options.grid} pixels, batch {options.batch} on {name}: "
        f"{options.batch / median:.1f} photos/s, {1e3 * median:.1f} ms a step, peak memory {memory}, "
        f"loss {float(training.losses[0]):.4f} to {float(training.losses[-1]):.4f}"
    )


if __name__ == "__main__":
    main()
