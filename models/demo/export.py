"""Writes the trained model as ONNX in optimum's folder layout, weights stored in half precision, and compares it with torch.

The graphs compute in single precision: a Cast follows each stored half, and ONNX Runtime folds it away when it opens the file."""
import argparse
import json
import pathlib
import warnings

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

import model
import tokenizer
from stage import average_of
from train_lcm import Student


class TextOut(torch.nn.Module):
    def __init__(self, m):
        super().__init__()
        self.m = m

    def forward(self, input_ids):
        out = self.m(input_ids=input_ids, return_dict=True)
        return out.last_hidden_state, out.pooler_output


def halve(graph):
    """Stores larger weights as halves behind a Cast, and shortens the exporter's long names."""
    keep = {v.name for v in [*graph.input, *graph.output]} | {""}
    short = {}

    def rename(name):
        return name if name in keep else short.setdefault(name, format(len(short), "x"))
    casts = []
    for tensor in graph.initializer:
        tensor.name = rename(tensor.name)
        if tensor.data_type == TensorProto.FLOAT and np.prod(tensor.dims) >= 64:
            name, values = tensor.name, numpy_helper.to_array(tensor)
            tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), name + "h"))
            casts.append(helper.make_node("Cast", [name + "h"], [name], to=TensorProto.FLOAT, name="c" + name))
    for i, node in enumerate(graph.node):
        assert not any(a.HasField("g") for a in node.attribute)
        node.input[:] = [rename(name) for name in node.input]
        node.output[:] = [rename(name) for name in node.output]
        node.name = f"n{i}"
    nodes = [*casts, *graph.node]
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)


def save(module, dummy, path, inputs, outputs, axes):
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module.eval(), dummy, str(path), input_names=inputs, output_names=outputs, dynamic_axes=axes,
                          opset_version=18, do_constant_folding=True, dynamo=False)
    proto = onnx.load(str(path))
    halve(proto.graph)
    proto.producer_version = ""
    onnx.checker.check_model(proto)
    onnx.save_model(proto, str(path))


def write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n")


@torch.no_grad()
def export(parts, scale, out):
    text, unet, encoder, decoder = parts
    text.set_attn_implementation("eager")
    text_axes = {0: "batch_size", 1: "sequence_length"}
    save(TextOut(text), (torch.ones(2, 77, dtype=torch.int64),), out / "text_encoder/model.onnx", ["input_ids"],
         ["last_hidden_state", "pooler_output"], {"input_ids": text_axes, "last_hidden_state": text_axes, "pooler_output": {0: "batch_size"}})
    plane = {0: "batch_size", 2: "height", 3: "width"}
    width, cond = model.UNET["cross_attention_dim"], model.UNET["time_cond_proj_dim"]
    save(unet, (torch.randn(2, 4, 32, 32), torch.full((2,), 499.0), torch.randn(2, 77, width), torch.randn(2, cond)),
         out / "unet/model.onnx", ["sample", "timestep", "encoder_hidden_states", "timestep_cond"], ["out_sample"],
         {"sample": plane, "timestep": {0: "batch_size"}, "encoder_hidden_states": text_axes, "timestep_cond": {0: "batch_size"}, "out_sample": plane})
    save(encoder, (torch.randn(2, 3, 64, 64),), out / "vae_encoder/model.onnx", ["sample"], ["latent_parameters"],
         {"sample": {0: "batch_size", 2: "sample_height", 3: "sample_width"},
          "latent_parameters": {0: "batch_size", 2: "sample_height / 8", 3: "sample_width / 8"}})
    save(decoder, (torch.randn(2, 4, 8, 8),), out / "vae_decoder/model.onnx", ["latent_sample"], ["sample"],
         {"latent_sample": {0: "batch_size", 2: "latent_height", 3: "latent_width"},
          "sample": {0: "batch_size", 2: "latent_height * 8", 3: "latent_width * 8"}})
    text.config.save_pretrained(out / "text_encoder")
    unet.m.save_config(out / "unet")
    vae = {"_class_name": "AutoencoderKL", "in_channels": 3, "out_channels": 3, "latent_channels": 4, "sample_size": 256,
           "block_out_channels": [12, *model.VAE["widths"]], "scaling_factor": scale}
    for part in ("vae_encoder", "vae_decoder"):
        write_json(out / part / "config.json", vae)
    write_json(out / "scheduler/scheduler_config.json", {"_class_name": "LCMScheduler", **model.SCHEDULER})
    write_json(out / "model_index.json", {
        "_class_name": "LatentConsistencyModelImg2ImgPipeline", "feature_extractor": [None, None], "image_encoder": [None, None],
        "requires_safety_checker": False, "safety_checker": [None, None], "scheduler": ["diffusers", "LCMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"], "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"]})


@torch.no_grad()
def parity(parts, out):
    """Largest deviation of each exported part from torch, relative to the spread of its output."""
    import onnxruntime as ort
    text, unet, encoder, decoder = (part.eval() for part in parts)
    gen = torch.Generator().manual_seed(5)
    ids = torch.randint(0, 900, (1, 77), generator=gen)
    x, z, cond = torch.rand(1, 3, 256, 256, generator=gen) * 2 - 1, torch.randn(1, 4, 32, 32, generator=gen), torch.randn(1, 32, generator=gen)
    words = text(input_ids=ids)[0]
    cases = {"text_encoder": ({"input_ids": ids}, words), "vae_encoder": ({"sample": x}, encoder(x)), "vae_decoder": ({"latent_sample": z}, decoder(z)),
             "unet": ({"sample": z, "timestep": torch.tensor([499.0]), "encoder_hidden_states": words, "timestep_cond": cond},
                      unet(z, torch.tensor([499.0]), words, cond))}
    for name, (inputs, want) in cases.items():
        session = ort.InferenceSession(str(out / name / "model.onnx"), providers=["CPUExecutionProvider"])
        got = session.run(None, {key: value.numpy() for key, value in inputs.items()})[0]
        gap = float(np.abs(got - want.numpy()).max() / want.std())
        print(f"{name}: deviation {gap:.1e} of the output's spread")
        assert gap < 3e-2, name


def load(checkpoints, words):
    """The averaged weights of all parts: those of stages `words` and `decoder` if there are any; and the latents' scale."""
    folder = pathlib.Path(checkpoints)
    read = lambda name: torch.load(folder / name, map_location="cpu", weights_only=True)["average"]  # noqa: E731
    encoder, decoder = model.autoencoder()
    vae = read("vae.pt")
    encoder.load_state_dict(average_of(vae, "0."))
    decoder.load_state_dict(average_of(read("decoder.pt"), "") if (folder / "decoder.pt").exists() else average_of(vae, "1."))
    student = Student(tokenizer.write(words))
    student.load_state_dict(average_of(read("words.pt" if (folder / "words.pt").exists() else "lcm.pt"), ""))
    return (student.text, student.unet, encoder, decoder), float((folder / "scale.txt").read_text())


def main():
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("--checkpoints", required=True)
    ap.add_argument("--out", default=".", help="the model folder")
    args = ap.parse_args()
    torch.set_num_threads(1)
    out = pathlib.Path(args.out)
    parts, scale = load(args.checkpoints, out / "tokenizer")
    export(parts, scale, out)
    parity(parts, out)
    size = sum(f.stat().st_size for part in ("text_encoder", "unet", "vae_encoder", "vae_decoder", "tokenizer") for f in (out / part).iterdir())
    print(f"{size / 1e6:.2f} MB; parameters:", *(f"{model.parameters(part):,}" for part in parts))


if __name__ == "__main__":
    main()
