# SPDX-License-Identifier: GPL-2.0-only
"""Consistency models: which one a kernel has, found by experiment, and those of 2014 compared."""
