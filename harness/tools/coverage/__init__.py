# SPDX-License-Identifier: GPL-2.0-only
"""Coverage that earlier runs have written: shown, merged, compared."""
