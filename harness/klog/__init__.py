# SPDX-License-Identifier: GPL-2.0-only
"""The kernel log: records, splats, and the policy that says which of them fail a test."""
