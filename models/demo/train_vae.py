"""Stage 1: the autoencoder, on crops of doodles and pictures."""
import numpy as np
import torch
import torch.nn.functional as F

import model
from stage import Average, Run, Scenes, pixels


def edges(x):
    return x[..., 1:] - x[..., :-1], x[..., 1:, :] - x[..., :-1, :]


def likeness(got, want):
    """Absolute differences of pixels, of edges, and of the picture at a quarter of its size."""
    loss = F.l1_loss(got, want) + 0.5 * F.l1_loss(F.avg_pool2d(got, 4), F.avg_pool2d(want, 4))
    for a, b in zip(edges(got), edges(want)):
        loss = loss + 0.7 * F.l1_loss(a, b)
    return loss


def train(args):
    torch.manual_seed(1)
    rng = np.random.default_rng()
    encoder, decoder = (part.to(args.device, memory_format=torch.channels_last) for part in model.autoencoder())
    average = torch.nn.ModuleList([Average(encoder), Average(decoder)]).to(args.device)
    weights = [*encoder.parameters(), *decoder.parameters()]
    best = torch.optim.AdamW(weights, lr=args.rate, betas=(0.9, 0.99), weight_decay=0.0, fused=True)
    run = Run(args, "vae", {"encoder": encoder, "decoder": decoder, "best": best, "average": average})
    scenes, crop = Scenes(args.cache), args.crop
    going = True
    while going:
        if run.step % 400 == 399:
            scenes = Scenes(args.cache)          # rendering may still go on
        batch = []
        for _ in range(args.batch):
            pair = scenes.pair(rng.integers(len(scenes)))[int(rng.uniform() < 0.75)]
            half = rng.uniform() < 0.35          # some at half size, as training at 128 pixels sees them
            if half:
                pair = pair.reshape(128, 2, 128, 2, 3).mean((1, 3)).astype(np.uint8)
            y, x = rng.integers(0, (pair.shape[0] - crop) // 8 + 1, 2) * 8
            piece = pair[y:y + crop, x:x + crop]
            batch.append(piece[:, ::-1] if rng.uniform() < 0.5 else piece)
        want = pixels(np.stack(batch), args.device).contiguous(memory_format=torch.channels_last)
        mean, spread = encoder(want).chunk(2, 1)
        noisy = mean + torch.randn_like(mean) * (spread.exp() + 0.06 ** 2).sqrt()
        got = decoder(noisy)
        near = likeness(got, want)
        loss = near + 1e-3 * (mean.square() + spread.exp() - spread).mean()
        for group in best.param_groups:
            group["lr"] = run.rate()
        best.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        best.step()
        average[0].follow(encoder)
        average[1].follow(decoder)
        going = run.after(loss=loss, l1=F.l1_loss(got.detach(), want), latent=mean.detach().std())
