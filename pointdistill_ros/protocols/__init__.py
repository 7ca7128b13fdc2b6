# SPDX-License-Identifier: Apache-2.0
"""How a scan is labelled for a benchmark: one pass, all fragments, all views.

P1, P2 and P3 give different figures for the same weights, so every table names its protocol.
"""
