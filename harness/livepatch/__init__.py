# SPDX-License-Identifier: GPL-2.0-only
"""Live patching as seen from user space: patches, tasks, transitions, callbacks."""
