#!/usr/bin/env python3
"""Measures diffusers' networks on this machine, phase by phase and batch by batch, as `falgate model bench` does: JSON on stdout.

    python torch_bench.py --how eager --device cuda --side 512

Weights are random. `--how compile` uses torch.compile with CUDA graphs; `--tiny` takes networks that a CPU runs in milliseconds, `--demo DIR`
those of the demo model, whose scripts are in DIR."""
import argparse
import json
import statistics
import sys
import time

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

UNET = {"sample_size": 64, "block_out_channels": (320, 640, 1280, 1280), "cross_attention_dim": 768, "attention_head_dim": 8,
        "time_cond_proj_dim": 256}
VAE = {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "latent_channels": 4,
       "down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
TEXT = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "num_hidden_layers": 12}
SMALL = {"unet": {"block_out_channels": (8, 16, 24, 32), "norm_num_groups": 4, "cross_attention_dim": 32, "attention_head_dim": 4,
                  "time_cond_proj_dim": 32},
         "vae": {"block_out_channels": (8, 16, 24, 32), "norm_num_groups": 4},
         "text": {"hidden_size": 32, "intermediate_size": 128, "num_attention_heads": 4, "num_hidden_layers": 2}}


class Model:
    """Encode, step and decode, as the consistency pipeline calls them."""

    def __init__(self, args):
        self.kind = {"device": args.device, "dtype": torch.float16 if args.device == "cuda" else torch.float32}
        if args.demo:
            return self.demo(args)
        small = SMALL if args.tiny else {"unet": {}, "vae": {}, "text": {}}
        self.unet = UNet2DConditionModel(**{**UNET, **small["unet"]})
        self.vae = AutoencoderTiny() if args.taesd else AutoencoderKL(**{**VAE, **small["vae"]})
        self.text = CLIPTextModel(CLIPTextConfig(**{**TEXT, **small["text"]}))
        for name in ("unet", "vae", "text"):
            setattr(self, name, getattr(self, name).to(**self.kind).eval())
        if args.device == "cuda":
            self.unet.to(memory_format=torch.channels_last)
            self.vae.to(memory_format=torch.channels_last)
        self.encoder = lambda x: self.vae.encode(x, return_dict=False)[0]
        self.decoder = lambda z: self.vae.decode(z, return_dict=False)[0]
        self.width, self.cond = self.unet.config.cross_attention_dim, self.unet.config.time_cond_proj_dim
        self.predict = lambda x, t, words, cond: self.unet(x, t, encoder_hidden_states=words, timestep_cond=cond, return_dict=False)[0]
        if args.how == "compile":
            self.unet = torch.compile(self.unet, mode="reduce-overhead", fullgraph=True)
            self.decoder = torch.compile(self.decoder, mode="reduce-overhead")

    def demo(self, args):
        """Its UNet and text encoder are diffusers' and transformers' own; the autoencoder is plain convolutions."""
        sys.path.insert(0, args.demo)
        import model
        self.encoder, self.decoder = (part.to(**self.kind).eval() for part in model.autoencoder())
        self.predict, self.text = model.unet().to(**self.kind).eval(), model.text_encoder(1000).to(**self.kind).eval()
        self.width, self.cond = model.UNET["cross_attention_dim"], model.UNET["time_cond_proj_dim"]
        if args.how == "compile":
            self.predict, self.decoder = torch.compile(self.predict), torch.compile(self.decoder)

    def random(self, *shape):
        return torch.randn(*shape, **self.kind)

    def encode(self, pixels):
        found = self.encoder(pixels)
        return found[:, :4] if torch.is_tensor(found) else found.mode()

    def step(self, latents, words, cond, timestep):
        out = self.predict(latents, timestep, words, cond)
        return 0.5 * latents + 0.1 * out + 0.1 * torch.randn_like(latents)

    def picture(self, latents):
        levels = (self.decoder(latents) / 2 + 0.5).clamp(0, 1) * 255
        return levels.round().to(torch.uint8).permute(0, 2, 3, 1).cpu()


def measured(call, args):
    """Median, least and most of some calls in milliseconds."""
    wait = torch.cuda.synchronize if args.device == "cuda" else (lambda: None)
    times, begin = [], None
    for number in range(args.warm_up + args.rounds):
        wait()
        start = time.perf_counter()
        begin = begin or (start if number >= args.warm_up else None)
        call()
        wait()
        if number >= args.warm_up:
            times.append(1e3 * (time.perf_counter() - start))
            if time.perf_counter() - begin > args.row_limit:
                break
    return times


def row(part, steps, batch, times):
    median = statistics.median(times)
    taken = torch.cuda.memory_reserved() if torch.cuda.is_available() else None
    print(f"{part} {steps or ''} batch {batch}: {median:.2f} ms", file=sys.stderr, flush=True)
    return {"part": part, "steps": steps, "batch": batch, "device_bytes": taken,
            "times": {"calls": len(times), "median_ms": median, "least_ms": min(times), "most_ms": max(times),
                      "rows_per_s": 1e3 * batch / median}}


@torch.no_grad()
def bench(model, args):
    rows, latent = [], args.side // 8
    timestep = torch.tensor(499, device=args.device)
    for batch in args.batch:
        ids = torch.ones(batch, 77, dtype=torch.int64, device=args.device)
        pixels, latents = model.random(batch, 3, args.side, args.side).clamp(-1, 1), model.random(batch, 4, latent, latent)
        words, cond = model.random(batch, 77, model.width), model.random(batch, model.cond)
        rows.append(row("text_encoder", None, batch, measured(lambda: model.text(ids)[0], args)))
        rows.append(row("vae_encoder", None, batch, measured(lambda: model.encode(pixels), args)))
        rows.append(row("unet", None, batch, measured(lambda: model.step(latents, words, cond, timestep), args)))
        rows.append(row("vae_decoder", None, batch, measured(lambda: model.picture(latents), args)))
        for steps in args.steps:
            def painted():
                x = model.encode(pixels)
                for _ in range(steps):
                    x = model.step(x, words, cond, timestep)
                return model.picture(x)
            rows.append(row("picture", steps, batch, measured(painted, args)))
    return rows


def main():
    numbers = lambda text: [int(word) for word in text.split(",")]  # noqa: E731
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("--how", choices=["eager", "compile"], required=True)
    ap.add_argument("--device", default="cuda")
    ap.add_argument("--side", type=int, default=512)
    ap.add_argument("--batch", type=numbers, default=[1, 2, 4, 8])
    ap.add_argument("--steps", type=numbers, default=[1, 2, 4])
    ap.add_argument("--rounds", type=int, default=20)
    ap.add_argument("--warm-up", type=int, default=4)
    ap.add_argument("--row-limit", type=float, default=10)
    ap.add_argument("--taesd", action="store_true")
    ap.add_argument("--tiny", action="store_true")
    ap.add_argument("--demo", metavar="DIR")
    ap.add_argument("--threads", type=int)
    args = ap.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    rows = bench(Model(args), args)
    print(json.dumps({"how": f"diffusers, torch {torch.__version__} {args.how}", "rows": rows}))


if __name__ == "__main__":
    main()
