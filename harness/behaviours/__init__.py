# SPDX-License-Identifier: GPL-2.0-only
"""The rules of live patching: their table, the tests of each, and their results."""
