# SPDX-License-Identifier: GPL-2.0-only
"""Compiled files of Python, in the cache where Python is set to leave none beside its sources.

Without any, to compile what a command imports takes a third of its start.
"""

from __future__ import annotations

import contextlib
import sys

from harness.errors import UsageError
from harness.resources import cache_root


def keep() -> None:
    """Have this process keep them in the cache, where it is set to write none."""
    # Whoever opens an unusable cache says what is wrong with it.
    if sys.dont_write_bytecode:
        with contextlib.suppress(OSError, UsageError):
            folder = cache_root() / "bytecode"
            folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            folder.mkdir(exist_ok=True, mode=0o700)
            sys.dont_write_bytecode, sys.pycache_prefix = False, str(folder)
