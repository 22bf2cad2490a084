# SPDX-License-Identifier: GPL-2.0-only
"""What live patching costs, in instructions that the guest executes."""
