"""ONNX graphs: reading and writing them with their weights, and the rewrites that keep what they compute."""
import pathlib

import numpy as np
import onnx
from onnx import TensorProto as TP, helper, numpy_helper

from progress import Refusal

ELEMENTS = {TP.FLOAT: "float32", TP.FLOAT16: "float16", TP.INT64: "int64", TP.INT32: "int32", TP.DOUBLE: "float64", TP.BOOL: "bool"}
INSIDE_AT_MOST = 1 << 30  # bytes of weights that stay inside model.onnx; a graph of 2 GiB cannot be written


def tensors(proto):
    """Every tensor of a graph, those in attributes too."""
    yield from proto.graph.initializer
    for node in proto.graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t


def places_of(tensor):
    """Where a tensor's values lie, if they lie in another file."""
    return {entry.key: entry for entry in tensor.external_data} if tensor.data_location == TP.EXTERNAL else {}


def other_name(name):
    """optimum calls the weights of model.onnx model.onnx_data, ONNX Runtime's tools call them model.onnx.data."""
    return name.replace("onnx_data", "onnx.data") if name.endswith("onnx_data") else name.replace("onnx.data", "onnx_data")


def sidecar(path, name):
    """The file beside a graph that its weights are in, under the name that the graph says or the other usual one."""
    for found in (name, other_name(name)):
        if pathlib.PurePosixPath(found).name == found and (path.parent / found).is_file():
            return path.parent / found
    raise Refusal(f"{path} has its weights in {name}, which is not beside it: fetch that file too")


def load(path):
    """Reads a graph with its weights, wherever they lie: inside, in one file under either usual name, in many files.

    onnx's own reader is not used for the weights, because it refuses files with several names, and variants share theirs."""
    path = pathlib.Path(path)
    try:
        proto = onnx.load(str(path), load_external_data=False)
    except Exception as error:
        raise Refusal(f"{path} is cut off or no ONNX graph ({type(error).__name__}): fetch it again") from error
    for tensor in tensors(proto):
        places = places_of(tensor)
        if not places:
            continue
        file = sidecar(path, places["location"].value)
        with open(file, "rb") as data:
            data.seek(int(places["offset"].value) if "offset" in places else 0)
            size = int(places["length"].value) if "length" in places else -1
            tensor.raw_data = data.read(size)
        if size >= 0 and len(tensor.raw_data) != size:
            raise Refusal(f"the weights in {file} are cut off: fetch them again")
        tensor.ClearField("external_data")
        tensor.data_location = TP.DEFAULT
    return proto


def weight_bytes(proto):
    return sum(len(tensor.raw_data) or 4 * int(np.prod(tensor.dims)) for tensor in proto.graph.initializer)


def save(proto, path):
    """Writes a graph as model.onnx, with model.onnx_data beside it where it is large. The graph must not be used afterwards."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if weight_bytes(proto) <= INSIDE_AT_MOST:
        onnx.save_model(proto, str(path))
    else:
        onnx.save_model(proto, str(path), save_as_external_data=True, all_tensors_to_one_file=True,
                        location=path.name + "_data", size_threshold=1024)


def size(dim):
    return dim.dim_value if dim.HasField("dim_value") else dim.dim_param


def described(values):
    """Inputs or outputs as the manifest says them."""
    kinds = [(value.name, value.type.tensor_type) for value in values]
    return [{"name": name, "element": ELEMENTS.get(kind.elem_type, str(kind.elem_type)), "shape": [size(d) for d in kind.shape.dim]}
            for name, kind in kinds]


def ports(proto):
    weights = {tensor.name for tensor in proto.graph.initializer}  # old exporters list weights among the inputs
    inputs = [value for value in proto.graph.input if value.name not in weights]
    return {"inputs": described(inputs), "outputs": described(proto.graph.output)}


def vendor_operators(proto):
    """Operators that only some device has, as the optimisers for CUDA and DirectML write them."""
    return sorted({node.op_type for node in proto.graph.node if node.domain not in ("", "ai.onnx")})


def rename_value(proto, old, new):
    """Gives an input or output another name."""
    if old == new:
        return
    graph = proto.graph
    taken = {name for node in graph.node for name in [*node.input, *node.output]}
    moved = {new: new + "_inner"} if new in taken else {}
    moved[old] = new
    for value in [*graph.input, *graph.output]:
        value.name = moved.get(value.name, value.name)
    for node in graph.node:
        node.input[:] = [moved.get(name, name) for name in node.input]
        node.output[:] = [moved.get(name, name) for name in node.output]


def single_precision(proto):
    """Makes a half precision graph compute in single precision, which the CPU does faster. Weights keep their values."""
    graph = proto.graph
    for tensor in tensors(proto):
        if tensor.data_type == TP.FLOAT16:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))
    for value in [*graph.input, *graph.output]:
        if value.type.tensor_type.elem_type == TP.FLOAT16:
            value.type.tensor_type.elem_type = TP.FLOAT
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TP.FLOAT16:
                attribute.i = TP.FLOAT
    del graph.value_info[:]
    return proto


def timestep_a_picture(proto):
    """Makes `timestep` a float a picture, shape [batch_size], from a number or a list of any type, exactly.

    Exported UNets turn a number into a list (Unsqueeze) and repeat it for the batch (Expand). A list as long as the batch
    passes through the second unchanged, so only the first has to go."""
    graph = proto.graph
    value = next((value for value in graph.input if value.name == "timestep"), None)
    if value is None:
        raise Refusal("the UNet has no input timestep: this is no UNet that falgate knows")
    kind = value.type.tensor_type
    was, rank = kind.elem_type, len(kind.shape.dim)
    if rank == 0:
        drop_unsqueeze(graph)
    if was != TP.FLOAT:
        for node in graph.node:
            node.input[:] = ["timestep_as_was" if name == "timestep" else name for name in node.input]
        graph.node.insert(0, helper.make_node("Cast", ["timestep"], ["timestep_as_was"], name="timestep_cast", to=was))
    batch = next(size(v.type.tensor_type.shape.dim[0]) for v in graph.input if v.name == "sample")
    kind.elem_type = TP.FLOAT
    del kind.shape.dim[:]
    dim = kind.shape.dim.add()
    if isinstance(batch, int) and batch:
        dim.dim_value = batch
    else:
        dim.dim_param = batch or "batch_size"
    del graph.value_info[:]
    return proto


def drop_unsqueeze(graph):
    """Takes out the node that turns the number into a list; casts may come before it."""
    names, found = {"timestep"}, False
    for node in graph.node:
        if not names.intersection(node.input):
            continue
        if node.op_type in ("Cast", "Identity"):
            names.update(node.output)
        elif node.op_type == "Unsqueeze":
            node.op_type, found = "Identity", True
            del node.input[1:], node.attribute[:]
        else:
            raise Refusal(f"timestep goes into {node.op_type} as a number, which this tool does not know how to make a list: "
                          "export the model again from its torch weights")
    if not found:
        raise Refusal("timestep is not used by the graph: export the model again from its torch weights")


def named_batch(proto):
    """Names dynamic first dimensions batch_size, as optimum does, so that the engine can tell them from steps."""
    for value in [*proto.graph.input, *proto.graph.output]:
        dims = value.type.tensor_type.shape.dim
        if len(dims) and not dims[0].HasField("dim_value") and value.name != "timestep":
            dims[0].dim_param = "batch_size"
    return proto
