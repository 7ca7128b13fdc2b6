# SPDX-License-Identifier: Apache-2.0
"""``--ray`` of the commands that take many inputs: what a process of the cluster does with one."""
