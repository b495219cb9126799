"""Tiny random models of Stable Diffusion 1.5's topology, for the tests: nothing here derives from trained weights."""
import json
import math

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, LCMScheduler, PNDMScheduler, UNet2DConditionModel
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from safetensors.torch import save_file
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPTextConfig, CLIPTextModel

import checker

UNET = {"sample_size": 16, "in_channels": 4, "out_channels": 4, "layers_per_block": 1, "block_out_channels": [8, 16], "norm_num_groups": 4,
        "cross_attention_dim": 32, "attention_head_dim": 4, "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"]}
VAE = {"sample_size": 128, "in_channels": 3, "out_channels": 3, "latent_channels": 4, "layers_per_block": 1, "norm_num_groups": 4,
       "block_out_channels": [8, 8, 16, 16], "scaling_factor": 0.18215, "down_block_types": ["DownEncoderBlock2D"] * 4,
       "up_block_types": ["UpDecoderBlock2D"] * 4}
TEXT = {"vocab_size": 514, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4,
        "max_position_embeddings": 77, "projection_dim": 32, "hidden_act": "quick_gelu", "bos_token_id": 512, "eos_token_id": 513,
        "pad_token_id": 513}
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


@torch.no_grad()
def fill(module, seed):
    """Seeded normal weights that keep the spread of what passes through."""
    gen = torch.Generator().manual_seed(seed)
    for name, p in sorted(module.named_parameters()):
        if p.dim() >= 2:
            p.copy_(torch.randn(p.shape, generator=gen) / math.sqrt(1 if "embedding" in name else p[0].numel()))
        elif name.endswith("weight"):
            p.copy_(1 + 0.1 * torch.randn(p.shape, generator=gen))
        else:
            p.copy_(0.05 * torch.randn(p.shape, generator=gen))
    return module.eval()


def tokenizer(folder):
    """CLIP's layout with its 256 bytes, no merges, and the two markers."""
    folder.mkdir(parents=True)
    keep = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(byte) for byte in keep] + [chr(256 + index) for index in range(256 - len(keep))]
    entries = letters + [letter + "</w>" for letter in letters] + ["<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({entry: index for index, entry in enumerate(entries)}, ensure_ascii=False))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "CLIPTokenizer", "model_max_length": 77}))


def networks(guided=True):
    width = 16 if guided else None
    unet = fill(UNet2DConditionModel(**UNET, time_cond_proj_dim=width), 2)
    return unet, fill(AutoencoderKL(**VAE), 3), fill(CLIPTextModel(CLIPTextConfig(**TEXT)), 1)


def diffusers_folder(folder, guided=True):
    """A folder as diffusers saves it: a consistency model, or a plain Stable Diffusion."""
    unet, vae, text = networks(guided)
    unet.save_pretrained(folder / "unet")
    vae.save_pretrained(folder / "vae")
    text.save_pretrained(folder / "text_encoder")
    (LCMScheduler if guided else PNDMScheduler)(**BETAS).save_pretrained(folder / "scheduler")
    tokenizer(folder / "tokenizer")
    name = "LatentConsistencyModelPipeline" if guided else "StableDiffusionPipeline"
    (folder / "model_index.json").write_text(json.dumps({"_class_name": name}))
    (folder / "README.md").write_text("---\nlicense: openrail\n---\nTiny.\n")
    return folder


def checker_folder(folder):
    """A safety checker that flags about half of what the tools compare it on, and how its pictures are prepared."""
    vision = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 32, "patch_size": 8,
              "projection_dim": 8}
    config = CLIPConfig(vision_config=vision, text_config={**TEXT, "projection_dim": 8}, projection_dim=8,
                        architectures=["StableDiffusionSafetyChecker"])
    module = fill(StableDiffusionSafetyChecker(config), 9)
    with torch.no_grad():
        module.concept_embeds_weights.fill_(0)
        module.special_care_embeds_weights.fill_(0.3)
        module.concept_embeds_weights += checker.scores(module, torch.from_numpy(checker.prepared(32))).median() - 0.005
    module.save_pretrained(folder / "safety_checker")
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder / "feature_extractor")
    return folder / "safety_checker"


def taesd_folder(folder):
    vae = AutoencoderTiny(encoder_block_out_channels=(8,) * 4, decoder_block_out_channels=(8,) * 4, num_encoder_blocks=(1, 1, 1, 1),
                          num_decoder_blocks=(1, 1, 1, 1))
    fill(vae, 4).save_pretrained(folder)
    return folder


def lora_file(path, spelling):
    """A LoRA over attention, feed-forward and convolution layers; gives {layer: what it adds}."""
    unet = networks(guided=False)[0]
    gen, tensors, adds = torch.Generator().manual_seed(6), {}, {}
    for name, layer in unet.named_modules():
        if not name.endswith(("to_q", "to_out.0", "conv1", "proj_in", "net.2")):
            continue
        shape = layer.weight.shape
        down = 0.2 * torch.randn(4, *shape[1:], generator=gen)
        up = 0.2 * torch.randn(shape[0], 4, *[1] * (len(shape) - 2), generator=gen)
        alpha = 8.0 if spelling == "kohya" else 4.0
        adds[name] = torch.einsum("or,r...->o...", up.flatten(1), down) * alpha / 4
        if spelling == "kohya":
            key = "lora_unet_" + name.replace(".", "_")
            tensors.update({f"{key}.lora_down.weight": down, f"{key}.lora_up.weight": up, f"{key}.alpha": torch.tensor(alpha)})
        else:
            tensors.update({f"unet.{name}.lora_A.weight": down, f"unet.{name}.lora_B.weight": up})
    save_file({name: value.contiguous() for name, value in tensors.items()}, str(path))
    return adds


def blocks(config):
    """(name in a single-file checkpoint, name in diffusers) of the UNet's blocks."""
    levels, layers = len(config["block_out_channels"]), config["layers_per_block"]
    at = 1
    for i, kind in enumerate(config["down_block_types"]):
        for j in range(layers):
            yield f"input_blocks.{at}.0", f"down_blocks.{i}.resnets.{j}"
            if "Attn" in kind:
                yield f"input_blocks.{at}.1", f"down_blocks.{i}.attentions.{j}"
            at += 1
        if i + 1 < levels:
            yield f"input_blocks.{at}.0.op", f"down_blocks.{i}.downsamplers.0.conv"
            at += 1
    yield from (("middle_block.0", "mid_block.resnets.0"), ("middle_block.1", "mid_block.attentions.0"),
                ("middle_block.2", "mid_block.resnets.1"))
    for i, kind in enumerate(config["up_block_types"]):
        for j in range(layers + 1):
            at = i * (layers + 1) + j
            yield f"output_blocks.{at}.0", f"up_blocks.{i}.resnets.{j}"
            if "Attn" in kind:
                yield f"output_blocks.{at}.1", f"up_blocks.{i}.attentions.{j}"
        if i + 1 < levels:
            yield f"output_blocks.{at}.{2 if 'Attn' in kind else 1}.conv", f"up_blocks.{i}.upsamplers.0.conv"


RESNET = {"norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0", "conv2": "out_layers.3",
          "conv_shortcut": "skip_connection"}
ENDS = {"input_blocks.0.0": "conv_in", "out.0": "conv_norm_out", "out.2": "conv_out", "time_embed.0": "time_embedding.linear_1",
        "time_embed.2": "time_embedding.linear_2", "time_embed.cond_proj": "time_embedding.cond_proj"}


def old_unet(state):
    names = {new: old for old, new in [*blocks(UNET), *ENDS.items()]}
    for name, value in state.items():
        new = next(new for new in names if name.startswith(new + "."))
        rest = name[len(new) + 1:]
        if ".resnets." in new:
            layer, leaf = rest.rsplit(".", 1)
            rest = f"{RESNET[layer]}.{leaf}"
        yield f"model.diffusion_model.{names[new]}.{rest}", value


def old_vae(state):
    attention = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
    for name, value in state.items():
        for i in range(4):
            for j in range(3):
                name = name.replace(f"down_blocks.{i}.resnets.{j}.", f"down.{i}.block.{j}.")
                name = name.replace(f"up_blocks.{i}.resnets.{j}.", f"up.{3 - i}.block.{j}.")
            name = name.replace(f"down_blocks.{i}.downsamplers.0", f"down.{i}.downsample")
            name = name.replace(f"up_blocks.{i}.upsamplers.0", f"up.{3 - i}.upsample")
        name = name.replace("mid_block.resnets.0", "mid.block_1").replace("mid_block.resnets.1", "mid.block_2")
        name = name.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")
        if "mid_block.attentions.0." in name:
            before, after = name.split("mid_block.attentions.0.")
            layer, leaf = after.rsplit(".", 1)
            name = f"{before}mid.attn_1.{attention[layer]}.{leaf}"
            value = value[:, :, None, None] if leaf == "weight" and layer != "group_norm" else value
        yield f"first_stage_model.{name}", value


def checkpoint(path, guided=True):
    """The same model as one file with the names of the original training code, in half precision."""
    unet, vae, text = networks(guided)
    tensors = dict([*old_unet(unet.state_dict()), *old_vae(vae.state_dict())])
    for name, value in text.state_dict().items():
        tensors["cond_stage_model.transformer.text_model." + name.removeprefix("text_model.")] = value
    tensors = {name: value.half().contiguous() if value.is_floating_point() else value for name, value in tensors.items()}
    save_file(tensors, str(path))
    return path
