# SPDX-License-Identifier: GPL-2.0-only
"""What to verify, and how."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class LoadProfile(StrEnum):
    """What else the guest does while the patch is loaded and unloaded."""

    FORKS = "forks"
    SYSCALLS = "syscalls"
    CPU = "cpu"
    MEMORY = "memory"
    MODULES = "modules"


@dataclass(frozen=True, kw_only=True)
class VerifyRequest:
    """One livepatch module to verify.

    ``targets`` are the modules that it patches, loaded in this order; ``replaces`` older versions
    of the patch, after each of which it is loaded. ``check`` is a script that runs in the guest
    with the argument before, during or after, and ends with 0 when the kernel behaves as it should
    then; or a pytest file (NAME.py), whose tests run on the host. ``load``: these profiles only,
    or programs of the user's; none given: all profiles. ``scenes``: only scenes whose names begin
    so; none given: all. ``within_s`` is how long a transition may take on quick hardware.
    ``thorough``: for longer, and each load by itself too. Lockdep and KASAN are up to the kernel.
    """

    module: Path
    targets: tuple[Path, ...] = ()
    replaces: tuple[Path, ...] = ()
    params: Mapping[str, str] = field(default_factory=dict)
    check: Path | None = None
    load: tuple[LoadProfile | Path, ...] = ()
    scenes: tuple[str, ...] = ()
    thorough: bool = False
    cycles: int = 50
    within_s: float = 30.0
    check_timeout_s: float = 20.0
