# SPDX-License-Identifier: GPL-2.0-only
"""``race replay --story``: each switch and each call of a recording, in words."""
