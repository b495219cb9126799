"""Runs an exported model folder with numpy and ONNX Runtime alone, by the engine's algorithm: what is measured is what ships."""
import json
import math
import pathlib

import numpy as np
import onnxruntime as ort

from tokenizer import Tokenizer


class Painter:
    def __init__(self, folder, threads=2):
        folder = pathlib.Path(folder)
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        part = lambda name: ort.InferenceSession(str(folder / name / "model.onnx"), options, providers=["CPUExecutionProvider"])  # noqa: E731
        self.text, self.encoder, self.unet, self.decoder = map(part, ("text_encoder", "vae_encoder", "unet", "vae_decoder"))
        self.scale = json.loads((folder / "vae_decoder/config.json").read_text())["scaling_factor"]
        self.width = json.loads((folder / "unet/config.json").read_text())["time_cond_proj_dim"]
        s = json.loads((folder / "scheduler/scheduler_config.json").read_text())
        assert s["prediction_type"] == "sample", "this reads models that predict the picture itself"
        self.original, self.scaling = s["original_inference_steps"], s["timestep_scaling"]
        self.alphas = np.cumprod(1 - np.linspace(s["beta_start"] ** 0.5, s["beta_end"] ** 0.5, s["num_train_timesteps"]) ** 2)
        self.tokenizer = Tokenizer(folder / "tokenizer")

    def embed(self, prompt):
        return self.text.run(["last_hidden_state"], {"input_ids": np.int64([self.tokenizer.ids(prompt)])})[0]

    def guidance(self, scale):
        half = self.width // 2
        angle = 1000 * (scale - 1) * np.exp(-math.log(10000) / (half - 1) * np.arange(half))
        return np.concatenate([np.sin(angle), np.cos(angle)])[None].astype(np.float32)

    def encode(self, picture):
        """Scaled mean latents of a uint8 (h, w, 3) picture."""
        x = picture.astype(np.float32).transpose(2, 0, 1)[None] / 127.5 - 1
        return self.encoder.run(None, {"sample": x})[0][:, :4] * self.scale

    def decode(self, latents):
        y = self.decoder.run(None, {"latent_sample": (latents / self.scale).astype(np.float32)})[0][0]
        return np.rint(np.clip(y / 2 + 0.5, 0, 1) * 255).astype(np.uint8).transpose(1, 2, 0)

    def run(self, picture, prompt, strength=0.7, steps=2, guidance=8.0, seed=0):
        """The picture that a request gives."""
        rng, z, text, cond = np.random.default_rng(seed), self.encode(picture), self.embed(prompt), self.guidance(guidance)
        room = int(self.original * strength)
        ladder = [(room - int(i * (room / steps))) * (1000 // self.original) - 1 for i in range(steps)]
        for t in ladder:
            a = self.alphas[t]
            x = (math.sqrt(a) * z + math.sqrt(1 - a) * rng.standard_normal(z.shape)).astype(np.float32)
            answer = self.unet.run(None, {"sample": x, "timestep": np.float32([t]), "encoder_hidden_states": text, "timestep_cond": cond})[0]
            scaled = self.scaling * t
            z = scaled / math.sqrt(scaled ** 2 + 0.25) * answer + 0.25 / (scaled ** 2 + 0.25) * x
        return self.decode(z)
