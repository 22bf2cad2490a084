# SPDX-License-Identifier: GPL-2.0-only
"""mutants sweep --module: a livepatch's source broken once everywhere, judged by ``verify``."""
