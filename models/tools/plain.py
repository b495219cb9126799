"""Writes fused operators out in standard ones, so that a graph for the CUDA provider can be checked on any machine.

What is left fused (SkipLayerNormalization, QuickGelu) the CPU provider has. The definitions are those of ONNX Runtime's
ContribOperators page."""
import math

import numpy as np
from onnx import helper, numpy_helper

from progress import Refusal

ON_THE_CPU = {"SkipLayerNormalization", "QuickGelu", "LayerNormalization", "BiasGelu", "FastGelu", "Gelu", "FusedMatMul"}


class Writer:
    """Collects nodes and constants."""

    def __init__(self):
        self.nodes, self.constants, self.count = [], {}, 0

    def constant(self, values, kind):
        array = np.asarray(values, kind)
        name = f"plain_{array.dtype}_{'x'.join(map(str, array.shape))}_{array.tobytes().hex()[:64]}"
        self.constants[name] = numpy_helper.from_array(array, name)
        return name

    def op(self, kind, *inputs, out=None, **attributes):
        self.count += 1
        out = out or f"plain_{self.count}"
        self.nodes.append(helper.make_node(kind, list(inputs), [out], name=f"plain_node_{self.count}", **attributes))
        return out

    def ints(self, *values):
        return self.constant(values, np.int64)


def group_norm(w, node, attributes, out):
    x, gamma, beta = node.input[:3]
    groups = attributes["groups"]
    planes = w.op("Transpose", x, perm=[0, 3, 1, 2])
    rows = w.op("Reshape", planes, w.ints(0, groups, -1))
    one, zero = w.constant(np.ones(groups), np.float32), w.constant(np.zeros(groups), np.float32)
    rows = w.op("InstanceNormalization", rows, one, zero, epsilon=attributes.get("epsilon", 1e-5))
    planes = w.op("Reshape", rows, w.op("Shape", planes))
    y = w.op("Add", w.op("Mul", w.op("Transpose", planes, perm=[0, 2, 3, 1]), gamma), beta)
    return w.op("Mul", y, w.op("Sigmoid", y), out=out) if attributes.get("activation") else w.op("Identity", y, out=out)


def skip_group_norm(w, node, attributes):
    # The skip has all pixels, or one for all of them: [rows, 1, 1, channels].
    total = w.op("Add", node.input[0], node.input[3])
    if len(node.input) > 4 and node.input[4]:
        total = w.op("Add", total, node.input[4])
    if len(node.output) > 1 and node.output[1]:
        w.op("Identity", total, out=node.output[1])
    inner = helper.make_node("GroupNorm", [total, *node.input[1:3]], [node.output[0]])
    group_norm(w, inner, attributes, node.output[0])


def nhwc_conv(w, node, attributes):
    x = w.op("Transpose", node.input[0], perm=[0, 3, 1, 2])
    kernel = w.op("Transpose", node.input[1], perm=[0, 3, 1, 2])
    y = w.op("Conv", x, kernel, *[name for name in node.input[2:] if name], **attributes)
    w.op("Transpose", y, perm=[0, 2, 3, 1], out=node.output[0])


def heads(w, x, count):
    """[rows, tokens, width] to [rows, heads, tokens, width of a head]."""
    return w.op("Transpose", w.op("Reshape", x, w.ints(0, 0, count, -1)), perm=[0, 2, 1, 3])


def packed(w, x, index):
    """One of several matrices that lie side by side in [rows, tokens, heads, matrices, width of a head]."""
    return w.op("Transpose", w.op("Gather", x, w.constant(index, np.int64), axis=3), perm=[0, 2, 1, 3])


def attention(w, node, attributes):
    inputs, count = [name for name in node.input if name], attributes["num_heads"]
    if len(inputs) == 1:
        q, k, v = (packed(w, inputs[0], index) for index in range(3))
    elif len(inputs) == 2:
        q, k, v = heads(w, inputs[0], count), packed(w, inputs[1], 0), packed(w, inputs[1], 1)
    elif len(inputs) == 3:
        q, k, v = (heads(w, name, count) for name in inputs)
    else:
        raise Refusal("an attention with a mask or bias cannot be checked without CUDA")
    width = w.op("Cast", w.op("Slice", w.op("Shape", q), w.ints(3), w.ints(4)), to=1)
    scale = w.constant(attributes["scale"], np.float32) if attributes.get("scale") else w.op("Reciprocal", w.op("Sqrt", width))
    scores = w.op("MatMul", w.op("Mul", q, scale), w.op("Transpose", k, perm=[0, 1, 3, 2]))
    mixed = w.op("MatMul", w.op("Softmax", scores, axis=-1), v)
    w.op("Reshape", w.op("Transpose", mixed, perm=[0, 2, 1, 3]), w.ints(0, 0, -1), out=node.output[0])


def bias_split_gelu(w, node, _):
    x = w.op("Add", *node.input)
    half = w.op("Div", w.op("Slice", w.op("Shape", x), w.ints(-1), w.ints(1 << 31)), w.ints(2))
    left = w.op("Slice", x, w.ints(0), half, w.ints(-1))
    right = w.op("Slice", x, half, w.ints(1 << 31), w.ints(-1))
    erf = w.op("Erf", w.op("Mul", right, w.constant(math.sqrt(0.5), np.float32)))
    gelu = w.op("Mul", w.op("Mul", right, w.constant(0.5, np.float32)), w.op("Add", erf, w.constant(1, np.float32)))
    w.op("Mul", left, gelu, out=node.output[0])


def bias_add(w, node, _):
    w.op("Add", w.op("Add", node.input[0], node.input[1]), node.input[2], out=node.output[0])


WRITTEN_OUT = {"GroupNorm": lambda w, node, attributes: group_norm(w, node, attributes, node.output[0]), "SkipGroupNorm": skip_group_norm,
               "NhwcConv": nhwc_conv, "MultiHeadAttention": attention, "BiasSplitGelu": bias_split_gelu, "BiasAdd": bias_add}


def written_out(proto):
    """The graph without operators that only a GPU has. It must be in single precision."""
    w, graph = Writer(), proto.graph
    for node in graph.node:
        write = WRITTEN_OUT.get(node.op_type) if node.domain else None
        if write:
            write(w, node, {a.name: helper.get_attribute_value(a) for a in node.attribute})
        elif node.domain in ("", "ai.onnx") or node.op_type in ON_THE_CPU:
            w.nodes.append(node)
        else:
            raise Refusal(f"the operator {node.op_type} cannot be checked without the device it is for")
    nodes = [type(node).FromString(node.SerializeToString()) for node in w.nodes]
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.initializer.extend(w.constants.values())
    return proto
