# SPDX-License-Identifier: GPL-2.0-only
"""Functions that are on every task's stack, as data: risky.toml beside this file."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_FILE = Path(__file__).with_name("risky.toml")


@cache
def risky_functions() -> Mapping[str, str]:
    """Return functions of vmlinux that a patch had better leave alone, each with the reason."""
    groups = tomllib.loads(_FILE.read_text(encoding="utf-8"))["group"]
    return MappingProxyType({name: group["why"] for group in groups for name in group["functions"]})
