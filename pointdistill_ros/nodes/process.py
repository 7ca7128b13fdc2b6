# SPDX-License-Identifier: Apache-2.0
"""NodeProcess: the segmentation node in a process of its own, for as long as a program needs it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

import rclpy
from rclpy.context import Context
from rclpy.signals import SignalHandlerOptions

from pointdistill_ros.errors import PointDistillError
from pointdistill_ros.nodes.transport import prepare_transport

INPUT = "/points"
"""Where the node listens."""
OUTPUT = "/segmentation_node/labeled_points"
"""Where its labelled clouds appear."""
STOP_TIMEOUT = 5.0
"""Seconds between asking the process to end and ending it."""


class NodeProcess:
    """Runs the node while the ``with`` block runs; it listens when the block begins.

    Reliable input and no age limit: every cloud is worth an answer here, however slow the machine.
    """

    def __init__(
        self, model: str, log: Path, precision: str = "float32", timeout: float = 60.0
    ) -> None:
        """``model``: shipped name or checkpoint; ``log``: where the node's output goes."""
        self._model, self._log, self._timeout = model, log, timeout
        self._precision = precision

    def __enter__(self) -> NodeProcess:
        """Start it and wait until it is active. Raises PointDistillError with the node's reason."""
        prepare_transport()
        parameters = {
            "model.path": f"'{self._model}'",  # quoted: a YAML string, whatever the name looks like
            "model.precision": self._precision,
            "input.reliability": "reliable",
            "input.max_age": "0.0",
        }
        command = [sys.executable, "-m", "pointdistill_ros.nodes.segmentation_node", "--ros-args"]
        for name, value in parameters.items():
            command += ["-p", f"{name}:={value}"]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            self._wait_until_active()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    def _wait_until_active(self) -> None:
        context = Context()
        rclpy.init(context=context, signal_handler_options=SignalHandlerOptions.NO)
        try:
            watcher = rclpy.create_node("node_watcher", context=context)
            until = time.monotonic() + self._timeout
            while not watcher.count_subscribers(INPUT):
                if time.monotonic() > until:
                    raise PointDistillError(
                        f"the segmentation node did not start within {self._timeout:g} s; "
                        f"see {self._log}"
                    )
                self._check()
                time.sleep(0.05)
            watcher.destroy_node()
        finally:
            context.try_shutdown()

    def _check(self) -> None:
        """Raise what the node complains about, or that it is gone."""
        lines = self._log.read_text(errors="replace").splitlines()
        for line in lines:
            if "cannot load model" in line:  # the node lives on, unconfigured
                raise PointDistillError(
                    "cannot load model" + line.partition("cannot load model")[2]
                )
        if self._process.poll() is not None:
            said = lines[-1] if lines else "nothing"
            raise PointDistillError(
                f"the segmentation node ended with {self._process.returncode}: {said}"
            )

    def _stop(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()
