# SPDX-License-Identifier: Apache-2.0
"""The moving picture of README.md: a simulated drive, labelled by the shipped student."""
