# SPDX-License-Identifier: Apache-2.0
"""The network of model/ in faster forms: same function, same labels."""
