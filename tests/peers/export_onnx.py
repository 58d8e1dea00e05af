"""A published model of ours as an ONNX file, for the runtimes that ours is timed against. Only benchmarks need it.

    python3 -m venv VENV && VENV/bin/pip install numpy safetensors onnx onnxruntime
    VENV/bin/python tests/peers/export_onnx.py MODEL OUT.onnx [--int8]

MODEL is a folder with f32 or f16 weights whose position table is of its input's size, so that nothing is interpolated, and of the published
kind: softmax attention in the encoder, linear attention in the decoder, GELU. Input `patches [batch, grid², 3·patch²]` (channel, row,
column inside a patch), outputs `distances0`, `distances1` … `[batch, grid²]`, one for each group.

The graph is what an expert would hand to a runtime: LayerNormalization and Gelu as single operators, one product for queries, keys and
values, the bias beside each product, so that the runtimes' own optimisers can fuse. `--int8` quantizes it with onnxruntime's dynamic
quantization, by output channel.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file


class Graph:
    """Nodes and initial values, added in the order of computation."""

    def __init__(self):
        self.nodes, self.initializers, self.count = [], {}, 0

    def constant(self, value, name=None):
        name = name or f"constant_{len(self.initializers)}"
        self.initializers.setdefault(name, numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def op(self, kind, *inputs, output=None, **attributes):
        self.count += 1
        output = output or f"{kind.lower()}_{self.count}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], name=f"{kind}_{self.count}", **attributes))
        return output

    def split(self, x, axis, parts):
        self.count += 1
        outputs = [f"split_{self.count}_{i}" for i in range(parts)]
        self.nodes.append(helper.make_node("Split", [x], outputs, axis=axis, num_outputs=parts))
        return outputs

    def shape(self, *extents):
        return self.constant(np.array(extents, dtype=np.int64))


class Model:
    def __init__(self, folder):
        self.weights = {}
        for file in sorted(folder.glob("*.safetensors")):
            self.weights |= load_file(file)
        if any(value.dtype not in (np.float32, np.float16) for value in self.weights.values()):
            raise SystemExit("the model is quantized: give the one that is not, and --int8")
        self.weights = {name: value.astype(np.float32) for name, value in self.weights.items()}
        self.config = json.loads((folder / "config.json").read_text())
        self.crop = json.loads((folder / "preprocessor_config.json").read_text())["crop_size"]["height"]
        self.graph = Graph()

    def linear(self, x, name):
        weight, graph = self.weights[f"{name}.weight"], self.graph
        weight = weight.reshape(weight.shape[0], -1).T
        product = graph.op("MatMul", x, graph.constant(weight, f"{name}.weight"))
        return graph.op("Add", product, graph.constant(self.weights[f"{name}.bias"], f"{name}.bias"))

    def norm(self, x, name, eps):
        scale, bias = (self.graph.constant(self.weights[f"{name}.{part}"], f"{name}.{part}") for part in ("weight", "bias"))
        return self.graph.op("LayerNormalization", x, scale, bias, axis=-1, epsilon=eps)

    def gelu(self, x):
        return self.graph.op("Gelu", x, approximate="none")

    def attention(self, x, name, heads, width, linear):
        graph, size = self.graph, width // heads
        packed = graph.op("Reshape", self.linear(x, f"{name}.qkv"), graph.shape(0, 0, 3 * heads, size))
        by_head = graph.op("Transpose", packed, perm=[0, 2, 1, 3])
        q, k, v = graph.split(by_head, 1, 3)
        k_turned = graph.op("Transpose", k, perm=[0, 1, 3, 2])
        if linear:
            one = graph.constant(np.array(1, dtype=np.float32), "one")
            q, k_turned = (graph.op("Add", graph.op("Elu", part), one) for part in (q, k_turned))
            sums = graph.op("MatMul", k_turned, v)
            totals = graph.op("ReduceSum", k_turned, graph.shape(3), keepdims=1)
            mixed = graph.op("Div", graph.op("MatMul", q, sums), graph.op("MatMul", q, totals))
        else:
            scale = graph.constant(np.array(size**-0.5, dtype=np.float32), f"scale_{size}")
            logits = graph.op("MatMul", graph.op("Mul", q, scale), k_turned)
            mixed = graph.op("MatMul", graph.op("Softmax", logits, axis=-1), v)
        mixed = graph.op("Reshape", graph.op("Transpose", mixed, perm=[0, 2, 1, 3]), graph.shape(0, 0, width))
        return self.linear(mixed, f"{name}.proj")

    def block(self, x, name, heads, width, eps, linear):
        add = lambda a, b: self.graph.op("Add", a, b)
        x = add(x, self.attention(self.norm(x, f"{name}.norm1", eps), f"{name}.attn", heads, width, linear))
        hidden = self.gelu(self.linear(self.norm(x, f"{name}.norm2", eps), f"{name}.mlp.fc1"))
        return add(x, self.linear(hidden, f"{name}.mlp.fc2"))

    def mean(self, xs):
        return self.graph.op("Mean", *xs)

    def build(self):
        graph, config, encoder, decoder = self.graph, self.config, self.config["encoder"], self.config["decoder"]
        width, patch = encoder["hidden_size"], encoder["patch_size"]
        grid, registers = self.crop // patch, encoder["num_register_tokens"]
        if encoder["position_grid"] != grid:
            raise SystemExit(f"the position table is of {encoder['position_grid']}² patches and the input of {grid}²: they must agree")
        if encoder.get("mlp", "gelu") != "gelu" or encoder.get("positions", "table") != "table" or decoder["mixer"] != "linear":
            raise SystemExit("only models of the published kind can be turned into ONNX: GELU, a position table, a linear decoder")
        prefix, positions = 1 + registers, self.weights["encoder.pos_embed"]
        first = [self.weights["encoder.cls_token"] + positions[:, :1]]
        first += [self.weights["encoder.register_tokens"]] if registers else []
        x = graph.op("Add", self.linear("patches", "encoder.patch_embed.proj"), graph.constant(positions[:, 1:], "positions"))
        batch = graph.op("Slice", graph.op("Shape", x), graph.shape(0), graph.shape(1))
        shape = graph.op("Concat", batch, graph.shape(prefix, width), axis=0)
        x = graph.op("Concat", graph.op("Expand", graph.constant(np.concatenate(first, 1), "prefix"), shape), x, axis=1)
        collected, targets = [], config["target_layers"]
        for i in range(max(targets) + 1):
            x = self.block(x, f"encoder.blocks.{i}", encoder["num_attention_heads"], width, encoder["layer_norm_eps"], False)
            collected += [x] if i in targets else []
        x = self.linear(self.gelu(self.linear(self.mean(collected), "bottleneck.0.fc1")), "bottleneck.0.fc2")
        decoded = []
        for i in range(decoder["num_hidden_layers"]):
            x = self.block(x, f"decoder.{i}", decoder["num_attention_heads"], width, decoder["layer_norm_eps"], True)
            decoded.insert(0, x)
        outputs = []
        for i, group in enumerate(config["groups"]):
            a, b = (self.mean([layers[j] for j in group]) for layers in (collected, decoded))
            a, b = (graph.op("Slice", x, graph.shape(prefix), graph.shape(2**31), graph.shape(1)) for x in (a, b))
            floor = graph.constant(np.array(1e-8, dtype=np.float32), "floor")
            dot = graph.op("ReduceSum", graph.op("Mul", a, b), graph.shape(2), keepdims=0)
            norms = [graph.op("Max", graph.op("ReduceL2", x, graph.shape(2), keepdims=0), floor) for x in (a, b)]
            one = graph.constant(np.array(1, dtype=np.float32), "one")
            cosine = graph.op("Div", dot, graph.op("Mul", *norms))
            outputs.append(graph.op("Sub", one, cosine, output=f"distances{i}"))
        tensor = lambda name, *shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        made = helper.make_graph(
            graph.nodes,
            "dinomaly",
            [tensor("patches", "batch", grid * grid, 3 * patch * patch)],
            [tensor(name, "batch", grid * grid) for name in outputs],
            list(graph.initializers.values()),
        )
        model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        onnx.checker.check_model(model)
        return model


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--int8", action="store_true")
    arguments = parser.parse_args()
    model = Model(arguments.model).build()
    if not arguments.int8:
        onnx.save(model, arguments.out)
        return
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "f32.onnx"
        onnx.save(model, whole)
        quantize_dynamic(whole, arguments.out, weight_type=QuantType.QInt8, per_channel=True)


if __name__ == "__main__":
    main()
