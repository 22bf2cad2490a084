# SPDX-License-Identifier: GPL-2.0-only
"""Interleavings of two actions with one CPU held at a point, on an unmodified kernel."""
