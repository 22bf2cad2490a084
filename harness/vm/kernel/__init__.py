# SPDX-License-Identifier: GPL-2.0-only
"""From a kernel spec to a verified build, and the modules built against it."""
