"""What can be converted: diffusers folders, single-file checkpoints, and published ONNX folders. Nothing is ever downloaded."""
import dataclasses
import json
import pathlib

import torch
from safetensors.torch import load_file

import lora
from manifest import hashes, licence_of, sha256
from progress import Refusal

TOKENIZER = ("vocab.json", "merges.txt", "special_tokens_map.json", "tokenizer_config.json", "tokenizer.json")
# What a single-file checkpoint does not say: the configuration of Stable Diffusion 1.5.
UNET = {"sample_size": 64, "in_channels": 4, "out_channels": 4, "layers_per_block": 2, "block_out_channels": [320, 640, 1280, 1280],
        "cross_attention_dim": 768, "attention_head_dim": 8, "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
        "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3}
VAE = {"sample_size": 512, "in_channels": 3, "out_channels": 3, "latent_channels": 4, "layers_per_block": 2, "scaling_factor": 0.18215,
       "block_out_channels": [128, 256, 512, 512], "down_block_types": ["DownEncoderBlock2D"] * 4,
       "up_block_types": ["UpDecoderBlock2D"] * 4}
TEXT = {"vocab_size": 49408, "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
        "max_position_embeddings": 77, "projection_dim": 768, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5,
        "bos_token_id": 49406, "eos_token_id": 49407, "pad_token_id": 49407}
SCHEDULER = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
             "prediction_type": "epsilon"}


@dataclasses.dataclass
class Torch:
    """A model in torch, in single precision, ready to be exported."""

    text_encoder: torch.nn.Module
    unet: torch.nn.Module
    vae: torch.nn.Module
    tokenizer: pathlib.Path
    scheduler: dict
    source: dict
    licence: str


def kind_of(path):
    """`onnx`, `diffusers` or `checkpoint`; refuses what is none of them."""
    path = pathlib.Path(path)
    if path.is_file():
        if path.suffix == ".safetensors":
            return "checkpoint"
        raise Refusal(f"{path.name} is no safetensors file: fetch the .safetensors of this model; .ckpt and .bin files can run code")
    if not path.is_dir():
        raise Refusal(f"{path} does not exist; sources are files and folders of this machine, nothing is downloaded")
    index = read_json(path / "model_index.json")
    if "XL" in index.get("_class_name", "") or (path / "text_encoder_2").is_dir():
        raise Refusal(f"{path} holds an SDXL model; falgate runs models of the Stable Diffusion 1.5 family")
    if (path / "unet/model.onnx").is_file():
        return "onnx"
    if list(path.glob("*/openvino_model.xml")) or list(path.glob("unet/*.xml")):
        raise Refusal(f"{path} holds an OpenVINO model; take the torch or ONNX weights that it was made from")
    if list((path / "unet").glob("*.safetensors")):
        return "diffusers"
    if list((path / "unet").glob("*.bin")):
        raise Refusal(f"{path} has pickled weights (.bin), which can run code; fetch its safetensors files")
    if not (path / "unet").is_dir():
        raise Refusal(f"{path} has no unet folder: name a diffusers folder, a published ONNX folder or a .safetensors checkpoint")
    raise Refusal(f"{path}/unet holds no weights (.safetensors or model.onnx): the download is not complete")


def read_json(path):
    if not path.is_file():
        return {}
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise Refusal(f"{path} is no JSON ({error}): fetch it again") from error


def tokenizer_in(folder):
    """The folder with the tokenizer's files: the folder itself, or its subfolder."""
    for place in (folder / "tokenizer", folder):
        if (place / "tokenizer.json").is_file() or all((place / name).is_file() for name in ("vocab.json", "merges.txt")):
            return place
    raise Refusal(f"{folder} has no tokenizer (vocab.json and merges.txt): name a folder that has one with --config")


def lcm_schedule(config):
    """The schedule of a consistency model over the betas of `config`. Refuses what the engine does not have."""
    for name in ("clip_sample", "thresholding", "rescale_betas_zero_snr", "trained_betas"):
        if config.get(name):
            raise Refusal(f"the scheduler has {name} set, which falgate's engine does not have")
    known = {**SCHEDULER, **{name: config[name] for name in SCHEDULER if config.get(name) is not None}}
    if known["beta_schedule"] != "scaled_linear":
        raise Refusal(f"the scheduler's beta_schedule is {known['beta_schedule']}, and falgate's engine has scaled_linear only")
    return {"_class_name": "LCMScheduler", **known, "clip_sample": False, "set_alpha_to_one": config.get("set_alpha_to_one", True),
            "steps_offset": config.get("steps_offset", 1), "original_inference_steps": config.get("original_inference_steps", 50),
            "timestep_scaling": config.get("timestep_scaling", 10.0)}


def check_family(unet, text):
    """Refuses what is no Stable Diffusion 1.5 by what its configuration says."""
    width = unet.cross_attention_dim
    if unet.in_channels != 4 or unet.out_channels != 4:
        raise Refusal(f"the UNet takes {unet.in_channels} channels, not 4: inpainting and depth models cannot serve here")
    if unet.addition_embed_type or unet.class_embed_type or unet.encoder_hid_dim_type:
        raise Refusal("the UNet wants more than pictures and words (SDXL and others do): falgate runs the Stable Diffusion 1.5 family")
    if width == 1024 or text.hidden_act == "gelu":
        raise Refusal("this is a model of the Stable Diffusion 2 family: falgate runs the 1.5 family")
    if width != text.hidden_size:
        raise Refusal(f"the UNet wants text of width {width}, but the text encoder gives {text.hidden_size}")


def check_distilled(scheduler, unet, options):
    """Refuses a model that would need 50 steps: one that nobody distilled."""
    if unet.config.time_cond_proj_dim or scheduler.get("_class_name") == "LCMScheduler" or options.lora or options.merged:
        return
    raise Refusal("this is no consistency model: add an LCM LoRA with --lora FILE, or say --merged if one is merged already")


def load_part(kind, folder):
    """One part of a diffusers folder, from the full weights or from those in half precision."""
    names = [path.name for path in folder.glob("*.safetensors")]
    if not names:
        raise Refusal(f"{folder} holds no .safetensors: the download is not complete")
    variant = "fp16" if all(".fp16." in name for name in names) else None
    try:
        word = "dtype" if kind.__name__.startswith("CLIP") else "torch_dtype"
        return kind.from_pretrained(folder, use_safetensors=True, local_files_only=True, variant=variant, **{word: torch.float32}).eval()
    except Exception as error:
        raise Refusal(f"{folder} cannot be loaded ({first_line(error)}): fetch it again") from error


def first_line(error):
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def from_diffusers(path, options):
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel
    path = pathlib.Path(path)
    scheduler = read_json(path / "scheduler/scheduler_config.json")
    config = UNet2DConditionModel.load_config(path / "unet", local_files_only=True)
    if config.get("cross_attention_dim") == 1024:
        raise Refusal("this is a model of the Stable Diffusion 2 family: falgate runs the 1.5 family")
    parts = {"unet": load_part(UNet2DConditionModel, path / "unet"), "text_encoder": load_part(CLIPTextModel, path / "text_encoder")}
    weights = [f.relative_to(path).as_posix() for part in ("unet", "vae", "text_encoder") for f in (path / part).glob("*.safetensors")]
    source = {"kind": "diffusers folder", "name": path.resolve().name, "files": hashes(path, weights)}
    return finish(parts, load_part(AutoencoderKL, path / "vae"), (tokenizer_in(path), scheduler), (source, path), options)


def from_checkpoint(path, options):
    path = pathlib.Path(path)
    try:
        tensors = load_file(str(path))
    except Exception as error:
        raise Refusal(f"{path.name} cannot be read as safetensors ({first_line(error)}): fetch it again") from error
    if not any(name.startswith("model.diffusion_model.") for name in tensors):
        raise Refusal(f"{path.name} is no checkpoint of a whole model: it has no model.diffusion_model (a LoRA goes with --lora)")
    if any(name.startswith("conditioner.") for name in tensors):
        raise Refusal(f"{path.name} holds an SDXL model; falgate runs models of the Stable Diffusion 1.5 family")
    if not options.config:
        raise Refusal("a single-file checkpoint has no tokenizer: name a folder with one by --config, for example any diffusers folder "
                      "of Stable Diffusion 1.5 (its weights are not needed)")
    parts, vae = split_checkpoint(tensors, pathlib.Path(options.config))
    scheduler = read_json(pathlib.Path(options.config) / "scheduler/scheduler_config.json")
    source = {"kind": "checkpoint", "name": path.name, "files": {path.name: {"bytes": path.stat().st_size, "sha256": sha256(path)}}}
    tokenizer = tokenizer_in(pathlib.Path(options.config))
    return finish(parts, vae, (tokenizer, scheduler), (source, path.parent / "no card"), options)


def split_checkpoint(tensors, config):
    """The three networks of a single-file checkpoint."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from diffusers.loaders import single_file_utils as ldm
    from transformers import CLIPTextConfig, CLIPTextModel

    def configured(name, usual):
        said = read_json(config / name / "config.json")
        return {key: said.get(key, value) for key, value in usual.items()} | {k: v for k, v in said.items() if not k.startswith("_")}
    tensors = {name: value.float() if value.is_floating_point() else value for name, value in tensors.items()}
    plan = configured("unet", UNET)
    cond = tensors.pop("model.diffusion_model.time_embed.cond_proj.weight", None)
    plan["time_cond_proj_dim"] = None if cond is None else cond.shape[1]
    unet = UNet2DConditionModel.from_config(plan)
    state = ldm.convert_ldm_unet_checkpoint(dict(tensors), unet.config)
    fill(unet, state if cond is None else {**state, "time_embedding.cond_proj.weight": cond}, "UNet")
    vae = AutoencoderKL.from_config(configured("vae", VAE))
    fill(vae, ldm.convert_ldm_vae_checkpoint(dict(tensors), vae.config), "autoencoder")
    said = {**TEXT, **read_json(config / "text_encoder/config.json")}
    text = CLIPTextModel(CLIPTextConfig(**{name: said[name] for name in TEXT}))
    state = ldm.convert_ldm_clip_checkpoint(dict(tensors))
    state = {name: value for name, value in state.items() if not name.endswith("position_ids")}
    if not any(name.startswith("text_model.") for name in text.state_dict()):
        state = {name.removeprefix("text_model."): value for name, value in state.items()}
    fill(text, state, "text encoder")
    return {"unet": unet.eval(), "text_encoder": text.eval()}, vae.eval()


def fill(module, state, name):
    """Loads weights, all of them and no other."""
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise Refusal(f"the checkpoint's {name} is not that of Stable Diffusion 1.5 ({' '.join(str(error).split())[:300]}); if its widths "
                      "differ, name a diffusers folder with its configuration by --config") from error


def finish(parts, vae, settings, origin, options):
    """What folders and checkpoints have in common: family, LoRA, schedule, licence."""
    (tokenizer, scheduler), (source, card) = settings, origin
    check_family(parts["unet"].config, parts["text_encoder"].config)
    check_distilled(scheduler, parts["unet"], options)
    if options.lora:
        path = pathlib.Path(options.lora)
        if not path.is_file():
            raise Refusal(f"the LoRA {path} does not exist")
        layers = lora.fuse(path, parts, options.lora_strength)
        source["lora"] = {"name": path.name, "sha256": sha256(path), "strength": options.lora_strength, "layers": layers}
    return Torch(parts["text_encoder"], parts["unet"], vae, tokenizer, lcm_schedule(scheduler), source, licence_of(card, options.licence))


def taesd(path):
    """The distilled autoencoder in a diffusers folder, and what is written down of it."""
    from diffusers import AutoencoderTiny
    path = pathlib.Path(path)
    if read_json(path / "config.json").get("_class_name") != "AutoencoderTiny":
        raise Refusal(f"{path} is no diffusers folder of an AutoencoderTiny (config.json says another class, or is not there)")
    vae = load_part(AutoencoderTiny, path)
    if vae.config.latent_channels != 4 or vae.config.get("shift_factor"):
        raise Refusal(f"{path} is the TAESD of another family: take the one for Stable Diffusion 1.5")
    weights = [f.name for f in path.glob("*.safetensors")]
    return vae, {"kind": "TAESD", "name": path.resolve().name, "files": hashes(path, weights)}
