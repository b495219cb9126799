"""What the training stages share: the cache of scenes, checkpoints, pauses and progress."""
import json
import math
import pathlib
import time

import numpy as np
import torch


class Scenes:
    """The rendered shards of a cache folder, read where needed."""

    def __init__(self, folder, most=None):
        paths = sorted(pathlib.Path(folder).glob("scenes-????.npy"))[:most]
        assert paths, f"no scenes in {folder}: run cache.py first"
        self.shards = [np.load(path, mmap_mode="r") for path in paths]
        self.facts = [fact for path in paths for fact in json.loads(path.with_suffix(".json").read_text())]
        self.per = len(self.shards[0])

    def __len__(self):
        return self.per * len(self.shards)

    def pair(self, index):
        """(3, side, side, 3): the doodle, the picture, and the picture without what nobody drew."""
        return self.shards[index // self.per][index % self.per]


def pixels(array, device="cpu"):
    """uint8 (…, h, w, 3) to float (n, 3, h, w) in [-1, 1]."""
    x = torch.from_numpy(np.ascontiguousarray(array)).to(device)
    return x.reshape(-1, *x.shape[-3:]).permute(0, 3, 1, 2).float() / 127.5 - 1


class Run:
    """A stage's clock: how far it is, at which learning rate, when to save, and whether to wait."""

    def __init__(self, args, name, state, silent=False):
        self.args, self.name, self.state, self.silent = args, name, state, silent
        self.path = pathlib.Path(args.checkpoints) / f"{name}.pt"
        self.step, self.spent, self.begin, self.saved, self.shown = 0, 0.0, time.time(), time.time(), time.time()
        self.mean = {}
        if self.path.exists() and not args.fresh:
            held = torch.load(self.path, map_location=args.device, weights_only=True)
            for key in state.keys() & held.keys():
                state[key].load_state_dict(held[key])
            self.step, self.spent = held["step"], held["spent"]
            silent or print(f"{name}: goes on at step {self.step}, {self.spent / 60:.1f} min", flush=True)

    def seconds(self):
        return self.spent + time.time() - self.begin

    def part(self):
        """0 at the beginning, 1 at the end: of the minutes, or of the steps if they are given."""
        by_step = self.step / self.args.steps if self.args.steps else 0
        return min(1.0, max(by_step, self.seconds() / (60 * self.args.minutes)))

    def rate(self):
        warm = min(1.0, (self.step + 1) / 100)
        return warm * self.args.rate * (0.03 + 0.97 * (0.5 + 0.5 * math.cos(math.pi * self.part())))

    def save(self):
        if self.silent:
            return
        held = {key: part.state_dict() for key, part in self.state.items()}
        temporary = self.path.with_suffix(".new")
        torch.save({**held, "step": self.step, "spent": self.seconds()}, temporary)
        temporary.rename(self.path)
        self.saved = time.time()

    def after(self, **losses):
        """Counts a step; False when the stage is over."""
        self.step += 1
        for key, value in losses.items():
            self.mean[key] = 0.98 * self.mean.get(key, float(value.detach())) + 0.02 * float(value.detach())
        now = time.time()
        if now - self.shown > 20 and not self.silent:
            self.shown = now
            text = "  ".join(f"{key} {value:.4f}" for key, value in self.mean.items())
            bar = "#" * int(20 * self.part())
            print(f"{self.name} [{bar:<20}] step {self.step}  {self.seconds() / 60:.1f} min  rate {self.rate():.1e}  {text}", flush=True)
        if now - self.saved > 150:
            self.save()
        if self.args.pause and pathlib.Path(self.args.pause).exists():
            self.save()
            self.spent = self.seconds()
            while pathlib.Path(self.args.pause).exists():
                time.sleep(2)
            self.begin = time.time()
        if self.part() >= 1:
            self.save()
            return False
        return True


class Average(torch.nn.Module):
    """A slow copy of a module: what is exported."""

    def __init__(self, module, keep=0.998):
        super().__init__()
        self.keep, self.seen = keep, 0
        for name, value in module.state_dict().items():
            self.register_buffer(name.replace(".", "__"), value.detach().clone())

    @torch.no_grad()
    def follow(self, module):
        self.seen += 1
        keep = min(self.keep, 1 - 1 / (1 + self.seen / 10))
        mine, theirs = [], []
        for (_, a), b in zip(self.named_buffers(), module.state_dict().values()):
            if a.is_floating_point():
                mine.append(a)
                theirs.append(b.detach())
        torch._foreach_lerp_(mine, theirs, 1 - keep)

    def weights(self):
        return {name.replace("__", "."): value for name, value in self.named_buffers()}


def average_of(held, prefix):
    """Weights of a slow copy in a checkpoint."""
    return {k[len(prefix):].replace("__", "."): v for k, v in held.items() if k.startswith(prefix)}
