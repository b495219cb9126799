"""Stage 2: text encoder and UNet as one consistency function, trained directly.

Scenes are pairs, so no teacher is needed: from the noised latents of a doodle at any timestep of the schedule the UNet gives the
latents of the finished picture, and from noised latents of its own first answer the same ones again. Two numbers of a request
bend the target, so that its sliders mean something: the strength (by the timestep at which the run starts) decides how far the
picture moves from the doodle to the painting, and the guidance scale how far along that way beyond or short of the painting."""
import pathlib
import time

import numpy as np
import torch
from torch import nn

import model
import tokenizer
from critic import Critic, blame, lesson
from stage import Average, Run, Scenes, average_of, pixels


def way(start):
    """How much of the way from doodle to picture a run goes that starts at this timestep."""
    return ((start + 1) / 600).clamp(0, 1)


def reach(guidance):
    """How far the guidance scale goes: 1 at 8, which is the painting itself."""
    return 1 + (guidance - 8) / 28


# Share of batches that show scenes twice, under the same noise: with a thing that is only said, and without it and its words. All that
# differs between the two are the words, so they have to be read.
TWICE = 0.6
# From this part of the stage on, the critic learns and then judges.
CRITIC = 0.15


class Student(nn.Module):
    """What is trained together."""

    def __init__(self, entries):
        super().__init__()
        self.text, self.unet = model.text_encoder(entries), model.unet()

    def forward(self, x, t, ids, guidance):
        return self.unet(x, t, self.text(input_ids=ids)[0], model.guidance_embedding(guidance).to(x.device))


class Latents:
    """Mean latents of scenes, doodle and picture, unscaled; encoded when first asked for, and shared by all workers."""

    def __init__(self, args):
        held = torch.load(pathlib.Path(args.checkpoints) / "vae.pt", map_location=args.device, weights_only=True)
        self.encoder, _ = model.autoencoder()
        self.encoder.load_state_dict(average_of(held["average"], "0."))
        self.encoder = self.encoder.to(args.device, memory_format=torch.channels_last).eval()
        self.scenes, self.device = Scenes(args.cache), args.device
        count = min(len(self.scenes), args.scenes or len(self.scenes))
        self.counts = {"small": count, "large": count if args.device == "cuda" or args.stage == "words" else -(-count // 2)}
        self.held = {kind: torch.zeros(n, 3, 4, side, side, dtype=torch.float16).share_memory_()
                     for (kind, n), side in zip(self.counts.items(), (16, 32))}
        self.known = {kind: torch.zeros(n, dtype=torch.bool).share_memory_() for kind, n in self.counts.items()}

    @torch.no_grad()
    def get(self, kind, index):
        """float32 (n, 3, 4, h, w); kind `small` is of pictures at half size."""
        new = [int(i) for i in index if not self.known[kind][i]]
        for at in range(0, len(new), 8):
            some = new[at:at + 8]
            x = pixels(np.stack([self.scenes.pair(i) for i in some]), self.device).contiguous(memory_format=torch.channels_last)
            z = self.encoder(torch.nn.functional.avg_pool2d(x, 2) if kind == "small" else x)[:, :4]
            self.held[kind][some] = z.reshape(-1, 3, *z.shape[1:]).half().cpu()
            self.known[kind][some] = True
        return self.held[kind][torch.as_tensor(index)].float().to(self.device)

    def spread(self):
        return float(self.get("small", np.arange(64))[:, :2].std())


class Batches:
    """Everything by lot that a step needs."""

    def __init__(self, args, words):
        self.args, self.latents = args, Latents(args)
        kept = pathlib.Path(args.checkpoints) / "scale.txt"
        goes_on = kept.exists() and (kept.parent / "lcm.pt").exists() and not args.fresh
        self.scale = float(kept.read_text()) if goes_on else model.SPREAD / self.latents.spread()
        reader = tokenizer.Tokenizer(words)
        facts = self.latents.scenes.facts
        self.ids = torch.tensor([[reader.ids(fact[name]) for name in ("caption", "without" if "without" in fact else "caption")] for fact in facts])
        self.lacking = np.flatnonzero(["without" in fact for fact in facts])
        self.rng = np.random.default_rng()

    def draw(self, large):
        """Scaled latents of doodles and of pictures, token ids, and whether each scene is there twice, side by side."""
        kind = "large" if large else "small" if self.rng.uniform() < 0.65 else "crop"
        count = max(2, self.args.batch // 3) if large else self.args.batch
        source = "small" if kind == "small" else "large"
        most = self.latents.counts[source]
        # What nobody drew has its place in the whole picture, which a crop can't tell.
        if kind != "crop" and self.rng.uniform() < TWICE:
            index = self.rng.choice(self.lacking[self.lacking < most], count // 2)
            z, ids = self.latents.get(source, index) * self.scale, self.ids[index]
            return z[:, 0].repeat_interleave(2, 0), z[:, 1:].flatten(0, 1), ids.flatten(0, 1).to(self.args.device), True
        index = self.rng.integers(most, size=count)
        z = self.latents.get(source, index) * self.scale
        which = 2 if kind == "crop" else 1
        if kind == "crop":
            y, x = self.rng.integers(0, 17, 2)
            z = z[..., y:y + 16, x:x + 16]
        return z[:, 0], z[:, which], self.ids[index, which - 1].to(self.args.device), False


def steps(rng, count, common=0.7):
    """Start and later timestep of each sample, all on the schedule's ladder; `common` of them start at strengths of 0.56 to 0.84."""
    first = np.where(rng.uniform(size=count) < common, rng.integers(28, 43, count), rng.integers(1, 51, count))
    later = np.maximum(1, (first * rng.uniform(0.1, 0.8, count)).astype(int))
    return torch.from_numpy(first * 20 - 1), torch.from_numpy(later * 20 - 1)


def difference(gap, edges):
    """Of latents in units of their spread; `edges` weighs how much neighbours must differ alike."""
    return (gap.square() + 0.0025).sqrt().mean() + edges * (gap.diff(dim=-1).abs().mean() + gap.diff(dim=-2).abs().mean())


def contrast(gap):
    """Of scenes that are there twice: how much more or less than the true pictures the two answers differ, where these do."""
    return 6 * (gap[::2] - gap[1::2]).abs().mean()


def work(worker, args, student, critic, batches, average):
    """One worker's steps. Several workers change the same weights without waiting for each other; the first one keeps the books."""
    torch.manual_seed(time.time_ns() + worker)
    batches.rng = np.random.default_rng()
    weights = list(student.parameters())
    best = torch.optim.AdamW(weights, lr=args.rate, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
    sharpest = torch.optim.AdamW(critic.parameters(), lr=args.rate, betas=(0.5, 0.99), weight_decay=0.01, fused=True)
    parts = {"student": student, "average": average, "best": best, "critic": critic, "sharpest": sharpest}
    run = Run(args, "lcm", parts if worker == 0 else {}, silent=worker > 0)
    alphas = model.alphas_cumprod().to(args.device)

    def noised(z, t, twice=False):
        a = alphas[t].view(-1, 1, 1, 1)
        noise = torch.randn_like(z[::2]).repeat_interleave(2, 0) if twice else torch.randn_like(z)
        return a.sqrt() * z + (1 - a).sqrt() * noise
    going = True
    while going:
        part = run.part()
        doodle, picture, ids, twice = batches.draw(part > 0.4 and batches.rng.uniform() < args.large)
        count = len(doodle)
        first, later = (t.to(args.device) for t in steps(batches.rng, count))
        guidance = torch.where(torch.rand(count) < 0.5, 8.0, torch.rand(count) * 15 + 1)
        if twice:
            first, later, guidance = (x[::2].repeat_interleave(2) for x in (first, later, guidance))
        pull = (way(first) * reach(guidance).to(args.device)).view(-1, 1, 1, 1)
        want = doodle + pull * (picture - doodle)
        begun = noised(doodle, first, twice)
        # Of the rest, which begins at its own, or a true, first answer, the noise may differ.
        again = slice(count * 5 // 8, count)
        if twice:
            again = slice(count if batches.rng.uniform() < 0.7 else 0, count)
        answer = want[again]
        if part > 0.35 and again.start < count and batches.rng.uniform() < 0.6:
            with torch.no_grad():
                answer = student(begun[again], first[again], ids[again], guidance[again])
        x, t = begun.clone(), first.clone()
        x[again], t[again] = noised(answer, later[again]), later[again]
        out = student(x, t, ids, guidance)
        judged, case = out.detach().requires_grad_(), (doodle, want, pull, ids)
        gap = (judged - want) / model.SPREAD
        # The critic learns for a while before it is heard, and is then heard as loudly as the differences.
        heard = min(1.0, max(0.0, (part - CRITIC - 0.01) / 0.05))
        loss = difference(gap, 0.5 - 0.4 * heard) + (contrast(gap) if twice else 0.0)
        push, = torch.autograd.grad(loss, judged)
        if heard:
            blamed, = torch.autograd.grad(blame(critic, case, judged), judged)
            push = push + heard * blamed * (push.norm() / (blamed.norm() + 1e-9))
        for some in (best, sharpest):
            some.zero_grad()
            for group in some.param_groups:
                group["lr"] = run.rate()
        out.backward(push)
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        best.step()
        learnt = torch.zeros(())
        if part > CRITIC:
            learnt = lesson(critic, case, judged.detach())
            learnt.backward()
            sharpest.step()
        if worker == 0:
            average.follow(student)
        fresh = slice(0, max(1, again.start))
        error = gap.detach()[fresh].abs().mean() / ((want - doodle)[fresh].abs().mean() / model.SPREAD)
        going = run.after(loss=loss, relative=error, critic=learnt)


def train(args):
    torch.manual_seed(2)
    words = pathlib.Path(args.checkpoints) / "tokenizer"
    entries = tokenizer.write(words)
    student = Student(entries).to(args.device).to(memory_format=torch.channels_last)
    critic = Critic(entries).to(args.device)
    average, batches = Average(student).to(args.device), Batches(args, words)
    (pathlib.Path(args.checkpoints) / "scale.txt").write_text(repr(batches.scale))
    if args.workers == 1:
        return work(0, args, student, critic, batches, average)
    student.share_memory()
    critic.share_memory()
    workers = [torch.multiprocessing.get_context("fork").Process(target=work, args=(i, args, student, critic, batches, average)) for i in range(args.workers)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
