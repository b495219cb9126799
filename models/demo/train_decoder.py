"""Stage 3: the decoder alone goes on, with the encoder held: on true latents, and on latents that the trained UNet gives, so that it
paints over what the UNet leaves vague."""
import pathlib

import numpy as np
import torch

import model
import tokenizer
from stage import Average, Run, average_of, pixels
from train_lcm import Latents, Student
from train_vae import likeness


def student(args, words):
    """The trained text encoder and UNet; None before stage 2."""
    path = pathlib.Path(args.checkpoints) / "lcm.pt"
    if not path.exists():
        return None
    held = torch.load(path, map_location=args.device, weights_only=True)
    trained = Student(tokenizer.write(words))
    trained.load_state_dict(average_of(held["average"], ""))
    return trained.to(args.device, memory_format=torch.channels_last).eval()


@torch.no_grad()
def answers(args, trained, rng, z, ids, scale):
    """Unscaled latents as runs of one or two steps from these doodles give them."""
    alphas, found = model.alphas_cumprod().to(args.device), []
    for i in range(0, len(z), 4):
        start, text = z[i:i + 4] * scale, ids[i:i + 4]
        strength, guidance = rng.uniform(0.6, 0.85), torch.full((len(start),), 8.0)
        x = start
        for t in model.timesteps(int(rng.integers(1, 3)), strength):
            a = alphas[t]
            x = trained(a.sqrt() * x + (1 - a).sqrt() * torch.randn_like(x), torch.full((len(x),), t, device=x.device), text, guidance)
        found.append(x / scale)
    return torch.cat(found)


def train(args):
    torch.manual_seed(3)
    rng = np.random.default_rng()
    folder = pathlib.Path(args.checkpoints)
    held = torch.load(folder / "vae.pt", map_location=args.device, weights_only=True)
    _, decoder = model.autoencoder()
    decoder.load_state_dict(average_of(held["average"], "1."))
    decoder = decoder.to(args.device, memory_format=torch.channels_last)
    average, weights = Average(decoder).to(args.device), list(decoder.parameters())
    best = torch.optim.AdamW(weights, lr=args.rate, betas=(0.9, 0.99), weight_decay=0.0, fused=True)
    run = Run(args, "decoder", {"decoder": decoder, "average": average, "best": best})
    source = Latents(args)
    scenes, captions = source.scenes, [fact["caption"] for fact in source.scenes.facts]
    reader = tokenizer.Tokenizer(folder / "tokenizer") if (folder / "tokenizer").exists() else None
    crop, pool = args.crop, None
    scale = float((folder / "scale.txt").read_text()) if (folder / "scale.txt").exists() else 1.0
    going = True
    while going:
        trained = student(args, folder / "tokenizer") if reader and (pool is None or run.step % 1200 == 0) else None
        if trained is not None:
            chosen = rng.integers(source.counts["large"], size=args.pool)
            z = source.get("large", chosen)[:, 0]
            pool = chosen, answers(args, trained, rng, z, torch.tensor([reader.ids(captions[i]) for i in chosen]).to(args.device), scale)
        pieces, targets = [], []
        for _ in range(args.batch):
            y, x = rng.integers(0, 32 - crop // 8 + 1, 2)
            cut = (slice(None), slice(y, y + crop // 8), slice(x, x + crop // 8))
            if pool is not None and rng.uniform() < 0.6:
                i = rng.integers(len(pool[0]))
                pieces.append(pool[1][i][cut])
                index, which = pool[0][i], 1
            else:
                index, which = rng.integers(source.counts["large"]), int(rng.uniform() < 0.8)
                z = source.get("large", [index])[0, which][cut]
                pieces.append(z + 0.06 * torch.randn_like(z))
            targets.append(scenes.pair(index)[which][8 * y:8 * y + crop, 8 * x:8 * x + crop])
        want = pixels(np.stack(targets), args.device).contiguous(memory_format=torch.channels_last)
        got = decoder(torch.stack(pieces).contiguous(memory_format=torch.channels_last))
        loss = likeness(got, want)
        for group in best.param_groups:
            group["lr"] = run.rate()
        best.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        best.step()
        average.follow(decoder)
        going = run.after(loss=loss, l1=torch.nn.functional.l1_loss(got.detach(), want))
