# SPDX-License-Identifier: GPL-2.0-only
"""Compiled files of Python, in the cache where Python is set to leave none beside its sources.

Without any, to compile what a command imports takes a third of its start.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING

from harness.errors import UsageError
from harness.resources import cache_root

if TYPE_CHECKING:
    from collections.abc import Iterator


def keep() -> None:
    """Have this process keep them in the cache, where it is set to write none."""
    # Whoever opens an unusable cache says what is wrong with it.
    if sys.dont_write_bytecode:
        with contextlib.suppress(OSError, UsageError):
            folder = cache_root() / "bytecode"
            folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            folder.mkdir(exist_ok=True, mode=0o700)
            sys.dont_write_bytecode, sys.pycache_prefix = False, str(folder)


@contextlib.contextmanager
def kept_by_children() -> Iterator[None]:
    """Have processes that this one starts keep them where it does itself."""
    if sys.pycache_prefix is None:
        yield
        return
    before = dict(os.environ)
    os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
