# SPDX-License-Identifier: Apache-2.0
"""Any layout is read right, and a damaged message gives CloudError or a right reading, never else.

The judge is a second reader that unpacks value by value with ``struct``, straight from the rules of
the message definition.
"""

import random
import struct
from types import SimpleNamespace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pointdistill_ros import LabelSet, Segmentation
from pointdistill_ros.errors import CloudError
from pointdistill_ros.io.cloud_layout import CloudField
from pointdistill_ros.io.pointcloud2 import LAYOUTS, decode, encode_labels

KITTI = LabelSet.named("semantic-kitti")
FORMATS = {1: "b", 2: "B", 3: "h", 4: "H", 5: "i", 6: "I", 7: "f", 8: "d"}


def slow_reading(message):
    """[N, 3] coordinates as Python floats, or None where the message allows no reading."""
    height, width, step = message.height, message.width, message.point_step
    if step > 2**30:
        return None
    if height * width == 0:
        return np.empty((0, 3))
    row_step = message.row_step if height > 1 else width * step
    if row_step < width * step or len(message.data) < (height - 1) * row_step + width * step:
        return None
    places = []
    for axis in "xyz":
        found = [f for f in message.fields if f.name == axis]
        if len(found) != 1 or found[0].datatype not in FORMATS or found[0].count not in (0, 1):
            return None
        code = (">" if message.is_bigendian else "<") + FORMATS[found[0].datatype]
        if not 0 <= found[0].offset <= step - struct.calcsize(code):
            return None
        places.append((code, found[0].offset))
    data = bytes(message.data)
    return np.array(
        [
            [struct.unpack_from(code, data, r * row_step + c * step + at)[0] for code, at in places]
            for r in range(height)
            for c in range(width)
        ],
        np.float64,
    )


def check(message):
    """Read and label a message; compare with the slow reading. True where it could be read."""
    expected = slow_reading(message)
    try:
        scan = decode(message)
    except CloudError:
        readable = False
    else:
        readable = True
        assert expected is not None, "read what cannot be read"
        with np.errstate(over="ignore"):
            np.testing.assert_array_equal(scan.xyz, expected.astype(np.float32))
        for column in (scan.intensity, scan.time, scan.ring):
            assert column is None or len(column) == len(scan)
        if scan.intensity is not None:
            assert ((scan.intensity >= 0) & (scan.intensity <= 1)).all()
        label_all_layouts(message, scan)
    return readable


def label_all_layouts(message, scan):
    count = len(scan)
    labels = (np.arange(count) % 19).astype(np.uint8)
    share = np.linspace(0, 1, count, dtype=np.float32)
    for layout in LAYOUTS:
        try:
            parts = encode_labels(message, Segmentation(labels, share, 1 - share, KITTI), layout)
        except CloudError:
            assert layout == "append"  # only where the input is labelled already
            assert any(f.name == "class_id" for f in message.fields)
            continue
        assert (parts.height, parts.width) == (message.height, message.width)
        assert len(parts.data) == count * parts.point_step
        if layout == "rgb" or not count:
            continue
        kinds = {2: "u1", 7: ">f4" if parts.is_bigendian else "<f4"}
        own = [f for f in parts.fields if f.name in ("class_id", "probability", "entropy")]
        view = np.frombuffer(
            parts.data,
            np.dtype(
                {
                    "names": [f.name for f in own],
                    "formats": [kinds[f.datatype] for f in own],
                    "offsets": [f.offset for f in own],
                    "itemsize": parts.point_step,
                }
            ),
        )
        np.testing.assert_array_equal(view["class_id"], labels)
        np.testing.assert_array_equal(view["probability"], share)
        np.testing.assert_array_equal(view["entropy"], 1 - share)
        if layout != "append":
            np.testing.assert_array_equal(decode(parts).xyz, scan.xyz)


NAMES = ["intensity", "signal", "ring", "line", "t", "timestamp", "rgb", "curvature", "_"]


@st.composite
def messages(draw):
    """A legal message: any order, types, gaps, overlaps, padding, byte order."""
    names = ["x", "y", "z", *draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=4))]
    fields, at = [], 0
    for name in draw(st.permutations(names)):
        datatype = draw(st.sampled_from([7, 7, 8, 1, 2, 3, 4, 5, 6]))
        offset = max(0, at + draw(st.integers(-2, 5)))
        fields.append(CloudField(name, offset, datatype, draw(st.sampled_from([0, 1]))))
        at = offset + struct.calcsize("<" + FORMATS[datatype])
    size = max(f.offset + struct.calcsize("<" + FORMATS[f.datatype]) for f in fields)
    step = size + draw(st.integers(0, 7))
    height, width = draw(st.integers(0, 4)), draw(st.integers(0, 4))
    row_step = width * step + draw(st.integers(0, 9))
    length = max(height, 1) * row_step + draw(st.integers(0, 9))
    data = random.Random(draw(st.integers(0, 2**32))).randbytes(length)
    return SimpleNamespace(
        height=height,
        width=width,
        fields=fields,
        is_bigendian=draw(st.booleans()),
        point_step=step,
        row_step=row_step,
        data=data,
    )


@given(messages())
def test_every_legal_layout_is_read_and_labelled(message):
    assert check(message)


NUMBERS = [0, 1, 2, 3, 7, 12, 13, 255, 65535, 2**31, 2**32 - 1]


def corrupted(rng):
    """A small cloud with one to three things wrong, or by luck none."""
    height, width, step = rng.randint(1, 3), rng.randint(1, 4), rng.randint(12, 30)
    fields = [CloudField(name, 4 * i, 7) for i, name in enumerate("xyz")]
    if step >= 18:
        fields += [CloudField("intensity", 12, 7), CloudField("ring", 16, 4)]
    if step >= 26:
        fields.append(CloudField("timestamp", 18, 8))
    message = SimpleNamespace(
        header=SimpleNamespace(stamp=SimpleNamespace(sec=1, nanosec=2), frame_id="f"),
        height=height,
        width=width,
        fields=fields,
        is_bigendian=False,
        point_step=step,
        row_step=width * step,
        data=rng.randbytes(height * width * step),
    )
    for _ in range(rng.randint(1, 3)):
        corrupt(message, rng)
    return message


def corrupt(message, rng):
    kind = rng.randrange(8)
    if kind == 0:
        name = rng.choice(["height", "width", "point_step", "row_step"])
        old = getattr(message, name)
        setattr(message, name, rng.choice([*NUMBERS, old + 1, max(0, old - 1), 2 * old]))
    elif kind == 1:
        message.is_bigendian = not message.is_bigendian
    elif kind == 2:
        message.data = message.data[: rng.randint(0, len(message.data))]
    elif kind == 3:
        message.data = message.data + rng.randbytes(rng.randint(0, 40))
    elif kind == 4 and message.fields:
        message.fields.pop(rng.randrange(len(message.fields)))
    elif kind == 5 and message.fields:
        message.fields.insert(rng.randint(0, 6), rng.choice(message.fields))
    elif message.fields:
        old = rng.randrange(len(message.fields))
        f = message.fields[old]
        message.fields[old] = CloudField(
            rng.choice([f.name, f.name, "x", "", "é\0", "intensity", "t", "class_id"]),
            rng.choice([f.offset, f.offset, f.offset + 1, *NUMBERS]),
            rng.choice([f.datatype, f.datatype, *range(11), 255]),
            rng.choice([f.count, f.count, *NUMBERS]),
        )


def test_ten_thousand_corrupted_messages():
    rng = random.Random(20)
    readable = sum(check(corrupted(rng)) for _ in range(10_000))
    assert 2_000 < readable < 8_000  # both ends are really tried


def test_reading_is_refused_only_where_it_must_be():
    rng = random.Random(21)
    for _ in range(2_000):
        message = corrupted(rng)
        others = [f for f in message.fields if f.name not in "xyz"]
        message.fields = [f for f in message.fields if f not in others]
        assert check(message) == (slow_reading(message) is not None)
