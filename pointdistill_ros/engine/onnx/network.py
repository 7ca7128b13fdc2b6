# SPDX-License-Identifier: Apache-2.0
"""PTv3 as an ONNX graph: written node by node, so that it stays small and its names stay stable.

- geometry comes in as indices (inputs.py), all sizes are dynamic
- folded exactly, in float64: convolution and the linear after it, BatchNorm into stem and
  unpooling, 1/√d into the queries; the norm of a pooling stays behind its maximum (scales may be
  negative)
- two targets, one function:
    cpu  convolution over the pairs that exist (a fifth of the dense products), patch after patch
    gpu  convolution over neighbour tables and all patches at once: few nodes, no scatter, no loop
- float16: on the cpu weights are stored in it, on the gpu all is computed in it but the stem,
  which reads metres, and the head
Not here: metadata, files, runtimes.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from onnx import GraphProto, ModelProto, TensorProto, helper

from pointdistill_ros.engine.onnx.graph import IR_VERSION, OPSET, Graph
from pointdistill_ros.engine.onnx.inputs import Target, input_specs, stem_table
from pointdistill_ros.engine.onnx.weights import Array, FoldedWeights
from pointdistill_ros.model.ptv3 import PTv3

OnnxPrecision = Literal["float32", "float16"]


def build_model(
    network: PTv3, target: Target = "cpu", precision: OnnxPrecision = "float32"
) -> ModelProto:
    """The whole network: inputs as in ``input_specs`` → ``logits`` float32 [n0, classes].

    Raises ConfigError where weights do not fit into the precision.
    """
    config = network.config
    graph = PTv3Graph(network, target, precision)
    graph.network()
    inputs = [
        helper.make_tensor_value_info(
            spec.name, helper.np_dtype_to_tensor_dtype(np.dtype(spec.dtype)), spec.shape
        )
        for spec in input_specs(config, target)
    ]
    logits: list[str | int | None] = ["n0", config.num_classes]
    output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, logits)
    constants = list(graph.constants.values())
    return helper.make_model(
        helper.make_graph(graph.nodes, "ptv3", inputs, [output], constants),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="pointdistill_ros",
    )


class PTv3Graph(Graph):
    """The network, part by part as in model/ptv3.py."""

    def __init__(self, network: PTv3, target: Target, precision: OnnxPrecision) -> None:
        half = precision == "float16"
        super().__init__(np.float32, np.float16 if half and target == "cpu" else None)
        self.config = network.config
        self.target = target
        self.half_blocks = half and target == "gpu"
        self.weights = FoldedWeights(network)

    def network(self) -> None:
        """All nodes, from ``features`` to ``logits``."""
        config = self.config
        if self.target == "cpu":
            if config.stem_size == 5:
                self.split_pairs("_stem", 5)
            for s in range(len(config.encoder_depths)):
                self.split_pairs(str(s), 3)
        x = self.stem("stem", "features")
        if self.half_blocks:
            x = self.op("Cast", "stem/float16", x, to=TensorProto.FLOAT16)
            self.dtype = np.float16
        skips = []
        for s, depth in enumerate(config.encoder_depths):
            if s:
                x = self.pooling(f"encoder.{s}.pooling", x, s)
            x = self.blocks(f"encoder.{s}", x, x, s, depth, config.encoder_heads[s])
            skips.append(x)
        for s in reversed(range(len(config.decoder_depths))):
            x, skip = self.unpooling(f"decoder.{s}.unpooling", x, skips[s], s)
            conv_input = x if config.xcpe == "stale_off" else skip
            depth, heads = config.decoder_depths[s], config.decoder_heads[s]
            x = self.blocks(f"decoder.{s}", x, conv_input, s, depth, heads)
        if self.half_blocks:
            x = self.op("Cast", "head/float32", x, to=TensorProto.FLOAT)
            self.dtype = np.float32
        self.linear("logits", x, *self.weights.linear("head"))

    def blocks(self, name: str, x: str, conv_input: str, s: int, depth: int, heads: int) -> str:
        """The blocks of a stage; see ``_run_blocks`` in model/ptv3.py for ``conv_input``."""
        walks = self.config.walks[s]
        for i in range(depth):
            walk = f"{s}_{i % walks}" if heads else None
            read = conv_input if self.config.convolves(i, heads) else None
            x, branch = self.block(f"{name}.blocks.{i}", x, read, s, walk, heads)
            conv_input = branch if self.config.xcpe == "legacy" else x
        return x

    def block(
        self, name: str, x: str, conv_input: str | None, s: int, walk: str | None, heads: int
    ) -> tuple[str, str]:
        """Names of the new x and of the MLP branch.

        conv_input: None for a block without convolution, walk: for one without attention.
        """
        if conv_input is not None:
            weights = self.weights.convolution(name)
            position = self.convolution(f"{name}.conv", conv_input, str(s), *weights)
            x = self.op("Add", f"{name}.x1", x, self.layer_norm(f"{name}.conv_norm", position))
        if walk is not None:
            normed = self.layer_norm(f"{name}.attention_norm", x)
            attended = self.attention(f"{name}.attention", normed, walk, heads)
            x = self.op("Add", f"{name}.x2", x, attended)
        hidden = self.layer_norm(f"{name}.mlp_norm", x)
        hidden = self.linear(f"{name}.fc1", hidden, *self.weights.linear(f"{name}.fc1"))
        hidden = self.gelu(f"{name}.gelu", hidden)
        branch = self.linear(f"{name}.fc2", hidden, *self.weights.linear(f"{name}.fc2"))
        return self.op("Add", f"{name}.x3", x, branch), branch

    def attention(self, name: str, x: str, walk: str, heads: int) -> str:
        """x: [n, C] → [n, C]; rows are laid out as [patches, K] and taken back."""
        weight, bias = self.weights.linear(f"{name}.qkv")
        channels = weight.shape[1]
        scale = (channels // heads) ** -0.5
        shape = self.integers(0, 0, heads, channels // heads)
        layouts = {"q": [0, 2, 1, 3], "k": [0, 2, 3, 1], "v": [0, 2, 1, 3]}
        qkv = []
        for i, (letter, layout) in enumerate(layouts.items()):
            part = slice(i * channels, (i + 1) * channels)
            factor = scale if letter == "q" else 1.0
            y = self.linear(f"{name}.{letter}", x, weight[part] * factor, bias[part] * factor)
            y = self.op("Gather", f"{name}.{letter}/walk", y, f"walk{walk}", axis=0)
            y = self.op("Reshape", f"{name}.{letter}/heads", y, shape)
            qkv.append(self.op("Transpose", f"{name}.{letter}/patches", y, perm=layout))
        if self.target == "cpu":
            y = self.op("Scan", f"{name}.scan", *qkv, body=_one_patch(self), num_scan_inputs=3)
        else:
            scores = self.op("MatMul", f"{name}.scores", *qkv[:2])
            scores = self.op("Softmax", f"{name}.softmax", scores, axis=-1)
            y = self.op("MatMul", f"{name}.values", scores, qkv[2])
        y = self.op("Transpose", f"{name}.rows", y, perm=[0, 2, 1, 3])
        y = self.op("Reshape", f"{name}.flat", y, self.integers(-1, channels))
        y = self.op("Gather", f"{name}.places", y, f"place{walk}", axis=0)
        return self.linear(f"{name}.proj", y, *self.weights.linear(f"{name}.proj"))

    # --- convolution ---------------------------------------------------------------------------

    def stem(self, name: str, x: str) -> str:
        """5³ (or 3³) convolution and GELU."""
        table = stem_table(self.config)
        x = self.convolution(f"{name}.conv", x, table, *self.weights.stem())
        return self.gelu(f"{name}.gelu", x)

    def convolution(self, name: str, x: str, table: str, kernel: Array, bias: Array) -> str:
        """x: [n, in]; kernel: [offsets, in, out] → [n, out]; ``table`` names the index inputs."""
        convolve = self.pair_convolution if self.target == "cpu" else self.table_convolution
        return convolve(name, x, table, kernel, bias)

    def pair_convolution(self, name: str, x: str, table: str, kernel: Array, bias: Array) -> str:
        """Gather, product and sum of the existing pairs of each offset."""
        last = len(kernel) - 1
        y = self.linear(f"{name}/centre", x, kernel[last // 2].T, bias)
        for k in (k for k in range(last + 1) if k != last // 2):
            # offset last − k pairs the same voxels the other way round
            here, there = ("rows", "mates") if k < last / 2 else ("mates", "rows")
            pair = min(k, last - k)
            mates = self.op("GatherND", f"{name}/{k}/mates", x, f"pairs{table}/{there}{pair}")
            weight = self.floats(f"{name}/{k}/weight", kernel[k])
            product = self.op("MatMul", f"{name}/{k}/product", mates, weight)
            # Rows are unique within an offset. Read, add and write back: runtimes of before 2026
            # refuse or ignore `reduction="add"` of ScatterND.
            rows = f"pairs{table}/{here}{pair}"
            so_far = self.op("GatherND", f"{name}/{k}/so_far", y, rows)
            total = self.op("Add", f"{name}/{k}/total", so_far, product)
            y = self.op("ScatterND", f"{name}/{k}/sum", y, rows, total)
        return y

    def split_pairs(self, table: str, size: int) -> None:
        """The pair lists of the offsets before the centre, one by one."""
        for column in ("rows", "mates"):
            inputs = [f"pair_{column}{table}", f"pair_counts{table}"]
            lists = [f"pairs{table}/{column}{k}" for k in range(size**3 // 2)]
            name = f"pairs{table}/{column}"
            self.nodes.append(helper.make_node("Split", inputs, lists, name=name, axis=0))

    def table_convolution(self, name: str, x: str, table: str, kernel: Array, bias: Array) -> str:
        """One gather of all neighbours and one product; absent ones read a row of zeros."""
        offsets, inside, outside = kernel.shape
        zero = self.floats(f"{name}/zero", np.zeros((1, inside)))
        padded = self.op("Concat", f"{name}/padded", x, zero, axis=0)
        near = self.op("Gather", f"{name}/neighbours", padded, f"neighbours{table}", axis=0)
        near = self.op("Reshape", f"{name}/flat", near, self.integers(-1, offsets * inside))
        return self.linear(name, near, kernel.reshape(-1, outside).T, bias)

    # --- between stages ------------------------------------------------------------------------

    def pooling(self, name: str, x: str, s: int) -> str:
        """x: [n of stage s − 1, in] → [n of stage s, out]."""
        x = self.linear(f"{name}.proj", x, *self.weights.linear(f"{name}.proj"))
        children = self.op("Gather", f"{name}.children", x, f"children{s}", axis=0)
        x = self.op("ReduceMax", f"{name}.max", children, axes=[1], keepdims=0)
        scale, shift = self.weights.batch_norm(f"{name}.norm")
        x = self.op("Mul", f"{name}.scaled", x, self.floats(f"{name}.scale", scale))
        x = self.op("Add", f"{name}.shifted", x, self.floats(f"{name}.shift", shift))
        return self.gelu(f"{name}.gelu", x)

    def unpooling(self, name: str, x: str, skip: str, s: int) -> tuple[str, str]:
        """Coarse x and the skip of stage s → their sum and the skip branch."""
        up = self.linear(
            f"{name}.proj", x, *self.weights.normed_linear(f"{name}.proj", f"{name}.norm")
        )
        up = self.gelu(f"{name}.gelu", up)
        up = self.op("Gather", f"{name}.up", up, f"parent{s}", axis=0)
        weights = self.weights.normed_linear(f"{name}.skip_proj", f"{name}.skip_norm")
        skip = self.gelu(f"{name}.skip_gelu", self.linear(f"{name}.skip_proj", skip, *weights))
        return self.op("Add", name, skip, up), skip

    def layer_norm(self, name: str, x: str) -> str:
        """Norm over the channels of each row."""
        scale, shift = self.weights.linear(name)
        inputs = (x, self.floats(f"{name}.scale", scale), self.floats(f"{name}.shift", shift))
        return self.op("LayerNormalization", name, *inputs, axis=-1, epsilon=1e-5)


def _one_patch(graph: Graph) -> GraphProto:
    """softmax(q·kᵀ)·v of one patch: q, v [heads, K, d], k [heads, d, K]."""
    element = helper.np_dtype_to_tensor_dtype(np.dtype(graph.dtype))
    body = Graph(graph.dtype)
    scores = body.op("MatMul", "patch/scores", "patch/q", "patch/k")
    body.op("MatMul", "patch/out", body.op("Softmax", "patch/softmax", scores, axis=-1), "patch/v")
    inputs = [helper.make_tensor_value_info(f"patch/{x}", element, None) for x in "qkv"]
    output = helper.make_tensor_value_info("patch/out", element, None)
    return helper.make_graph(body.nodes, "patch", inputs, [output])
