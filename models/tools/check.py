"""Compares what was written with where it came from, on seeded random inputs."""
import json
import pathlib
import tempfile

import numpy as np
import onnx

import graphs
import plain
from progress import Refusal, note

# Largest deviation of an output, as a share of its spread; and of a whole picture, the root of the mean square in levels of 255.
SINGLE, HALF = 5e-3, 1e-1
SINGLE_LEVELS, HALF_LEVELS = 0.5, 6.0
SEED = 5


def random_inputs(ports, rows, side):
    """Inputs for a part with so many pictures of side·8 pixels, the same for every tool that draws them in order."""
    rng = np.random.default_rng(SEED)
    inputs = {}
    for port in ports["inputs"]:
        name, shape = port["name"], port["shape"]
        if name == "input_ids":
            value = rng.integers(1, 500, (rows, 77))
        elif name == "timestep":
            value = np.array([499, 259][:rows], np.float32)
        elif name == "encoder_hidden_states":
            value = rng.standard_normal((rows, 77, shape[2]))
        elif name == "timestep_cond":
            value = rng.standard_normal((rows, shape[1]))
        elif shape[1] == 3:
            value = rng.random((rows, 3, 8 * side, 8 * side)) * 2 - 1
        else:
            value = rng.standard_normal((rows, shape[1], side, side))
        inputs[name] = value.astype({"int64": np.int64, "int32": np.int32}.get(port["element"], np.float32))
    return inputs


def runnable(proto):
    """A graph that the CPU provider runs, whatever device it was made for."""
    return plain.written_out(graphs.single_precision(proto)) if graphs.vendor_operators(proto) else graphs.single_precision(proto)


class Session:
    """A part that runs on the CPU, also if it was made for CUDA."""

    def __init__(self, path):
        import onnxruntime
        proto = onnx.load(str(path), load_external_data=False)
        options = onnxruntime.SessionOptions()
        options.log_severity_level, options.intra_op_num_threads = 3, 0
        self.ports = graphs.ports(proto)
        if not graphs.vendor_operators(proto) and all(port["element"] != "float16" for port in self.ports["inputs"]):
            self.run_graph = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            return
        with tempfile.TemporaryDirectory() as folder:
            graphs.save(runnable(graphs.load(path)), pathlib.Path(folder) / "model.onnx")
            self.run_graph = onnxruntime.InferenceSession(f"{folder}/model.onnx", options, providers=["CPUExecutionProvider"])

    def run(self, inputs):
        wanted = {port.name: {"tensor(int64)": np.int64, "tensor(int32)": np.int32}.get(port.type, np.float32)
                  for port in self.run_graph.get_inputs()}
        missing = set(wanted) - set(inputs)
        if missing:
            raise Refusal(f"the graph wants {', '.join(sorted(missing))} too, which falgate does not have")
        outputs = [port.name for port in self.run_graph.get_outputs()]
        first = "last_hidden_state" if "last_hidden_state" in outputs else outputs[0]
        return self.run_graph.run([first], {name: np.asarray(inputs[name], kind) for name, kind in wanted.items()})[0]


def deviation(got, want):
    if got.shape != want.shape:
        raise Refusal(f"the result has the shape {list(got.shape)}, not {list(want.shape)}: this is a fault of the tool, please report it")
    return float(np.abs(got - want).max() / max(float(want.std()), 1e-6))


def record(what, got, tolerance, unit):
    note(f"{what}: off by {got:.1e} {unit}, {tolerance:.0e} allowed")
    if not got <= tolerance:
        raise Refusal(f"{what} is off by {got:.1e} {unit}, more than {tolerance:.0e}: nothing was written. This is a fault of the tool "
                      "or of the source; please report it with the versions that `pip freeze` shows")
    return {"what": what, "deviation": float(f"{got:.3e}"), "tolerance": tolerance, "unit": unit}


def torch_outputs(model, vae, inputs):
    """What torch gives for the inputs of each part."""
    import torch
    import export
    calls = {"text_encoder": lambda ids: model.text_encoder(input_ids=ids).last_hidden_state,
             "vae_encoder": lambda x: (export.latents_of if export.is_tiny(vae) else export.moments_of)(vae, x),
             "unet": lambda *values: export.unet_of(model.unet, *values), "vae_decoder": lambda z: export.picture_of(vae, z)}
    with torch.no_grad():
        return {part: calls[part](*map(torch.from_numpy, values.values())).numpy() for part, values in inputs.items()}


def part_inputs(folder, side):
    loaded = {part: graphs.ports(onnx.load(str(folder / part / "model.onnx"), load_external_data=False))
              for part in ("text_encoder", "vae_encoder", "unet", "vae_decoder")}
    return {part: random_inputs(found, 2, side) for part, found in loaded.items()}


def parts(folder, want, inputs, tolerance):
    """Every part of a folder against given outputs."""
    checks = []
    for part, values in inputs.items():
        got = Session(folder / part / "model.onnx").run(values)
        checks.append(record(f"{part} on 2 random rows", deviation(got, want[part]), tolerance, "of the output's spread"))
    return checks


class Paint:
    """Image-to-image with a folder's four graphs, in numpy: what falgate's engine does, short."""

    def __init__(self, folder):
        self.text, self.encoder, self.unet, self.decoder = (
            Session(folder / part / "model.onnx") for part in ("text_encoder", "vae_encoder", "unet", "vae_decoder"))
        self.scale = json.loads((folder / "vae_decoder/config.json").read_text()).get("scaling_factor", 0.18215)

    def latents(self, pixels, draw):
        moments = self.encoder.run({"sample": pixels})
        if moments.shape[1] == 4:
            return moments * self.scale
        mean, log = np.split(moments, 2, axis=1)
        return (mean + np.exp(np.clip(log, -30, 20) / 2) * draw()) * self.scale

    def __call__(self, pixels, ids, scheduler, guidance, draw):
        """The picture in [-1, 1]. `scheduler`: diffusers', with its timesteps set; `draw`: fresh noise."""
        words, x = self.text.run({"input_ids": ids}), self.latents(pixels, draw)
        alphas, ladder = scheduler.alphas_cumprod.numpy(), scheduler.timesteps.numpy()
        x = np.sqrt(alphas[ladder[0]]) * x + np.sqrt(1 - alphas[ladder[0]]) * draw()
        for index, t in enumerate(ladder):
            a, s = np.sqrt(alphas[t]), np.sqrt(1 - alphas[t])
            out = self.unet.run({"sample": x, "timestep": np.full(len(x), t), "encoder_hidden_states": words, "timestep_cond": guidance})
            first = {"epsilon": (x - s * out) / a, "sample": out, "v_prediction": a * x - s * out}[scheduler.config.prediction_type]
            skip, keep = (float(value) for value in scheduler.get_scalings_for_boundary_condition_discrete(int(t)))
            x = keep * first + skip * x
            if index + 1 < len(ladder):
                following = alphas[ladder[index + 1]]
                x = np.sqrt(following) * x + np.sqrt(1 - following) * draw()
        return self.decoder.run({"latent_sample": x / self.scale})


class NoGuidance:
    """What diffusers' pipeline hands to a UNet without guidance embedding: its own code expects one."""

    def to(self, **_):
        return None


def picture(folder, model, vae, tolerance, side=128):
    """A whole run of the folder against diffusers' own pipeline: 2 steps at strength 0.5, the same noise."""
    import torch
    from diffusers import LatentConsistencyModelImg2ImgPipeline, LCMScheduler
    from PIL import Image
    scheduler = LCMScheduler.from_config({name: value for name, value in model.scheduler.items() if not name.startswith("_")})
    pipeline = LatentConsistencyModelImg2ImgPipeline(
        vae=vae, text_encoder=model.text_encoder, tokenizer=None, unet=model.unet, scheduler=scheduler, safety_checker=None,
        feature_extractor=None, requires_safety_checker=False)
    pipeline.set_progress_bar_config(disable=True)
    width = model.unet.config.time_cond_proj_dim
    guidance = pipeline.get_guidance_scale_embedding(torch.tensor([7.0]), embedding_dim=width).numpy() if width else None
    if not width:
        pipeline.get_guidance_scale_embedding = lambda *_, **__: NoGuidance()
    rng = np.random.default_rng(SEED)
    coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
    image = coarse.resize((side, side), Image.Resampling.BICUBIC)
    ids = rng.integers(1, 500, (1, 77))
    with torch.no_grad():
        words = model.text_encoder(input_ids=torch.from_numpy(ids)).last_hidden_state
        want = pipeline(prompt_embeds=words, image=image, num_inference_steps=2, strength=0.5, guidance_scale=8.0, output_type="np",
                        generator=torch.Generator().manual_seed(SEED)).images
    generator = torch.Generator().manual_seed(SEED)
    pixels = (np.asarray(image, np.float32) / 127.5 - 1).transpose(2, 0, 1)[None]
    scheduler.set_timesteps(2, original_inference_steps=model.scheduler["original_inference_steps"], strength=0.5)
    got = Paint(folder)(pixels, ids, scheduler, guidance, lambda: torch.randn((1, 4, side // 8, side // 8), generator=generator).numpy())
    levels = 255 * (np.clip(got / 2 + 0.5, 0, 1).transpose(0, 2, 3, 1) - want)
    return record(f"a {side}×{side} picture against diffusers' pipeline", float(np.sqrt((levels**2).mean())), tolerance, "levels of 255")
