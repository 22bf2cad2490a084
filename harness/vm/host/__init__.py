# SPDX-License-Identifier: GPL-2.0-only
"""The machine we run on: its processes, tools, accelerator, capacity and cache."""
