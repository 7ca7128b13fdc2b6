# SPDX-License-Identifier: Apache-2.0
"""Archives for the official benchmarks: written scan by scan, checked as the servers check them."""
