"""The manifest of a model folder: what is in it, where it came from, and how it was checked."""
import hashlib
import json
import pathlib
import re

import onnx

import graphs

FORMAT = "falgate-model/1"
PARTS = ("text_encoder", "vae_encoder", "unet", "vae_decoder")
CHECKER = "safety_checker"


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def hashes(folder, names=None):
    """{relative name: size and hash} of a folder's files."""
    folder = pathlib.Path(folder)
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "manifest.json")
    wanted = [path for path in paths if names is None or path.relative_to(folder).as_posix() in names]
    return {path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256(path)} for path in wanted}


def licence_of(folder, said):
    """What is known of the licence: what was said on the command line, or the front matter of a model card."""
    if said:
        return said
    card = pathlib.Path(folder) / "README.md"
    found = re.search(r"^license:\s*(\S.*)$", card.read_text(errors="replace")[:4096], re.M) if card.is_file() else None
    if found:
        return f"{found[1].strip()}, as the source's README.md says; read its terms before serving others"
    return "not known: the source does not say; look where you fetched it, and say it with --licence"


def part(folder, name):
    proto = onnx.load(str(folder / name / "model.onnx"), load_external_data=False)
    return {**graphs.ports(proto), "operators": graphs.vendor_operators(proto)}


def write(folder, facts, checks):
    """Writes manifest.json of a complete folder. `facts`: what is known of the whole; `checks`: what was compared."""
    folder = pathlib.Path(folder)
    names = [name for name in (*PARTS, CHECKER) if name != CHECKER or (folder / name / "model.onnx").is_file()]
    document = {"format": FORMAT, **facts, "parts": {name: part(folder, name) for name in names}, "checks": checks,
                "files": hashes(folder)}
    (folder / "manifest.json").write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
