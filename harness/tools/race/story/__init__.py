# SPDX-License-Identifier: GPL-2.0-only
"""``race replay --story``: what a recording shows, told from every switch and every call."""
