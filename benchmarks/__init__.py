# SPDX-License-Identifier: GPL-2.0-only
"""Measures and grades the harness itself: its costs against budgets, its checks by mutants."""
