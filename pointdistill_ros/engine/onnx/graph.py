# SPDX-License-Identifier: Apache-2.0
"""A graph of ONNX operators under construction: nodes, constants, and the layers made of several.

Standard operators of opset 17, which ONNX Runtime, OpenVINO and TensorRT have read for years.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

from pointdistill_ros.engine.onnx.weights import Array
from pointdistill_ros.errors import ConfigError

OPSET = 17
IR_VERSION = 8
"""Of the days of opset 17, so that runtimes of those days read the file."""


class Graph:
    """Nodes and constants; the name of a node is the name of its output."""

    def __init__(
        self, dtype: type[np.floating[Any]], storage: type[np.floating[Any]] | None = None
    ) -> None:
        """dtype: what is computed in; storage: what matrices are kept in, default the same."""
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, TensorProto] = {}
        self.dtype = dtype
        self.storage = storage

    @property
    def suffix(self) -> str:
        """Tells constants of one precision from those of another."""
        return self.dtype.__name__

    def op(self, kind: str, name: str, *inputs: str, **attributes: Any) -> str:
        """Append a node with one output; returns its name."""
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def constant(self, name: str, value: Array) -> str:
        """Keep an array as it is; returns its name."""
        self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def floats(self, name: str, value: Array) -> str:
        """Weights in the precision of the graph. Raises ConfigError where they do not fit."""
        stored = self.dtype if self.storage is None or np.ndim(value) < 2 else self.storage
        with np.errstate(over="ignore"):
            rounded = np.asarray(value).astype(stored)
        if not np.isfinite(rounded).all():
            raise ConfigError(f"{name} does not fit into {stored.__name__}; export as float32")
        if stored is self.dtype:
            return self.constant(name, rounded)
        self.constant(f"{name}/stored", rounded)
        computed = helper.np_dtype_to_tensor_dtype(np.dtype(self.dtype))
        return self.op("Cast", name, f"{name}/stored", to=computed)

    def integers(self, *values: int) -> str:
        """A shape."""
        return self.constant("int_" + "_".join(map(str, values)), np.array(values, np.int64))

    def linear(self, name: str, x: str, weight: Array, bias: Array) -> str:
        """x·Wᵀ + b. x: [n, in]; weight: [out, in]."""
        w, b = self.floats(f"{name}/weight", weight.T), self.floats(f"{name}/bias", bias)
        return self.op("Gemm", name, x, w, b)

    def gelu(self, name: str, x: str) -> str:
        """x/2 · (1 + erf(x/√2)), in the order of nodes that runtimes know how to fuse."""
        root = self.floats(f"sqrt2_{self.suffix}", np.sqrt(2.0))
        one = self.floats(f"one_{self.suffix}", np.array(1.0))
        half = self.floats(f"half_{self.suffix}", np.array(0.5))
        scaled = self.op("Div", f"{name}/scaled", x, root)
        shifted = self.op("Add", f"{name}/shifted", self.op("Erf", f"{name}/erf", scaled), one)
        return self.op("Mul", name, self.op("Mul", f"{name}/twice", x, shifted), half)
