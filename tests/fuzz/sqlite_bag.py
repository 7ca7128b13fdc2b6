# SPDX-License-Identifier: Apache-2.0
"""sqlite3 bags: database files, and databases with anything in place of numbers and names."""

import sqlite3
import struct

from pointdistill_ros.io.bag import POINTCLOUD2
from tests.fuzz.mcap_bag import cloud_cdr, read_everything
from tests.fuzz.target import Choices, Target, holding

_FILE, _VALUES = b"f", b"v"
_TOPICS = """CREATE TABLE topics(id INTEGER PRIMARY KEY, name TEXT, type TEXT,
 serialization_format TEXT, offered_qos_profiles TEXT, type_description_hash TEXT);"""
_MESSAGES = "CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id, timestamp, data);"
_FOUR = """CREATE TABLE schema(schema_version, ros_distro);
 CREATE TABLE message_definitions(id INTEGER PRIMARY KEY, topic_type, encoding,
 encoded_message_definition, type_description_hash);
 INSERT INTO schema VALUES (4, 'fuzz');"""
_QOS = "- {history: 1, depth: 1, reliability: 1}"


def check(data: bytes) -> None:
    kind, content = data[:1], data[1:]
    read_everything(holding("a.db3", with_values(content) if kind == _VALUES else content))


def with_values(data: bytes) -> bytes:
    """A database of the right tables whose values are what the bytes choose."""
    choices = Choices(data)
    database = sqlite3.connect(":memory:")
    database.executescript("PRAGMA page_size=512;" + _TOPICS + _MESSAGES)
    if choices.below(2):
        database.executescript(_FOUR)
        row = [_value(choices) for _ in range(4)]
        database.execute("INSERT INTO message_definitions VALUES (1, ?, ?, ?, ?)", row)
    for number in range(1 + choices.below(2)):
        row = [number, *(_value(choices) for _ in range(5))]
        database.execute("INSERT INTO topics VALUES (?, ?, ?, ?, ?, ?)", row)
    for _ in range(choices.below(4)):
        row = [_value(choices) for _ in range(3)]
        database.execute("INSERT INTO messages VALUES (NULL, ?, ?, ?)", row)
    database.commit()
    content = database.serialize()
    database.close()
    return content


def _value(choices: Choices) -> object:
    kind = choices.below(9)
    if kind == 0:
        return choices.number(1)
    if kind == 1:
        return choices.pick("/points", "cdr", POINTCLOUD2, "ros2msg", _QOS, "", "std_msgs/String")
    if kind == 2:
        return struct.unpack("<q", choices.take(8))[0]
    if kind == 3:
        return struct.unpack("<d", choices.take(8))[0]
    if kind == 4:
        return choices.take(choices.number()).decode("latin-1")
    if kind == 5:
        return choices.take(choices.number())
    if kind == 6:
        return CDR[: choices.number(2)]
    return CDR if kind == 7 else None


CDR = cloud_cdr()


def seeds() -> dict[str, bytes]:
    database = sqlite3.connect(":memory:")
    database.executescript("PRAGMA page_size=512;" + _TOPICS + _MESSAGES)
    topic = (1, "/points", POINTCLOUD2, "cdr", "", "")
    database.execute("INSERT INTO topics VALUES (?, ?, ?, ?, ?, ?)", topic)
    database.execute("INSERT INTO messages VALUES (NULL, 1, 7, ?)", (CDR,))
    database.commit()
    whole = _FILE + database.serialize()
    database.close()
    # one topic 0 "/points" of clouds in cdr, one message on it at time 5
    values = bytes([0, 0, 1, 0, 1, 2, 1, 1, 1, 5, 1, 5, 1, 0, 0, 0, 5, 7])
    return {"database": whole, "values": _VALUES + values}


TARGET = Target("sqlite", check, seeds, share=4, max_len=8192)
