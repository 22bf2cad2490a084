# SPDX-License-Identifier: GPL-2.0-only
"""Watching a livepatch in a guest: plan, load, record, unload, and make a result of it."""
