"""Adds a LoRA to the weights that it was trained for: W ← W + strength · alpha / rank · up · down."""
import json
import re

import torch
from safetensors import safe_open

from progress import Refusal

ENDS = {".lora_down.weight": "down", ".lora_up.weight": "up", ".lora_A.weight": "down", ".lora_B.weight": "up",
        ".lora.down.weight": "down", ".lora.up.weight": "up", ".lora_linear_layer.down.weight": "down",
        ".lora_linear_layer.up.weight": "up", ".alpha": "alpha"}


def split(key):
    """(module, what) of a tensor's name in any of the three usual spellings."""
    key = re.sub(r"\.processor\.(to_[qkv])_lora\.(down|up)", r".\1.lora.\2", key)
    key = re.sub(r"\.processor\.to_out_lora\.(down|up)", r".to_out.0.lora.\1", key)
    for end, what in ENDS.items():
        if key.endswith(end):
            return key[:-len(end)], what
    raise Refusal(f"the LoRA has a tensor {key}: this is another kind of adapter (DoRA, LoHa, LoKr …), which cannot be merged here; "
                  "merge it with the tool that made it, and convert the result with --merged")


def modules(part, module):
    """Every name under which adapters call the layers of a part."""
    names = {}
    for name, layer in module.named_modules():
        if not hasattr(layer, "weight") or layer.weight.dim() < 2:
            continue
        full = name if part == "unet" or name.startswith("text_model.") else f"text_model.{name}"
        short = {"unet": "lora_unet", "text_encoder": "lora_te"}[part]
        for prefix in ([f"{part}."] if part == "text_encoder" else [f"{part}.", ""]):
            names[prefix + full] = names[prefix + name] = layer
        names[f"{short}_{full}".replace(".", "_")] = layer
    return names


def read(path):
    """{module: {down, up, alpha}} of a LoRA file, and the alphas that its metadata gives by part."""
    groups = {}
    try:
        with safe_open(str(path), "pt") as file:
            metadata = json.loads((file.metadata() or {}).get("lora_adapter_metadata", "{}"))
            for key in file.keys():
                module, what = split(key)
                groups.setdefault(module, {})[what] = file.get_tensor(key).float()
    except Refusal:
        raise
    except Exception as error:
        raise Refusal(f"{path} cannot be read as safetensors ({error}): fetch it again") from error
    return groups, {part: metadata.get(f"{part}.lora_alpha") for part in ("unet", "text_encoder")}


def delta(group, alpha):
    """What one pair of matrices adds, as a matrix or a convolution's kernel."""
    down, up = group["down"], group["up"]
    rank = down.shape[0]
    by = float(group["alpha"]) if "alpha" in group else alpha or rank
    flat = up.reshape(up.shape[0], rank) @ down.reshape(rank, -1)
    return flat.reshape(up.shape[0], *down.shape[1:]) * (by / rank)


@torch.no_grad()
def fuse(path, parts, strength=1.0):
    """Adds the LoRA in `path` to `parts` ({"unet": …, "text_encoder": …}); gives the number of layers that changed."""
    groups, alphas = read(path)
    known = {}
    for part, module in parts.items():
        known.update({name: (part, layer) for name, layer in modules(part, module).items()})
    strangers = sorted(name for name in groups if name not in known)
    if strangers:
        raise Refusal(f"the LoRA is for another model: {len(strangers)} of its {len(groups)} layers are not here, such as "
                      f"{', '.join(strangers[:3])}; take one that was made for Stable Diffusion 1.5")
    for name, group in groups.items():
        part, layer = known[name]
        if "down" not in group or "up" not in group:
            raise Refusal(f"the LoRA has only half of {name}: fetch it again")
        change = delta(group, alphas[part])
        if change.numel() != layer.weight.numel():
            raise Refusal(f"the LoRA changes {name} by {list(change.shape)}, but its weights are {list(layer.weight.shape)}: "
                          "it was made for another model")
        layer.weight += strength * change.reshape(layer.weight.shape).to(layer.weight.dtype)
    return len(groups)
