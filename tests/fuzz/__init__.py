# SPDX-License-Identifier: GPL-2.0-only
"""Damaged inputs by the hundred thousand: each is read, or refused in a sentence."""
