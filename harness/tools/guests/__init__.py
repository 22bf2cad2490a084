# SPDX-License-Identifier: GPL-2.0-only
"""What can be done with a guest that was kept: a shell, gdb, a dump, its end."""
