# SPDX-License-Identifier: Apache-2.0
"""Point Transformer V3 in plain torch: what is trained and what every engine is compared with."""
