# SPDX-License-Identifier: Apache-2.0
"""Exported networks in ONNX Runtime and OpenVINO, called like the torch form: features, pyramid.

Both bring threads of their own and no OpenMP. Imported only when used: they are an extra.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from pointdistill_ros.engine.onnx.inputs import Target, onnx_inputs
from pointdistill_ros.errors import ConfigError
from pointdistill_ros.model.ptv3 import PTv3
from pointdistill_ros.model.pyramid import VoxelPyramid


def require(module: str) -> Any:
    """Import an optional module. Raises ConfigError saying how to install it."""
    try:
        return import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"{module} cannot be imported ({error}); pip install 'pointdistill-ros[export]'"
        ) from error


class OnnxRuntimeNetwork:
    """A network in ONNX Runtime, on the CPU."""

    def __init__(
        self,
        network: PTv3,
        threads: int | None = None,
        target: Target = "cpu",
        model: bytes | None = None,
    ) -> None:
        """model: an export of ``network`` for ``target``; made here when absent.

        threads: None takes all cores. Raises ConfigError where a package is missing.
        """
        runtime = require("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        options.log_severity_level = 3
        # threads that wait for the next scan leave the cores to others
        options.add_session_config_entry("session.force_spinning_stop", "1")
        self._session = runtime.InferenceSession(
            _serialized(network, target) if model is None else model,
            options,
            providers=["CPUExecutionProvider"],
        )
        self._config, self._target = network.config, target

    def __call__(self, features: Tensor, pyramid: VoxelPyramid) -> Tensor:
        """features: float32 [n, in] of one scan → logits float32 [n, classes]."""
        inputs = onnx_inputs(features, pyramid, self._config, self._target)
        (logits,) = self._session.run(None, inputs)
        return torch.from_numpy(logits)


class OpenVinoNetwork:
    """A network in OpenVINO, on the CPU."""

    def __init__(
        self,
        network: PTv3,
        threads: int | None = None,
        target: Target = "cpu",
        model: bytes | None = None,
    ) -> None:
        """Arguments as of ``OnnxRuntimeNetwork``."""
        core = require("openvino").Core()
        options: dict[str, str | int] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",  # else bfloat16 on processors that have it
            # Scans differ in size, so its cache of kernels hardly ever hits. And 2026.4 answers
            # wrongly after a first scan of one voxel if it may keep that scan's attention kernel.
            "CPU_RUNTIME_CACHE_CAPACITY": 0,
        }
        if threads is not None:
            options["INFERENCE_NUM_THREADS"] = threads
        onnx_model = core.read_model(_serialized(network, target) if model is None else model)
        self._request = core.compile_model(onnx_model, "CPU", options).create_infer_request()
        self._config, self._target = network.config, target

    def __call__(self, features: Tensor, pyramid: VoxelPyramid) -> Tensor:
        """features: float32 [n, in] of one scan → logits float32 [n, classes]."""
        inputs = onnx_inputs(features, pyramid, self._config, self._target)
        return torch.from_numpy(self._request.infer(inputs, share_inputs=True)[0].copy())


def _serialized(network: PTv3, target: Target) -> bytes:
    require("onnx")
    from pointdistill_ros.engine.onnx.network import build_model

    model: bytes = build_model(network, target).SerializeToString()
    return model
