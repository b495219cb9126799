"""Renders scenes into shards of raw bytes, so that training reads instead of painting. Several workers may share a folder."""
import argparse
import json
import os
import pathlib

import numpy as np

from plan import lacking
from scenes import TRAIN_SEED, scene, shown, without

SHARD = 250


def shard(path, number, side, words):
    """Renders one shard: pictures (n, 3, side, side, 3), the doodle, the picture and the picture without what nobody drew, with
    the captions of both pictures and facts."""
    pictures, facts = np.empty((SHARD, 3, side, side, 3), np.uint8), []
    for i in range(SHARD):
        index = number * SHARD + i
        pictures[i, 0], pictures[i, 1], p = shown(lacking(TRAIN_SEED + 1, index), side) if words else scene(index, side)
        fact = {"caption": p["caption"], "time": p["time"], "style": p["style"]}
        if p["left_out"]:
            pictures[i, 2], fact["without"] = without(p, side)
        else:
            pictures[i, 2] = pictures[i, 1]
        facts.append(fact)
    temporary = path.with_suffix(f".{os.getpid()}.npy")
    np.save(temporary, pictures)
    path.with_suffix(".json").write_text(json.dumps(facts))
    temporary.rename(path)


def main():
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("--cache", required=True, help="a folder outside the repository; 150 MB a shard at 256 pixels")
    ap.add_argument("--scenes", type=int, default=8000)
    ap.add_argument("--side", type=int, default=256)
    ap.add_argument("--words", action="store_true", help="scenes for the stage words: each lacks something that is said")
    ap.add_argument("--worker", type=int, default=0)
    ap.add_argument("--workers", type=int, default=1)
    args = ap.parse_args()
    folder = pathlib.Path(args.cache)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(args.worker, -(-args.scenes // SHARD), args.workers):
        path = folder / f"scenes-{number:04d}.npy"
        if not path.exists():
            shard(path, number, args.side, args.words)
            print("wrote", path.name, flush=True)


if __name__ == "__main__":
    main()
