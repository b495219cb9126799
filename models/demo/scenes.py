"""Painted scenes by number: the doodle, the picture it becomes, and the words for it. The same number gives the same scene."""
import argparse

import numpy as np
from PIL import Image

import style
from doodle import doodle
from paint import paint
from plan import WORDS, plan

TRAIN_SEED, TEST_SEED = 20261123, 424242


def scene(index, side=256, seed=TRAIN_SEED, **fixed):
    """(doodle, picture, plan); pictures are uint8 (side, side, 3)."""
    return shown(plan(seed, index, **fixed), side)


def shown(p, side):
    """(doodle, picture, plan) of a plan."""
    return byte(doodle(p, side)), byte(style.apply(p, paint(p, side))), p


def without(p, side):
    """The picture without what nobody drew, and the words for it."""
    less = dict(p, **{name: [] for name in p["left_out"]})
    phrases = {phrase.format(ground=ground) for name in p["left_out"] for phrase in WORDS[name] for ground in ("sea", "hills")}
    words = ", ".join(part for part in p["caption"].split(", ") if part not in phrases)
    return byte(style.apply(less, paint(less, side))), words


def byte(image):
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)


def main():
    ap = argparse.ArgumentParser(description="Write a sheet of scenes: doodles above their pictures.")
    ap.add_argument("--out", default="scenes.png")
    ap.add_argument("--first", type=int, default=0)
    ap.add_argument("--rows", type=int, default=4)
    ap.add_argument("--columns", type=int, default=6)
    ap.add_argument("--side", type=int, default=256)
    args = ap.parse_args()
    side, rows = args.side, []
    for r in range(args.rows):
        pairs = [scene(args.first + r * args.columns + i, side) for i in range(args.columns)]
        rows.append(np.concatenate([pair[0] for pair in pairs], 1))
        rows.append(np.concatenate([pair[1] for pair in pairs], 1))
        for pair in pairs:
            print(pair[2]["style"], "|", pair[2]["caption"])
    Image.fromarray(np.concatenate(rows)).save(args.out)


if __name__ == "__main__":
    main()
