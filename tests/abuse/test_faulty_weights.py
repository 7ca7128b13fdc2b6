# SPDX-License-Identifier: Apache-2.0
"""Weights that are none: configure fails with the reason, the node lives for another try."""

import json
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest

from tests.abuse.conftest import COUNTED, PATIENCE, RELIABLE, on_cpu, stop

pytestmark = [pytest.mark.ros, pytest.mark.timeout(1800)]


class Intruder:
    """Unpickled, it makes a file."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def faults(good, mark):
    """(name, bytes, or None for no file, or what lies there instead; part of the reason)."""
    import torch
    from safetensors.torch import save

    yield "missing", None, "no such checkpoint"
    yield "a directory", "directory", "a folder"
    yield "a pipe", "pipe", "pipe or socket"
    yield "empty", b"", "damaged or not safetensors"
    yield "truncated", good[: len(good) // 2], "damaged or not safetensors"
    yield "truncated in the header", good[:20], "damaged or not safetensors"
    yield "a pickle", pickle.dumps(Intruder(mark)), "damaged or not safetensors"
    header = struct.pack("<Q", len(pickle.dumps(Intruder(mark))))
    yield "a pickle as header", header + pickle.dumps(Intruder(mark)), "not safetensors"
    yield "a header without end", struct.pack("<Q", 2**62) + good, "not safetensors"
    yield "somebody else's", save({"weight": torch.zeros(3)}), "no PointDistill header"
    yield "of other classes", changed(good, classes=3), "header"
    yield "of another format", changed(good, format=99), "format"
    yield "not a number", with_nan(good), "NaN"


def parts(good):
    """Header (parsed) and data of a safetensors file."""
    (length,) = struct.unpack("<Q", good[:8])
    return json.loads(good[8 : 8 + length]), good[8 + length :]


def whole(header, data):
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def changed(good, classes=None, **values):
    """The file with another header of ours; ``classes``: so many of its classes stay."""
    header, data = parts(good)
    own = json.loads(header["__metadata__"]["pointdistill"]) | values
    if classes is not None:
        own["label_set"]["classes"] = own["label_set"]["classes"][:classes]
        own["label_set"]["remaps"] = {}
    header["__metadata__"]["pointdistill"] = json.dumps(own)
    return whole(header, data)


def with_nan(good):
    header, data = parts(good)
    name = next(n for n, e in header.items() if n != "__metadata__" and e["dtype"] == "F16")
    at = header[name]["data_offsets"][0]
    return whole(header, data[:at] + b"\xff\x7f" + data[at + 2 :])


def lay(path, content):
    """Put a file, or what else, under the path where the node looks."""
    if path.is_dir():
        path.rmdir()
    path.unlink(missing_ok=True)
    if content == "directory":
        path.mkdir()
    elif content == "pipe":
        os.mkfifo(path)
    elif content is not None:
        path.write_bytes(content)


def test_configure_says_what_is_wrong_and_succeeds_once_it_is_repaired(
    sender, start_node, weights, tmp_path
):
    from diagnostic_msgs.msg import DiagnosticArray

    from tests.abuse.hostile import plain, street

    good, mark = weights.read_bytes(), tmp_path / "was unpickled"
    path = tmp_path / "network.safetensors"
    client, told = sender.client, {}
    client.node.create_subscription(
        DiagnosticArray,
        "/diagnostics",
        lambda array: told.update({s.name.rpartition(" ")[2]: s for s in array.status}),
        100,
    )
    node = start_node(*RELIABLE, *on_cpu(path), "-p", "autostart:=false", program=COUNTED)
    complaint = f"cannot load model {path}: {path}"

    def said():
        return told["model"].message if "model" in told else ""

    for name, content, reason in faults(good, mark):
        lay(path, content)
        assert not client.change_state("configure", timeout=PATIENCE), name
        told.clear()  # what was said of the one before
        client.until(said, timeout=PATIENCE)
        assert said().startswith(complaint) and reason in said(), (name, said())
        assert told["model"].level == b"\x02", name
        assert complaint in node.log.read_text()
    assert not mark.exists(), "a pickle was read"

    lay(path, good)
    assert client.change_state("configure", timeout=PATIENCE)
    assert client.change_state("activate", timeout=PATIENCE)
    sender.ready()
    kind, first = sender(plain(street(np.random.default_rng(0), 50)))
    assert kind == "processed" and len(first.data) == 50 * 24
    client.until(lambda: told["model"].level == b"\x00", timeout=PATIENCE)
    assert stop(node) == 0
    assert "Traceback" not in node.log.read_text()
