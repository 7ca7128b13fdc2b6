# SPDX-License-Identifier: Apache-2.0
"""NodeProcess: a node in a process of its own, for as long as a program needs it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import rclpy
from rclpy.context import Context
from rclpy.signals import SignalHandlerOptions

from pointdistill_ros.errors import PointDistillError
from pointdistill_ros.nodes.transport import prepare_transport
from pointdistill_ros.resources import config_path

INPUT = "/points"
"""Where the labelling nodes listen."""
OUTPUT = "/segmentation_node/labeled_points"
"""Where the labelled clouds of the student appear."""
COMPARISON = "comparison_node"
WINDOW = f"/{COMPARISON}/comparison_window"
DISAGREEMENT = f"/{COMPARISON}/disagreement"
"""What the comparison node tells."""
TEACHER_PACE = {"pace.max_load": "1.0"}
"""Beside what config/nodes/teacher.yaml says: a demo is short, its teacher takes no rests."""
STOP_TIMEOUT = 5.0
"""Seconds between asking the process to end and ending it."""

COMPLAINTS = ("cannot load model", "cannot configure")
"""How a node begins to say why it stays unconfigured."""


class NodeProcess:
    """Runs a node while the ``with`` block runs; it listens when the block begins."""

    def __init__(
        self,
        program: str,
        log: Path,
        parameters: Mapping[str, str],
        *,
        listens_to: str = INPUT,
        name: str = "",
        remaps: Mapping[str, str] | None = None,
        params_file: str = "",
        timeout: float = 60.0,
    ) -> None:
        """``program``: module of ``nodes``; ``log``: where the node's output goes.

        ``parameters`` in YAML; ``listens_to``: a topic that it subscribes to when it is active;
        ``name``: of the node, default that of the program.
        """
        self._program, self._log, self._timeout = program, log, timeout
        self._name, self._listens_to = name or program, listens_to
        arguments = ["-r", f"__node:={self._name}"]
        if params_file:
            arguments += ["--params-file", params_file]
        for parameter, value in parameters.items():
            arguments += ["-p", f"{parameter}:={value}"]
        for topic, other in (remaps or {}).items():
            arguments += ["-r", f"{topic}:={other}"]
        self._arguments = arguments

    def __enter__(self) -> NodeProcess:
        """Start it and wait until it is active. Raises PointDistillError with the node's reason."""
        prepare_transport()
        command = [sys.executable, "-m", f"pointdistill_ros.nodes.{self._program}", "--ros-args"]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command + self._arguments, stdout=log, stderr=subprocess.STDOUT
            )
        try:
            self._wait_until_active()
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()

    @property
    def pid(self) -> int:
        """Number of the process, for whoever watches it."""
        return self._process.pid

    def end(self, timeout: float = STOP_TIMEOUT) -> int:
        """Ask it to end, after so many seconds end it. Returns its exit code, negative if ended."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(timeout)
            except subprocess.TimeoutExpired:
                self._process.kill()
        return self._process.wait()

    def _wait_until_active(self) -> None:
        context = Context()
        rclpy.init(context=context, signal_handler_options=SignalHandlerOptions.NO)
        try:
            watcher = rclpy.create_node("node_watcher", context=context)
            until = time.monotonic() + self._timeout
            while self._name not in {
                end.node_name for end in watcher.get_subscriptions_info_by_topic(self._listens_to)
            }:
                if time.monotonic() > until:
                    raise PointDistillError(
                        f"{self._name} did not start within {self._timeout:g} s; see {self._log}"
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
            for complaint in COMPLAINTS:  # the node lives on, unconfigured
                if complaint in line:
                    raise PointDistillError(complaint + line.partition(complaint)[2])
        if self._process.poll() is not None:
            said = lines[-1] if lines else "nothing"
            raise PointDistillError(f"{self._name} ended with {self._process.returncode}: {said}")


def student_process(
    model: str, log: Path, precision: str = "float32", timeout: float = 60.0
) -> NodeProcess:
    """The segmentation node with ``model``, a shipped name or a checkpoint.

    Reliable input and no age limit: every cloud is worth an answer here, however slow the machine.
    """
    parameters = _labelling(model) | {"model.precision": precision}
    return NodeProcess("segmentation_node", log, parameters, timeout=timeout)


def teacher_process(model: str, log: Path, timeout: float = 120.0) -> NodeProcess:
    """A teacher beside the student: it labels what the student leaves it time for."""
    return NodeProcess(
        "segmentation_node",
        log,
        _labelling(model) | TEACHER_PACE,
        name="teacher",
        params_file=str(config_path("nodes/teacher.yaml")),
        timeout=timeout,
    )


def comparison_process(log: Path, clouds: int, timeout: float = 60.0) -> NodeProcess:
    """The comparison of the two; its window holds so many clouds."""
    window = min(max(clouds, 1), 10_000)
    return NodeProcess(
        "comparison_node",
        log,
        {
            "input.reliability": "reliable",
            "input.depth": "50",
            "pairing.depth": "100",
            "window.clouds": str(window),
        },
        listens_to=OUTPUT,
        remaps={
            f"student/{topic}": f"/segmentation_node/{topic}"
            for topic in ("labeled_points", "class_info")
        },
        timeout=timeout,
    )


def _labelling(model: str) -> dict[str, str]:
    return {
        "model.path": f"'{model}'",  # quoted: a YAML string, whatever the name looks like
        "input.reliability": "reliable",
        "input.max_age": "0.0",
    }
