# SPDX-License-Identifier: GPL-2.0-only
"""Compiled files are kept in the cache where Python is set to leave none beside its sources."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from harness.cli import bytecode

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def version(cache: Path, **more: str) -> None:
    before = {name: value for name, value in os.environ.items() if name != "PYTHONPYCACHEPREFIX"}
    environment = {**before, "KLP_HARNESS_CACHE": str(cache), **more}
    command = [sys.executable, "-m", "harness.cli", "--version"]
    subprocess.run(command, env=environment, check=True, capture_output=True)


def test_a_command_keeps_them_in_the_cache(tmp_path: Path) -> None:
    """Private to the user, as the cache is; beside its sources a command leaves nothing new."""
    cache = tmp_path / "made" / "cache"
    version(cache, PYTHONDONTWRITEBYTECODE="1")
    assert list((cache / "bytecode").rglob("harness/cli/app.*.pyc"))
    assert cache.stat().st_mode & 0o777 == 0o700


def test_python_keeps_them_where_it_wants_else(tmp_path: Path) -> None:
    """Without that setting, here where another one says, and the cache has none."""
    cache, own = tmp_path / "cache", tmp_path / "own"
    version(cache, PYTHONDONTWRITEBYTECODE="", PYTHONPYCACHEPREFIX=str(own))
    assert not (cache / "bytecode").exists()
    assert list(own.rglob("harness/cli/app.*.pyc"))


def test_a_cache_that_cannot_be_used_is_another_ones_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python then compiles what it imports, as before."""
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    for name in ("file", "with space"):
        monkeypatch.setenv("KLP_HARNESS_CACHE", str(tmp_path / name))
        bytecode.keep()
        assert sys.dont_write_bytecode
