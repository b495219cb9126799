"""Published ONNX folders, whatever tool wrote them, to the one layout that falgate documents."""
import pathlib
import shutil

import onnx

import graphs
from manifest import PARTS, hashes, licence_of
from progress import Refusal
from sources import lcm_schedule, read_json, tokenizer_in

UNET_INPUTS = ("sample", "timestep", "encoder_hidden_states", "timestep_cond")


def ports_at(path):
    return graphs.ports(onnx.load(str(path), load_external_data=False))


def is_fused(folder, part):
    """Whether a part has operators that the CPU provider lacks."""
    return bool(graphs.vendor_operators(onnx.load(str(folder / part / "model.onnx"), load_external_data=False)))


def survey(path, options):
    """Where each part of a published folder is; refuses what cannot serve before anything large is read."""
    folders = {part: path / part for part in PARTS}
    for part in ("vae_encoder", "vae_decoder"):
        if options.taesd_onnx and not (folders[part] / "model.onnx").is_file():
            folders[part] = pathlib.Path(options.taesd_onnx) / part
    missing = [part for part, folder in folders.items() if not (folder / "model.onnx").is_file()]
    if missing == ["vae_encoder"]:
        raise Refusal(f"{path} has no vae_encoder, so it can draw from words alone, not from pictures: name a folder with vae_encoder and "
                      "vae_decoder of the same family by --taesd-onnx")
    if missing:
        raise Refusal(f"{path} lacks {', '.join(f'{part}/model.onnx' for part in missing)}: the download is not complete")
    check_unet(ports_at(folders["unet"] / "model.onnx"))
    for part, folder in folders.items():
        first = ports_at(folder / "model.onnx")["inputs"][0]
        if any(isinstance(dim, int) for dim in [first["shape"][0], *first["shape"][2:]]):
            raise Refusal(f"{part} was exported for {first['shape']} alone: take an export with dynamic axes")
    return folders


def check_unet(ports):
    inputs = {port["name"]: port for port in ports["inputs"]}
    strangers = [name for name in inputs if name not in UNET_INPUTS]
    if strangers:
        family = ": that is an SDXL model" if {"text_embeds", "time_ids"} & set(strangers) else ""
        raise Refusal(f"the UNet wants {', '.join(strangers)} too{family}; falgate runs models of the Stable Diffusion 1.5 family")
    lacking = [name for name in UNET_INPUTS[:3] if name not in inputs]
    if lacking:
        raise Refusal(f"the UNet has no input {', '.join(lacking)}: this is no UNet of Stable Diffusion 1.5")
    if inputs["sample"]["shape"][1] != 4:
        raise Refusal(f"the UNet takes {inputs['sample']['shape'][1]} channels, not 4: inpainting models cannot serve here")
    if inputs["encoder_hidden_states"]["shape"][2] == 1024:
        raise Refusal("this is a model of the Stable Diffusion 2 family (SD-Turbo is one): falgate runs the 1.5 family")


def normal(part, proto):
    """The graph under the usual names, with one timestep a picture and its batch named."""
    graphs.named_batch(proto)
    ports = graphs.ports(proto)
    if part == "unet":
        graphs.timestep_a_picture(proto)
        graphs.rename_value(proto, ports["outputs"][0]["name"], "out_sample")
    elif part == "vae_encoder":
        graphs.rename_value(proto, ports["inputs"][0]["name"], "sample")
        channels = ports["outputs"][0]["shape"][1]
        graphs.rename_value(proto, ports["outputs"][0]["name"], "latent_parameters" if channels == 8 else "latent_sample")
    elif part == "vae_decoder":
        graphs.rename_value(proto, ports["inputs"][0]["name"], "latent_sample")
        graphs.rename_value(proto, ports["outputs"][0]["name"], "sample")
    return proto


def outputs_before(folders, inputs):
    """What the published graphs give, row by row: their timestep may be one for all rows."""
    import numpy as np
    from check import Session
    results = {}
    for part, folder in folders.items():
        session = Session(folder / "model.onnx")
        port = next((port for port in session.run_graph.get_inputs() if port.name == "timestep"), None)
        names = [port.name for port in session.run_graph.get_inputs()]
        rows = []
        for row in range(2):
            values = {name: value[row:row + 1] for name, value in zip(names, renamed(inputs[part], names), strict=True)}
            if port is not None and not port.shape:
                values["timestep"] = values["timestep"][0]
            rows.append(session.run(values))
        results[part] = np.concatenate(rows)
    return results


def renamed(values, names):
    """The same values in the order of other names: parts with one input may call it anything."""
    return [next(iter(values.values()))] if len(names) == 1 else [values[name] for name in names]


def draws_noise(folder):
    """Old exporters sample inside the encoder, which then gives another result each time."""
    proto = onnx.load(str(folder / "model.onnx"), load_external_data=False)
    return any(node.op_type.startswith("Random") for node in proto.graph.node)


def copy_settings(path, folders, target, scheduler):
    """Configuration and tokenizer, as every layout of falgate has them."""
    for part, folder in folders.items():
        if (folder / "config.json").is_file():
            (target / part).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / "config.json", target / part / "config.json")
    old = read_json(path / "vae/config.json")
    for part in ("vae_encoder", "vae_decoder"):
        if old and not (target / part / "config.json").exists():
            shutil.copyfile(path / "vae/config.json", target / part / "config.json")
    return tokenizer_in(path), lcm_schedule(scheduler)


def facts(path, folders, options):
    """What is written down of a published folder, and its schedule as it says it."""
    names = [f"{part}/{file.name}" for part in PARTS for file in (path / part).glob("*") if file.is_file() and file.suffix != ".json"]
    source = {"kind": "published ONNX folder", "name": path.resolve().name, "files": hashes(path, names)}
    return source, licence_of(path, options.licence), read_json(path / "scheduler/scheduler_config.json")
