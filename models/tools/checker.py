"""The safety checker of a model: CLIP's picture encoder and a list of concepts, to a graph that judges and nothing else.

It stays in single precision in every variant: where half precision overflows, the comparison with a threshold is false, and a picture
passes that nobody has judged."""
import json
import pathlib
import shutil

import numpy as np
import onnx

import graphs
from progress import Refusal

PART, PREPARATION = "safety_checker", "feature_extractor"
ROWS = 8
SEED = 5
SETTINGS = "preprocessor_config.json"


def place_of(source, options):
    """The folder with the checker: what --safety-checker says, or the source's own; None without one."""
    said = options.safety_checker
    if said == "none":
        return None
    if said and not pathlib.Path(said).is_dir():
        raise Refusal(f"{said} does not exist: --safety-checker names the folder of a StableDiffusionSafetyChecker, or none")
    own = pathlib.Path(source) / PART
    return pathlib.Path(said) if said else own if own.is_dir() and any(own.iterdir()) else None


def side_said(folder):
    """The side of what a folder's checker sees."""
    import sources
    crop = sources.read_json(folder / PREPARATION / SETTINGS).get("crop_size", 224)
    return crop["height"] if isinstance(crop, dict) else crop


def weights(place):
    """The files that the checker comes from."""
    return [path.name for path in place.iterdir() if path.suffix == ".safetensors" or path.name.startswith("model.onnx")]


def load(place):
    """The checker of a diffusers folder in torch."""
    import sources
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    kinds = sources.read_json(place / "config.json").get("architectures") or ["none"]
    if kinds != ["StableDiffusionSafetyChecker"]:
        raise Refusal(f"{place} holds {kinds[0]}, no StableDiffusionSafetyChecker: leave it out with --safety-checker none")
    if not list(place.glob("*.safetensors")):
        raise Refusal(f"{place} has no .safetensors, and other weights can run code: fetch them, or leave the checker out with "
                      "--safety-checker none")
    return sources.load_part(StableDiffusionSafetyChecker, place)


def scores(module, clip_input):
    """How far the nearest concept is beyond its threshold, a picture; above zero it is flagged. As the class's own export computes it."""
    from torch.nn.functional import normalize

    def near(embeds):
        return normalize(found) @ normalize(embeds).t()
    found = module.visual_projection(module.vision_model(clip_input)[1])
    special = (near(module.special_care_embeds) - module.special_care_embeds_weights > 0).any(dim=1, keepdim=True)
    return (near(module.concept_embeds) - module.concept_embeds_weights + 0.01 * special.to(found.dtype)).amax(dim=1)


def verdicts(module, clip_input):
    found = scores(module, clip_input)
    return found > 0, found


def side_of(module):
    return module.config.vision_config.image_size


def export(module):
    """The graph: prepared pictures to verdicts, and to the scores behind them, which the engine does not read."""
    import torch

    import export as exporter
    module.vision_model.set_attn_implementation("eager")
    dummy = torch.randn(2, 3, side_of(module), side_of(module))
    rows = exporter.ROWS
    return exporter.graph(exporter.Call(module, verdicts), (dummy,), {"clip_input": rows}, {"has_nsfw_concepts": rows, "scores": rows})


def judging(proto):
    """A published graph without the pictures that it would blacken: those go wrong for more than one picture, and the engine blackens."""
    graph = proto.graph
    verdict = [value for value in graph.output if value.type.tensor_type.elem_type == onnx.TensorProto.BOOL]
    if len(verdict) != 1:
        raise Refusal(f"{PART} gives {', '.join(value.name for value in graph.output)}: that is no safety checker; leave it out with "
                      "--safety-checker none")
    del graph.output[:]
    graph.output.extend(verdict)
    needed, kept = {verdict[0].name}, []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            kept.append(node)
    del graph.node[:]
    graph.node.extend(reversed(kept))
    weights = [tensor for tensor in graph.initializer if tensor.name in needed]
    inputs = [value for value in graph.input if value.name in needed]
    for field, values in ((graph.initializer, weights), (graph.input, inputs)):
        del field[:]
        field.extend(values)
    pictures = graphs.ports(proto)["inputs"]
    if len(pictures) != 1 or len(pictures[0]["shape"]) != 4:
        raise Refusal(f"{PART} wants {', '.join(port['name'] for port in pictures)}: that is no safety checker")
    graphs.rename_value(proto, pictures[0]["name"], "clip_input")
    graphs.rename_value(proto, verdict[0].name, "has_nsfw_concepts")
    return graphs.named_batch(proto)


def prepared(side):
    """Random pictures as the checker sees them: of all brightnesses, so that some scores are far from others."""
    rng = np.random.default_rng(SEED)
    bright = np.linspace(-1.8, 1.8, ROWS)[:, None, None, None]
    return (bright + 0.3 * rng.standard_normal((ROWS, 3, side, side))).astype(np.float32)


def session(proto):
    import onnxruntime
    return onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])


def compare(module, path):
    """The written graph against torch."""
    import torch

    import check
    pictures = prepared(side_of(module))
    with torch.no_grad():
        want = scores(module, torch.from_numpy(pictures)).numpy()
    flags, got = check.Session(path).run_graph.run(["has_nsfw_concepts", "scores"], {"clip_input": pictures})
    found = [check.record(f"{PART} on {ROWS} random rows", check.deviation(got, want), check.SINGLE, "of the output's spread")]
    return [*found, same_verdicts(flags, got > 0)]


def compare_published(before, path):
    """The written graph against the published one, picture by picture."""
    import check
    rewritten = check.Session(path)
    pictures = prepared(side_said(path.parent.parent))
    run, want = session(before), []
    names = [value.name for value in run.get_inputs()]
    clip = next(name for name in names if name in ("clip_input", "pixel_values") or len(names) == 1)
    kinds = {value.name: np.float16 if "float16" in value.type else np.float32 for value in run.get_inputs()}
    output = next(value.name for value in run.get_outputs() if value.type == "tensor(bool)")
    for picture in pictures:
        feeds = {name: picture[None] if name == clip else np.zeros((1, 8, 8, 3)) for name in names}
        want.append(run.run([output], {name: value.astype(kinds[name]) for name, value in feeds.items()})[0])
    got = rewritten.run_graph.run(["has_nsfw_concepts"], {"clip_input": pictures})[0]
    return [same_verdicts(got, np.concatenate(want))]


def same_verdicts(got, want):
    import check
    return check.record(f"verdicts of {PART} on {ROWS} random rows", float((got != want).sum()), 0, "verdicts")


def settle(place, folder):
    """The settings beside the graph: how pictures are prepared, and that there is a checker."""
    found = place.parent / PREPARATION / SETTINGS
    if found.is_file():
        (folder / PREPARATION).mkdir(exist_ok=True)
        shutil.copyfile(found, folder / PREPARATION / SETTINGS)
    if (place / "config.json").is_file():
        shutil.copyfile(place / "config.json", folder / PART / "config.json")
    index = json.loads((folder / "model_index.json").read_text())
    index.update({PREPARATION: ["transformers", "CLIPImageProcessor"], PART: ["stable_diffusion", "StableDiffusionSafetyChecker"],
                  "requires_safety_checker": True})
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
