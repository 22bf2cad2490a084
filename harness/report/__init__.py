# SPDX-License-Identifier: GPL-2.0-only
"""Results as people and programs read them: terminal, JSON, JUnit."""
