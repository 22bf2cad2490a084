# SPDX-License-Identifier: GPL-2.0-only
"""What an unmodified kernel executes, as QEMU sees it: its coverage, and its consistency."""
