"""Torch modules to ONNX graphs: single precision, names as optimum gives them, one timestep a picture."""
import pathlib
import tempfile
import warnings

import torch

import graphs

OPSET = 18
ROWS = {0: "batch_size"}
WORDS = {0: "batch_size", 1: "sequence_length"}
PLANE = {0: "batch_size", 2: "height", 3: "width"}
PICTURE = {0: "batch_size", 2: "sample_height", 3: "sample_width"}
LATENTS = {0: "batch_size", 2: "latent_height", 3: "latent_width"}


class Call(torch.nn.Module):
    """A module whose forward is a function of it and of the inputs."""

    def __init__(self, module, forward):
        super().__init__()
        self.module, self.run = module, forward

    def forward(self, *inputs):
        return self.run(self.module, *inputs)


def text_of(module, ids):
    out = module(input_ids=ids, return_dict=True)
    return out.last_hidden_state, out.pooler_output


def unet_of(module, sample, timestep, text, cond=None):
    return module(sample, timestep, text, timestep_cond=cond, return_dict=False)[0]


def moments_of(module, sample):
    return module.encode(sample).latent_dist.parameters


def latents_of(module, sample):
    return module.encode(sample, return_dict=False)[0]


def picture_of(module, latents):
    return module.decode(latents, return_dict=False)[0]


@torch.no_grad()
def graph(module, dummy, inputs, outputs):
    """Traces a module. `inputs` and `outputs`: {name: {dimension: its name}}, in order."""
    axes = {name: dims for name, dims in {**inputs, **outputs}.items() if dims}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = pathlib.Path(folder) / "model.onnx"
        torch.onnx.export(module.eval(), dummy, str(path), input_names=list(inputs), output_names=list(outputs), dynamic_axes=axes,
                          opset_version=OPSET, do_constant_folding=True, dynamo=False)
        return graphs.load(path)  # weights above 2 GB were scattered over many files


def text_encoder(module):
    # The exporter's fused attention mixes precisions in its masked branch; the plain one does not.
    module.set_attn_implementation("eager")
    tokens = module.config.max_position_embeddings
    return graph(Call(module, text_of), (torch.ones(2, tokens, dtype=torch.int64),), {"input_ids": WORDS},
                 {"last_hidden_state": WORDS, "pooler_output": ROWS})


def unet(module):
    config = module.config
    dummy = [torch.randn(2, 4, 8, 8), torch.tensor([499.0, 259.0]), torch.randn(2, 77, config.cross_attention_dim)]
    inputs = {"sample": PLANE, "timestep": ROWS, "encoder_hidden_states": WORDS}
    if config.time_cond_proj_dim:
        dummy.append(torch.randn(2, config.time_cond_proj_dim))
        inputs["timestep_cond"] = ROWS
    return graph(Call(module, unet_of), tuple(dummy), inputs, {"out_sample": PLANE})


def is_tiny(vae):
    return type(vae).__name__ == "AutoencoderTiny"


def vae_encoder(module):
    forward, name = (latents_of, "latent_sample") if is_tiny(module) else (moments_of, "latent_parameters")
    return graph(Call(module, forward), (torch.randn(2, 3, 64, 64),), {"sample": PICTURE}, {name: LATENTS})


def vae_decoder(module):
    return graph(Call(module, picture_of), (torch.randn(2, 4, 8, 8),), {"latent_sample": LATENTS}, {"sample": PICTURE})
