# SPDX-License-Identifier: Apache-2.0
"""Training on a CPU with compiled kernels, forward and backward."""
