# SPDX-License-Identifier: GPL-2.0-only
"""What the harness costs: figures, each with what it is compared to and the budget it has."""
