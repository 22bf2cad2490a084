# SPDX-License-Identifier: GPL-2.0-only
"""Which consistency model a kernel has, found by experiment."""
