# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's own livepatch selftests, run in guests as the tree at hand has them."""
