#!/usr/bin/env python3
"""Compares a picture of a gate with one that the same graphs give on the CPU in single precision, fused operators written out.

    PYTHONPATH=models/tools python parity.py FOLDER http://127.0.0.1:8787 --side 256

The graphs themselves were compared with torch when they were made (models/tools/convert.py); this shows that the device computes
what they say, at full size, where no goldens are. Needs torch for its noise, onnx, onnxruntime, transformers."""
import argparse
import pathlib
import sys

import numpy as np
import torch
from transformers import CLIPTokenizer

import check
from asking import apart, picture

PROMPT, STEPS, STRENGTH, GUIDANCE, SEED = "a portrait of a smiling woman", 2, 0.5, 8.0, 7


class Schedule:
    """The part of a consistency model's scheduler that painting takes."""

    class config:
        prediction_type = "epsilon"

    def __init__(self, original=50):
        betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
        self.alphas_cumprod = torch.cumprod(1 - betas, 0)
        every, number = 1000 // original, int(original * STRENGTH)
        ladder = [every * (index + 1) - 1 for index in range(number)][::-1]
        self.timesteps = torch.tensor([ladder[int(index * number / STEPS)] for index in range(STEPS)])

    def get_scalings_for_boundary_condition_discrete(self, timestep):
        scaled = 10.0 * timestep
        return 0.25 / (scaled**2 + 0.25), scaled / (scaled**2 + 0.25) ** 0.5


def embedding(width):
    angle = 1000.0 * (GUIDANCE - 1) * np.exp(-np.log(10000.0) * np.arange(width // 2) / (width // 2 - 1))
    return np.concatenate([np.sin(angle), np.cos(angle)])[None].astype(np.float32)


def reference(folder, image):
    """The picture as numpy and the CPU give it."""
    side = image.shape[0]
    paint = check.Paint(folder)
    width = next((port["shape"][1] for port in paint.unet.ports["inputs"] if port["name"] == "timestep_cond"), None)
    ids = CLIPTokenizer.from_pretrained(folder / "tokenizer")(PROMPT, padding="max_length", max_length=77, truncation=True).input_ids
    noise = torch.Generator().manual_seed(SEED)
    shape = (1, 4, side // 8, side // 8)
    pixels = (image.astype(np.float32) / 127.5 - 1).transpose(2, 0, 1)[None]
    if paint.scale == 1.0:  # TAESD takes no draw of its own, but the engine draws it, so that later noise stays the same
        torch.randn(shape, generator=noise)
    out = paint(pixels, np.array([ids]), Schedule(), embedding(width) if width else None, lambda: torch.randn(shape, generator=noise).numpy())
    return np.round(np.clip(out[0] / 2 + 0.5, 0, 1).transpose(1, 2, 0) * 255).astype(np.uint8)


def main():
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("folder", type=pathlib.Path)
    ap.add_argument("gate")
    ap.add_argument("--side", type=int, default=256)
    ap.add_argument("--most", type=float, default=6.0, help="root of the mean square, in levels of 255")
    args = ap.parse_args()
    rng = np.random.default_rng(SEED)
    coarse = rng.integers(0, 256, (args.side // 16, args.side // 16, 3), dtype=np.uint8)
    image = coarse.repeat(16, 0).repeat(16, 1)
    got = picture(args.gate, image, prompt=PROMPT, seed=SEED, strength=STRENGTH, num_inference_steps=STEPS, guidance_scale=GUIDANCE)
    want = reference(args.folder, image)
    largest, root = apart(got, want)
    print(f"off by {largest:.0f} levels at most, {root:.3f} in the root of the mean square, {args.most} allowed; the picture's spread is "
          f"{want.std():.1f}")
    if want.std() < 2:
        sys.exit("the picture is flat, so that this comparison says nothing")
    sys.exit(f"off by more than {args.most}" if root > args.most else 0)


if __name__ == "__main__":
    main()
