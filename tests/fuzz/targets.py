# SPDX-License-Identifier: Apache-2.0
"""Every target by its name; their shares are percent."""

from tests.fuzz import arrays, bag_metadata, binfile, checkpoint, cloud, mcap_bag, pcd, sqlite_bag

TARGETS = {
    target.name: target
    for target in (
        *(cloud.TARGET, binfile.TARGET, pcd.TARGET, arrays.NPY, arrays.NPZ),
        *(mcap_bag.TARGET, sqlite_bag.TARGET, bag_metadata.TARGET, checkpoint.TARGET),
    )
}
