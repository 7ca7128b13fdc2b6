# SPDX-License-Identifier: Apache-2.0
"""metadata.yaml of a bag folder, whose storage is an intact mcap file."""

from pointdistill_ros.io.bag import POINTCLOUD2
from tests.fuzz import mcap_bag
from tests.fuzz.target import Target, holding

_METADATA = f"""rosbag2_bagfile_information:
  version: 9
  storage_identifier: mcap
  relative_file_paths: [bag.mcap]
  duration: {{nanoseconds: 0}}
  starting_time: {{nanoseconds_since_epoch: 7}}
  message_count: 1
  topics_with_message_count:
  - topic_metadata:
      name: /points
      type: {POINTCLOUD2}
      serialization_format: cdr
      offered_qos_profiles: []
    message_count: 1
"""


STORAGE = mcap_bag.whole_file()


def check(data: bytes) -> None:
    holding("folder/bag.mcap", STORAGE)
    mcap_bag.read_everything(holding("folder/metadata.yaml", data).parent)


def seeds() -> dict[str, bytes]:
    old = _METADATA.replace("version: 9", "version: 4").replace("[]", "''")
    return {"plain": _METADATA.encode(), "version-4": old.encode()}


TARGET = Target("metadata", check, seeds, share=1, max_len=1024)
