"""Turns the exported model back into checkpoints, so that training can go on from the weights of the repository.

Exporting renames and turns weights around, but always alike: parts whose weights are all different numbers are exported too, and say
where each weight went. Optimisers and the critic start anew."""
import argparse
import json
import pathlib
import tempfile

import onnx
import torch
from onnx import numpy_helper

import export
import model
import tokenizer
from stage import Average
from train_lcm import Student


def tensors(path):
    return {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()).float() for t in onnx.load(str(path)).graph.initializer}


@torch.no_grad()
def read(module, told, kept):
    """Fills a module whose weights were exported to `told` with those of `kept`; returns how many it found."""
    found = 0
    marks = {}
    for name, value in told.items():
        marks.setdefault((value.numel(), round(float(value.double().sum()), 3)), []).append(name)
    for name, weight in module.named_parameters():
        half = weight.half().float()
        for at in marks.get((half.numel(), round(float(half.double().sum()), 3)), ()):
            # Matrices may be turned around, and factors of channels have two more axes.
            turned = not torch.equal(told[at].ravel(), half.ravel())
            if not turned or (half.dim() == 2 and torch.equal(told[at], half.T)):
                weight.copy_(kept[at].T if turned else kept[at].view_as(weight))
                found += 1
                break
        else:
            # What computing needs nothing of is not exported.
            print("not in the model:", name)
    return found


def main():
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("--model", default=".")
    ap.add_argument("--checkpoints", required=True)
    args = ap.parse_args()
    folder, kept = pathlib.Path(args.checkpoints), pathlib.Path(args.model)
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(7)
    student, (encoder, decoder) = Student(tokenizer.write(folder / "tokenizer")), model.autoencoder()
    parts = {"text_encoder": student.text, "unet": student.unet, "vae_encoder": encoder, "vae_decoder": decoder}
    for part in parts.values():
        for weight in part.parameters():
            # Numbers that half precision holds exactly, below 64 values too, which stay single.
            weight.data = (torch.randn_like(weight) * 0.02).half().float()
    scale = json.loads((kept / "vae_decoder/config.json").read_text())["scaling_factor"]
    with tempfile.TemporaryDirectory() as told:
        export.export(tuple(parts.values()), scale, pathlib.Path(told))
        for name, part in parts.items():
            graphs = [tensors(pathlib.Path(at) / name / "model.onnx") for at in (told, kept)]
            assert graphs[0].keys() == graphs[1].keys(), f"{name} was exported by another version"
            print(f"{name}: {read(part, *graphs)} of {len(list(part.parameters()))} weights")
    (folder / "scale.txt").write_text(repr(scale))
    torch.save({"average": torch.nn.ModuleList([Average(encoder), Average(decoder)]).state_dict(), "encoder": encoder.state_dict(),
                "decoder": decoder.state_dict(), "step": 0, "spent": 0.0}, folder / "vae.pt")
    torch.save({"average": Average(student).state_dict(), "student": student.state_dict(), "step": 0, "spent": 0.0}, folder / "lcm.pt")
    export.parity((student.text, student.unet, encoder, decoder), kept)


if __name__ == "__main__":
    main()
