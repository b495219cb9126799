"""Trains the demo model stage by stage; each goes on from its checkpoint. README.md has the order and the arguments."""
import argparse
import importlib
import os

import torch


def main():
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("stage", choices=("vae", "lcm", "words", "decoder"))
    ap.add_argument("--cache", required=True, help="folder of rendered scenes (cache.py)")
    ap.add_argument("--checkpoints", required=True, help="folder of checkpoints, outside the repository")
    ap.add_argument("--device", default="cpu", help="cpu or cuda")
    ap.add_argument("--threads", type=int, default=os.cpu_count())
    ap.add_argument("--minutes", type=float, default=60.0, help="length of the stage, over all its runs")
    ap.add_argument("--steps", type=int, default=0, help="length of the stage in steps, if that is reached first")
    ap.add_argument("--batch", type=int, default=16)
    ap.add_argument("--rate", type=float, default=1e-3, help="highest learning rate")
    ap.add_argument("--crop", type=int, default=64, help="vae, decoder: side of the crops")
    ap.add_argument("--large", type=float, default=0.0, help="lcm, words: share of batches at 256 pixels, 0 to 1")
    ap.add_argument("--scenes", type=int, default=0, help="lcm, words, decoder: how many scenes to use, 0 for all")
    ap.add_argument("--pool", type=int, default=160, help="decoder: how many answers of the UNet to learn from at a time")
    ap.add_argument("--tell", type=float, default=3.0, help="words: how much it counts that words for things are read")
    ap.add_argument("--workers", type=int, default=1, help="lcm, words on a CPU: processes that train the same weights, a thread each")
    ap.add_argument("--pause", default="", help="training waits while this file exists")
    ap.add_argument("--fresh", action="store_true", help="ignore the checkpoint")
    args = ap.parse_args()
    os.makedirs(args.checkpoints, exist_ok=True)
    torch.set_num_threads(args.threads)
    importlib.import_module({"vae": "train_vae", "lcm": "train_lcm", "words": "train_words", "decoder": "train_decoder"}[args.stage]).train(args)


if __name__ == "__main__":
    main()
