# SPDX-License-Identifier: GPL-2.0-only
"""Mechanical mutants: each statement of some source files broken once, all in one kernel build."""
