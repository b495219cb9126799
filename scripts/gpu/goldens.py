#!/usr/bin/env python3
"""Asks a gate with the tiny model for the pictures that diffusers painted, from the same seeds.

    python goldens.py http://127.0.0.1:8787 tests/golden 4"""
import json
import pathlib
import struct
import sys

import numpy as np

from asking import apart, picture


def tensor(path, name):
    """One tensor of a safetensors file."""
    with open(path, "rb") as file:
        size, = struct.unpack("<Q", file.read(8))
        entry = json.loads(file.read(size))[name]
        begin, end = entry["data_offsets"]
        file.seek(8 + size + begin)
        kind = {"U8": np.uint8, "F32": np.float32}[entry["dtype"]]
        return np.frombuffer(file.read(end - begin), kind).reshape(entry["shape"])


def main(gate, folder, most):
    folder, bad = pathlib.Path(folder), 0
    for case in json.loads((folder / "golden.json").read_text())["cases"]:
        name = case["name"]
        if isinstance(case["prompts"], list):
            continue  # its noise was drawn for both pictures at once, which separate requests never do
        image, want = (tensor(folder / "golden.safetensors", f"case.{name}.{what}") for what in ("image_u8", "output_u8"))
        got = picture(gate, image.reshape(image.shape[-3:]), prompt=case["prompts"], seed=case["seed"], strength=case["strength"],
                      num_inference_steps=case["steps"], guidance_scale=case["guidance_scale"])
        largest, root = apart(got, want.reshape(want.shape[-3:]))
        print(f"{name}: off by {largest:.0f} levels at most, {root:.3f} in the root of the mean square; {most} allowed")
        bad += largest > float(most)
    sys.exit(f"{bad} pictures are off" if bad else 0)


if __name__ == "__main__":
    main(*sys.argv[1:4])
