"""Stage `words`: words for things that nobody drew. The consistency function goes on from stage `lcm` as its own teacher.

Differences and the critic of stage `lcm` teach light and styles, and next to nothing of what stands in the words alone: that is a small part
of few pictures. Here every scene is shown twice under the same noise, with words that name a thing and with words that do not. Without
them the answer shall stay what the teacher gives, brush strokes and all; with them it shall be the same picture and the thing in it,
which is the true painting's where the true paintings with and without it differ. So words are learnt and nothing else changes, and no
critic is needed.

What the text encoder says of such words after that is too faint to begin with. It is first taught to say each of them aloud, in a
direction of its own that the UNet's cross-attention is made deaf to; from there the UNet learns what to make of it."""
import copy
import pathlib
import time

import numpy as np
import torch

import model
import tokenizer
from plan import LEFT_OUT, WORDS
from stage import Average, Run, average_of
from train_lcm import Latents, Student, reach, steps, way

# How much the place of the thing counts: as much in all as the whole picture, this many times over.
HEED = 0.5
# How loud a thing is said, in units of the encoder's outputs.
LOUD = 2.5


def place(there, gone):
    """Where a thing stands, 0 to 1 (n, 1, h, w): where paintings with and without it differ."""
    return ((there - gone).abs().mean(1, keepdim=True) / (0.12 * model.SPREAD)).clamp(0, 1)


def said(caption):
    """Which things of `LEFT_OUT` a caption names, 0 or 1 each."""
    parts = caption.split(", ")
    return [float(any(phrase.format(ground=ground) in parts for phrase in WORDS[name] for ground in ("sea", "hills"))) for name in LEFT_OUT]


def speak_up(student, ids, things, minutes=2.0):
    """Teaches the text encoder directions for things, at the tokens that end a prompt and fill it up, and the UNet to ignore them.

    `ids` are token ids (n, 77), `things` what is named (n, things). The directions are those in which outputs differ least so far."""
    text, end = student.text, int(ids.max())
    best = torch.optim.AdamW(text.parameters(), lr=2e-3, weight_decay=0.0)
    with torch.no_grad():
        before = torch.cat([text(input_ids=some)[0] for some in ids.split(64)])
    after_end = (ids == end).float()[..., None]
    spoken = before[(ids == end)]
    _, _, turned = torch.linalg.svd(spoken[torch.randperm(len(spoken))[:20000]] - spoken.mean(0), full_matrices=True)
    ways = turned[-things.shape[1]:]
    with torch.no_grad():
        for name, weight in student.unet.named_parameters():
            if name.endswith(("attn2.to_k.weight", "attn2.to_v.weight")):
                weight.sub_(weight @ ways.T @ ways)
    want = before + LOUD * after_end * (things @ ways)[:, None]
    begin = time.time()
    while (part := (time.time() - begin) / (60 * minutes)) < 1:
        some = torch.randint(len(ids), (48,))
        gap = text(input_ids=ids[some])[0] - want[some]
        loss = gap.square().mean() + 4 * (gap * after_end[some] @ ways.T).square().mean()
        best.zero_grad()
        loss.backward()
        for group in best.param_groups:
            group["lr"] = 2e-3 * (1.02 - part)
        best.step()
    with torch.no_grad():
        some = torch.randint(len(ids), (256,))
        heard = ((text(input_ids=ids[some])[0] * after_end[some]) @ ways.T).sum(1) / after_end[some].sum(1) / LOUD
        heard = heard - (before[some] * after_end[some] @ ways.T).sum(1) / after_end[some].sum(1) / LOUD
        named = things[some] > 0.5
        print(f"words: things are said by {heard[named].mean():.2f} where they are named, {heard[~named].mean():.2f} where not; "
              f"{gap.square().mean():.4f} of the outputs changed otherwise", flush=True)


class Batches:
    def __init__(self, args, words):
        self.args, self.latents = args, Latents(args)
        self.scale = float((pathlib.Path(args.checkpoints) / "scale.txt").read_text())
        reader, facts = tokenizer.Tokenizer(words), self.latents.scenes.facts
        captions = [[fact[name] for name in ("caption", "without")] for fact in facts]
        self.ids = torch.tensor([[reader.ids(caption) for caption in both] for both in captions])
        self.things = torch.tensor([[said(caption) for caption in both] for both in captions])
        self.rng = np.random.default_rng()

    def draw(self, large):
        """Scaled latents of doodles, pictures and pictures without the thing, and token ids of both."""
        kind, count = ("large", max(2, self.args.batch // 2)) if large else ("small", self.args.batch)
        index = self.rng.integers(self.latents.counts[kind], size=count)
        z = self.latents.get(kind, index) * self.scale
        return z[:, 0], z[:, 1], z[:, 2], self.ids[index].to(self.args.device)


def work(worker, args, student, teacher, batches, average):
    """One worker's steps, as in stage `lcm`. `args.tell` weighs that the answers with and without a word differ as the pictures do: both are
    given the same noise, so that what they miss alike, which is most, falls out."""
    torch.manual_seed(worker + 1000 * int(torch.randint(1 << 30, ())))
    batches.rng = np.random.default_rng()
    weights = list(student.parameters())
    # What reads learns faster than what paints, which knows its trade.
    reads = {id(weight) for name, weight in student.named_parameters() if ".attentions." in name}
    groups = [{"params": [w for w in weights if (id(w) in reads) == fast], "part": part} for fast, part in ((True, 1.0), (False, 0.5))]
    best = torch.optim.AdamW(groups, lr=args.rate, betas=(0.9, 0.99), weight_decay=0.0, fused=True)
    run = Run(args, "words", {"student": student, "average": average, "best": best} if worker == 0 else {}, silent=worker > 0)
    alphas = model.alphas_cumprod().to(args.device)

    def noised(z, t, noise):
        a = alphas[t].view(-1, 1, 1, 1)
        return a.sqrt() * z + (1 - a).sqrt() * noise
    going = True
    while going:
        doodle, there, gone, ids = batches.draw(batches.rng.uniform() < args.large * min(1.0, 0.4 + 2 * run.part()))
        first, later = (t.to(args.device) for t in steps(batches.rng, len(doodle), 0.85))
        guidance = torch.where(torch.rand(len(doodle)) < 0.6, 8.0, torch.rand(len(doodle)) * 15 + 1)
        pull = (way(first) * reach(guidance).to(args.device)).view(-1, 1, 1, 1)
        where, there, gone = place(there, gone), doodle + pull * (there - doodle), doodle + pull * (gone - doodle)

        @torch.no_grad()
        def shown(x, t):
            """What the answers shall be, without the thing and with it, for the input without it."""
            plain = teacher(x, t, ids[:, 1], guidance)
            return plain, plain + where * (there - plain)
        begun = noised(doodle, first, torch.randn_like(doodle))
        inputs, wanted, t = (begun, begun), shown(begun, first), first
        is_later = batches.rng.uniform() < 0.1
        if is_later:
            noise, t = torch.randn_like(doodle), later
            inputs = tuple(noised(answer, t, noise) for answer in wanted)
            wanted = shown(inputs[0], t)
        out = student(torch.cat(inputs), torch.cat([t, t]), torch.cat([ids[:, 1], ids[:, 0]]), torch.cat([guidance, guidance]))
        loss, seen = told(out.chunk(2), wanted, where * (there - gone) / model.SPREAD, where, args.tell)
        best.zero_grad()
        for group in best.param_groups:
            group["lr"] = run.rate() * group["part"]
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        best.step()
        if worker == 0:
            average.follow(student)
        going = run.after(loss=loss, **seen)


def rough(gap):
    """Absolute differences, rounded off where they are small."""
    return (gap.square() + 0.0025).sqrt() - 0.05


def told(outs, wanted, thing, where, tell):
    """What is lacking in answers without and with a word, `thing` being what the word adds `where` it stands; and numbers to watch."""
    without, there = ((out - want) / model.SPREAD for out, want in zip(outs, wanted))
    heed = 1 + HEED * where / (where.mean((2, 3), keepdim=True) + 0.01)
    unread = (where * (there - without).square()).sum((1, 2, 3)) / (thing.square().sum((1, 2, 3)) + 0.2)
    loss = (heed * (rough(without) + rough(there))).mean() / 2 + tell * unread.mean()
    return loss, {"unread": unread.mean(), "elsewhere": ((1 - where) * without.detach().abs()).mean()}


def train(args):
    torch.manual_seed(3)
    words = pathlib.Path(args.checkpoints) / "tokenizer"
    student = Student(tokenizer.write(words)).to(args.device)
    held = torch.load(pathlib.Path(args.checkpoints) / "lcm.pt", map_location=args.device, weights_only=True)["average"]
    student.load_state_dict(average_of(held, ""))
    student = student.to(memory_format=torch.channels_last)
    teacher = copy.deepcopy(student).eval().requires_grad_(False)
    batches = Batches(args, words)
    if args.fresh or not (pathlib.Path(args.checkpoints) / "words.pt").exists():
        speak_up(student, batches.ids.flatten(0, 1), batches.things.flatten(0, 1))
    average = Average(student).to(args.device)
    if args.workers == 1:
        return work(0, args, student, teacher, batches, average)
    student.share_memory()
    fork = torch.multiprocessing.get_context("fork")
    workers = [fork.Process(target=work, args=(i, args, student, teacher, batches, average)) for i in range(args.workers)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
