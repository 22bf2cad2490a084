# SPDX-License-Identifier: GPL-2.0-only
"""What became slower, what began to fail, and when: from the files of earlier runs."""
