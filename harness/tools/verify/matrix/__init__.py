# SPDX-License-Identifier: GPL-2.0-only
"""Patches x kernels: verify as a job of many cells, with results that are kept as they come."""
