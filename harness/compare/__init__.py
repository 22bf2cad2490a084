# SPDX-License-Identifier: GPL-2.0-only
"""Which rules two kernels differ in."""
