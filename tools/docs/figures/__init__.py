# SPDX-License-Identifier: Apache-2.0
"""The figures of docs/concepts.md: `python -m tools.docs.figures`. One file draws one of them."""
