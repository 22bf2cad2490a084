# SPDX-License-Identifier: GPL-2.0-only
"""Kernels that are broken on purpose, and which tests notice."""
