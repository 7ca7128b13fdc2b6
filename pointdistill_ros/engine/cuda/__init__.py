# SPDX-License-Identifier: Apache-2.0
"""The GPU engine: fixed capacities, graphs, Triton kernels with a plain twin. docs/gpu.md."""
