#!/usr/bin/env python3
"""Carries large ONNX graphs without their weights, and fills them with seeded random values elsewhere.

    python skeleton.py strip FULL/unet/model.onnx sd15/unet.onnx     structure alone, some hundred kB
    python skeleton.py fill sd15 TOKENIZER FOLDER                    a whole model folder, both variants of the autoencoder

Speed does not depend on the values. They are scaled by what a weight is used for, so that what passes through stays within
half precision. Needs onnx and numpy alone."""
import json
import pathlib
import shutil
import sys

import numpy as np
import onnx
from onnx import TensorProto as TP

BYTES = {TP.FLOAT: 4, TP.FLOAT16: 2}
# Operators of which an input is the factor of a normalisation, about 1.
FACTOR = {"GroupNorm": 1, "SkipGroupNorm": 1, "LayerNormalization": 1, "SkipLayerNormalization": 2, "GroupNormalization": 1}
ALIGNED = 4096
SMALL = 256  # values; smaller tensors are constants of the graph and stay
UNET = {"_class_name": "UNet2DConditionModel", "in_channels": 4, "cross_attention_dim": 768, "time_cond_proj_dim": 256,
        "block_out_channels": [320, 640, 1280, 1280]}
VAE = {"_class_name": "AutoencoderKL", "block_out_channels": [128, 256, 512, 512], "scaling_factor": 0.18215}
TINY = {"_class_name": "AutoencoderTiny", "encoder_block_out_channels": [64, 64, 64, 64], "scaling_factor": 1.0}
SCHEDULE = {"_class_name": "LCMScheduler", "num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012,
            "beta_schedule": "scaled_linear", "prediction_type": "epsilon", "original_inference_steps": 50, "timestep_scaling": 10.0}


def count(tensor):
    return int(np.prod(tensor.dims))


def role(tensor, node, index):
    """What a weight is used for: that decides its fan-in."""
    if node is None:
        return "vector"
    if FACTOR.get(node.op_type) == index:
        return "factor"
    if node.op_type == "NhwcConv" and len(tensor.dims) == 4:
        return "out first"
    if node.op_type in ("Conv", "ConvTranspose") and len(tensor.dims) == 4:
        return "out first"
    if node.op_type == "Gather":
        return "table"
    if node.op_type == "Gemm" and any(a.name == "transB" and a.i for a in node.attribute):
        return "out first"
    return "in first" if len(tensor.dims) >= 2 and tensor.dims[0] > 1 and count(tensor) > tensor.dims[0] else "vector"


def strip(source, target):
    proto = onnx.load(source, load_external_data=False)
    uses, at = {}, 0
    for node in proto.graph.node:
        for index, name in enumerate(node.input):
            uses.setdefault(name, (node, index))
    for tensor in proto.graph.initializer:
        if tensor.data_type not in BYTES or count(tensor) < SMALL:
            if tensor.data_location == TP.EXTERNAL:
                onnx.external_data_helper.load_external_data_for_tensor(tensor, str(pathlib.Path(source).parent))
                tensor.data_location = TP.DEFAULT
            continue
        size = count(tensor) * BYTES[tensor.data_type]
        tensor.doc_string = role(tensor, *uses.get(tensor.name, (None, 0)))
        for field in ("raw_data", "float_data", "int32_data", "external_data"):
            tensor.ClearField(field)
        tensor.data_location = TP.EXTERNAL
        for key, value in (("location", "model.onnx_data"), ("offset", at), ("length", size)):
            tensor.external_data.add(key=key, value=str(value))
        at += -(-size // ALIGNED) * ALIGNED
    shorten(proto.graph)
    pathlib.Path(target).write_bytes(proto.SerializeToString())
    print(f"{target}: {pathlib.Path(target).stat().st_size} bytes, without {at / 1e6:.1f} MB of weights")


def shorten(graph):
    """Counters in place of the exporter's long names."""
    keep, short = {value.name for value in [*graph.input, *graph.output]} | {""}, {}

    def rename(name):
        return name if name in keep else short.setdefault(name, format(len(short), "x"))
    for tensor in graph.initializer:
        tensor.name = rename(tensor.name)
    for index, node in enumerate(graph.node):
        node.input[:], node.output[:] = [rename(name) for name in node.input], [rename(name) for name in node.output]
        node.name, node.doc_string = f"n{index}", ""
    del graph.value_info[:]


def values(tensor, pool, rng):
    """Seeded values of the right spread, cut out of a pool of normal ones."""
    number, kind = count(tensor), tensor.doc_string
    start = int(rng.integers(0, pool.size))
    drawn = np.resize(np.roll(pool, -start), number) if number > pool.size - start else pool[start:start + number]
    fan = {"out first": int(np.prod(tensor.dims[1:])), "in first": tensor.dims[-2] if len(tensor.dims) > 1 else 1}.get(kind, 1)
    drawn = {"factor": 1 + 0.05 * drawn, "vector": 0.05 * drawn, "table": 0.5 * drawn}.get(kind, drawn / np.sqrt(max(fan, 1)))
    return drawn.astype(np.float16 if tensor.data_type == TP.FLOAT16 else np.float32)


def fill_graph(source, target, seed=1):
    """Writes the graph with its weights beside it; graphs that have theirs inside are copied."""
    proto = onnx.load(str(source), load_external_data=False)
    target.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    pool = rng.standard_normal(1 << 24, dtype=np.float32)
    with open(target.parent / "weights", "wb") as file:
        for tensor in proto.graph.initializer:
            if tensor.data_location != TP.EXTERNAL:
                continue
            places = {entry.key: entry for entry in tensor.external_data}
            places["location"].value = "model.onnx_data"
            file.seek(int(places["offset"].value))
            file.write(values(tensor, pool, rng).tobytes())
            tensor.doc_string = ""
    (target.parent / "weights").rename(target.parent / "model.onnx_data")
    target.write_bytes(proto.SerializeToString())


def write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1))


def fill(skeletons, tokenizer, target):
    """`full` and `taesd` below the target: two model folders that share all but the autoencoder."""
    skeletons, target = pathlib.Path(skeletons), pathlib.Path(target)
    for variant, vae, names in (("full", VAE, "vae"), ("taesd", TINY, "taesd")):
        folder = target / variant
        for half in ("encoder", "decoder"):
            fill_graph(skeletons / f"{names}_{half}.onnx", folder / f"vae_{half}/model.onnx")
            write_json(folder / f"vae_{half}/config.json", vae)
        write_json(folder / "unet/config.json", UNET)
        write_json(folder / "text_encoder/config.json", {"hidden_size": 768, "max_position_embeddings": 77})
        write_json(folder / "scheduler/scheduler_config.json", SCHEDULE)
        shutil.copytree(tokenizer, folder / "tokenizer", dirs_exist_ok=True)
    for part in ("text_encoder", "unet"):
        fill_graph(skeletons / f"{part}.onnx", target / "full" / part / "model.onnx")
        for file in ("model.onnx", "model.onnx_data"):
            (target / "taesd" / part).mkdir(exist_ok=True)
            (target / "taesd" / part / file).hardlink_to(target / "full" / part / file)
    print("filled", *sorted(str(path.relative_to(target)) for path in target.glob("*/*/model.onnx")))


if __name__ == "__main__":
    {"strip": strip, "fill": fill}[sys.argv[1]](*sys.argv[2:])
