# SPDX-License-Identifier: GPL-2.0-only
"""Measurements of the budgets that docs promise."""
