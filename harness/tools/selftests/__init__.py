# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's own livepatch selftests, run in guests."""
