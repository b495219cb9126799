"""The variant for ONNX Runtime's CUDA provider: attention, norms and activations fused, convolutions channels-last, half precision.

Takes single precision graphs with dynamic axes only: the fusions match nothing else. Works on any machine; Stable Diffusion 1.5's
UNet takes about 6 minutes and 18 GB of memory."""
import logging

import graphs
from progress import Refusal

KINDS = {"text_encoder": "clip", "unet": "unet", "vae_encoder": "vae", "vae_decoder": "vae"}


def timestep_table(graph):
    """Names of the nodes from `timestep` to the first matrix product, with their constants.

    They stay in single precision: the sinusoids' frequencies do not survive halving, and the error grows with the timestep."""
    seen, names, feeds = {"timestep"}, [], set()
    for node in graph.node:
        touched = seen.intersection(node.input)
        if touched and node.op_type in ("Gemm", "MatMul"):
            break
        if touched:
            names.append(node.name)
            seen.update(node.output)
            feeds.update(node.input)
    if not 4 < len(names) < 60:
        raise Refusal("the UNet's timestep embedding is not where it is in Stable Diffusion 1.5: it cannot be prepared for CUDA; "
                      "convert without --cuda")
    return names + [node.name for node in graph.node if node.op_type == "Constant" and node.output[0] in feeds]


def named_nodes(graph):
    """Published graphs may lack names, and the conversion spares nodes by their names."""
    for index, node in enumerate(graph.node):
        node.name = node.name or f"node_{index}"


def fuse(path, part):
    """The graph at `path`, rewritten; gives the new graph and how many of each fused operator it has."""
    from onnxruntime.transformers.fusion_options import FusionOptions
    from onnxruntime.transformers.optimizer import optimize_model
    kind = KINDS[part]
    logging.disable(logging.WARNING)
    try:
        model = optimize_model(graphs.load(path), model_type=kind, num_heads=0, hidden_size=0, opt_level=0,
                               optimization_options=FusionOptions(kind), use_gpu=True)
        keep, spare = [], None
        if part == "unet":
            named_nodes(model.model.graph)
            keep, spare = ["timestep"], timestep_table(model.model.graph)
        model.convert_float_to_float16(keep_io_types=keep, node_block_list=spare)
    finally:
        logging.disable(logging.NOTSET)
    counts = {}
    for node in model.model.graph.node:
        if node.domain:
            counts[node.op_type] = counts.get(node.op_type, 0) + 1
    return model.model, counts


def write(source, target, part):
    """Fuses one part of a single precision folder into another folder."""
    proto, counts = fuse(source / part / "model.onnx", part)
    graphs.save(proto, target / part / "model.onnx")
    return counts
