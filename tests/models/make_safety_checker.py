#!/usr/bin/env python3
"""Makes the miniature safety checkers of tests/models/variants and the recorded values of tests/golden/clip.safetensors.

    python tests/models/make_safety_checker.py        # with models/tools/requirements.txt

The checker is diffusers' own class with tiny random weights, exported as the published folders have it: its last layer is fitted so that
it flags pictures that are brighter than the middle. `safety-checker` blackens the pictures that it is given, `safety-checker-alone` only
judges. Nothing derives from trained weights."""
import os
import pathlib
import warnings

os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="error")

import numpy as np
import torch
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from PIL import Image
from safetensors.numpy import save_file
from transformers import CLIPConfig, CLIPImageProcessorPil

HERE = pathlib.Path(__file__).parent
VISION = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 224, "patch_size": 16,
          "projection_dim": 8}
SIZES = [(64, 64), (96, 64), (224, 224), (300, 260), (230, 400), (512, 512), (1024, 320)]
EVERY = 97


def picture(width, height):
    """A picture of all frequencies that any language can make."""
    y, x, c = np.mgrid[0:height, 0:width, 0:3]
    return (((x * 7 + y * 13 + c * 29) ^ (x * y // 5)) % 256).astype(np.uint8)


def recorded():
    """Every 97th value of what the image processor makes of pictures of several sizes."""
    process = CLIPImageProcessorPil()
    values = {f"{w}x{h}": process(Image.fromarray(picture(w, h)), return_tensors="np")["pixel_values"].ravel()[::EVERY] for w, h in SIZES}
    save_file({name: np.ascontiguousarray(value, np.float32) for name, value in values.items()}, HERE.parent / "golden/clip.safetensors")


def noisy(generator, count):
    """Coloured noise of all brightnesses, prepared as CLIP wants it, and how bright each is."""
    process = CLIPImageProcessorPil()
    bright = generator.random(count)
    pixels = np.clip(bright[:, None, None, None] + generator.normal(0, 0.15, (count, 28, 28, 3)), 0, 1)
    images = [Image.fromarray((255 * one).astype(np.uint8)) for one in pixels]
    return torch.from_numpy(np.stack(process(images, return_tensors="np")["pixel_values"])), torch.from_numpy(bright)


@torch.no_grad()
def checker():
    torch.manual_seed(7)
    config = CLIPConfig(vision_config=VISION, text_config={"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1,
                        "num_attention_heads": 2, "vocab_size": 8, "projection_dim": 8}, projection_dim=8)
    module = StableDiffusionSafetyChecker(config).eval()
    module.vision_model.set_attn_implementation("eager")
    for name, p in sorted(module.vision_model.named_parameters()):
        if p.dim() >= 2:
            p.copy_(torch.randn(p.shape) / (p[0].numel() ** 0.5 if "patch" not in name else p[0].numel() / 2))
        else:
            p.copy_((1.0 if name.endswith("norm.weight") or name.endswith("norm1.weight") or name.endswith("norm2.weight") else 0.0) + 0.3 * torch.randn(p.shape))
    inputs, bright = noisy(np.random.default_rng(7), 400)
    features = module.vision_model(inputs)[1]
    want = torch.zeros(len(bright), 8)
    want[:, 0], want[:, 1] = 2 * bright - 1, 0.5
    fit = torch.linalg.lstsq(features, want).solution
    module.visual_projection.weight.copy_(fit.T)
    # The first concept is brightness; no picture comes near the others.
    module.concept_embeds.copy_(torch.randn(17, 8))
    module.concept_embeds[0] = torch.eye(8)[0]
    module.concept_embeds_weights.fill_(2.0)
    module.concept_embeds_weights[0] = 0.0
    module.special_care_embeds.copy_(torch.randn(3, 8))
    module.special_care_embeds_weights.fill_(2.0)
    inputs, bright = noisy(np.random.default_rng(8), 400)
    flags = module.forward_onnx(inputs, torch.zeros(400, 1, 1, 3))[1]
    wrong = (flags != (bright > 0.5)) & ((bright - 0.5).abs() > 0.1)
    print(f"wrong beyond 0.1 of the middle: {int(wrong.sum())} of 400; within: {int((flags != (bright > 0.5)).sum())}")
    return module


class Judge(torch.nn.Module):
    def __init__(self, module, judges_alone):
        super().__init__()
        self.module, self.judges_alone = module, judges_alone

    def forward(self, clip_input, images=None):
        if self.judges_alone:
            return self.module.forward_onnx(clip_input, torch.zeros(clip_input.shape[0], 1, 1, 3))[1]
        return self.module.forward_onnx(clip_input, images)


def export(module, folder, judges_alone):
    folder.mkdir(parents=True, exist_ok=True)
    axes = {"clip_input": {0: "batch", 1: "channels", 2: "height", 3: "width"}}
    inputs, outputs, dummy = ["clip_input"], ["has_nsfw_concepts"], [torch.randn(1, 3, 224, 224)]
    if not judges_alone:
        axes["images"] = {0: "batch", 1: "height", 2: "width", 3: "channels"}
        inputs, outputs, dummy = [*inputs, "images"], ["out_images", *outputs], [*dummy, torch.randn(1, 512, 512, 3)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(Judge(module, judges_alone).eval(), tuple(dummy), str(folder / "model.onnx"), input_names=inputs,
                          output_names=outputs, dynamic_axes=axes, opset_version=14, do_constant_folding=True, dynamo=False)


if __name__ == "__main__":
    recorded()
    module = checker()
    export(module, HERE / "variants/safety-checker", False)
    export(module, HERE / "variants/safety-checker-alone", True)
