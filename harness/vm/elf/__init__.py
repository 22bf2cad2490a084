# SPDX-License-Identifier: GPL-2.0-only
"""ELF files: modules and kernel images, checked as they are read. Knows no kernel build."""
