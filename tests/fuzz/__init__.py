# SPDX-License-Identifier: Apache-2.0
"""Everything that reads what strangers wrote, as functions of some bytes; see README.md."""
