# SPDX-License-Identifier: GPL-2.0-only
"""klp-harness: tests Linux kernel live patching on real kernels in QEMU."""

__version__ = "0.2.0"
