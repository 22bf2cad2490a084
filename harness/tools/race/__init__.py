# SPDX-License-Identifier: GPL-2.0-only
"""Races shown at will: reproducers, and campaigns over those that need luck."""
