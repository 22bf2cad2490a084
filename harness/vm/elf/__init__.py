# SPDX-License-Identifier: GPL-2.0-only
"""ELF files: modules and kernel images, read with pyelftools. Knows no kernel build."""
