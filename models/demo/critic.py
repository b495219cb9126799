"""What judges the UNet's answers in stage 2: patch by patch, given the doodle and the words, a true picture's latents or not?

Latents that differences alone are trained on come out vague wherever a painting could as well have been another one, in brush strokes
above all. Isola et al. 2017 add a judge of patches to the differences, Reed et al. 2016 show it true pictures under wrong words, and
Sauer et al. 2024 let it look at noised latents; answers and truths are compared in pairs (Jolicoeur-Martineau 2018)."""
import torch
from torch import nn
from torch.nn.functional import leaky_relu, softplus

import model


class Critic(nn.Module):
    def __init__(self, entries, width=48):
        super().__init__()
        self.words = nn.EmbeddingBag(entries, width, mode="mean", padding_idx=entries - 1)
        self.convs = nn.ModuleList([nn.Conv2d(9, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1),
                                    nn.Conv2d(width, 2 * width, 4, stride=2, padding=1), nn.Conv2d(2 * width, 2 * width, 3, padding=1)])
        self.turns = nn.ModuleList([nn.Linear(width, 2 * conv.out_channels) for conv in self.convs])
        self.match = nn.ModuleList([nn.Linear(width, width), nn.Linear(width, 2 * width)])
        self.marks = nn.ModuleList([nn.Conv2d(width, 1, 1), nn.Conv2d(2 * width, 1, 1)])

    def forward(self, doodle, picture, pull, ids):
        """A mark for each patch, at two sizes: (n, patches)."""
        said = self.words(ids)
        x = torch.cat([doodle, picture, pull.expand_as(doodle[:, :1])], 1)
        x = torch.cat([x[:, :8] / model.SPREAD, x[:, 8:]], 1)
        found = []
        for i, (conv, turn) in enumerate(zip(self.convs, self.turns)):
            scale, shift = turn(said)[:, :, None, None].chunk(2, 1)
            x = leaky_relu(conv(x) * (1 + scale) + shift, 0.2)
            if i % 2:
                fits = (self.match[i // 2](said)[:, :, None, None] * x).mean(1, keepdim=True)
                found.append((self.marks[i // 2](x) + fits).flatten(1))
        return torch.cat(found, 1)


def noised(z):
    return z + torch.rand(len(z), 1, 1, 1, device=z.device) * 0.25 * model.SPREAD * torch.randn_like(z)


def lesson(critic, case, answer):
    """What the critic has yet to learn from this batch; `case` is (doodle, truth, pull, ids)."""
    doodle, truth, pull, ids = case
    right, wrong = critic(doodle, noised(truth), pull, ids), critic(doodle, noised(answer), pull, ids)
    misnamed = critic(doodle, noised(truth), pull, ids.roll(1, 0))
    return softplus(wrong - right).mean() + 0.5 * softplus(misnamed - right).mean()


def blame(critic, case, answer):
    """How far the answer is from passing for true."""
    doodle, truth, pull, ids = case
    with torch.no_grad():
        right = critic(doodle, noised(truth), pull, ids)
    return softplus(right - critic(doodle, noised(answer), pull, ids)).mean()
