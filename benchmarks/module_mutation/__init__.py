# SPDX-License-Identifier: GPL-2.0-only
"""Correct livepatches that are broken on purpose in their files, and which checks notice."""
