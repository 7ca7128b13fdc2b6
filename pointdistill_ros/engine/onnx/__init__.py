# SPDX-License-Identifier: Apache-2.0
"""Export to ONNX, and the runtimes that take it. docs/export.md."""
