# SPDX-License-Identifier: GPL-2.0-only
"""Livepatches taint the kernel; files that are no module of this kernel are refused."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from harness.errors import ModuleRefused
from harness.livepatch.patch import Livepatch
from harness.vm.kernel.signing import without_signature

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tests.behaviours.conftest import Guestview

TAINT_LIVEPATCH = 1 << 15
PATCH = "klp_test_cmdline_a"


@pytest.mark.behaviour("LD-07")
def test_livepatch_taints(livepatch: Livepatch) -> None:
    """A livepatch sets the taint K, which stays; an ordinary module does not set it."""
    livepatch.load_target("klp_target_mod")
    assert not _taint(livepatch) & TAINT_LIVEPATCH
    patch = livepatch.load(PATCH, wait=True)
    assert _taint(livepatch) & TAINT_LIVEPATCH
    assert "K" in livepatch.guest.read(f"/sys/module/{PATCH}/taint")
    patch.disable()
    patch.unload()
    assert _taint(livepatch) & TAINT_LIVEPATCH


def _wrong_vermagic(module: bytes) -> bytes:
    # Not the release: with CONFIG_MODVERSIONS the kernel ignores that (same_magic()).
    start = module.index(b"vermagic=")
    end = module.index(b"\0", start)
    magic = module[start:end].replace(b"mod_unload", b"mod_nuload")
    assert magic != module[start:end]
    return module[:start] + magic + module[end:]


def _truncated(module: bytes) -> bytes:
    return module[: len(module) // 2]


def _no_elf(module: bytes) -> bytes:
    return b"#!/bin/sh\n".ljust(len(module), b"#")


@pytest.mark.behaviour("LD-07")
@pytest.mark.parametrize("damage", [_wrong_vermagic, _truncated, _no_elf])
def test_damaged_file_is_refused(
    livepatch: Livepatch,
    view: Guestview,
    sample_modules: Mapping[str, Path],
    tmp_path: Path,
    damage: Callable[[bytes], bytes],
) -> None:
    """A wrong vermagic, a truncated file, no ELF: ENOEXEC, and nothing remains."""
    damaged = tmp_path / f"{PATCH}.ko"
    damaged.write_bytes(damage(without_signature(sample_modules[PATCH].read_bytes())))
    with pytest.raises(ModuleRefused) as refused:
        livepatch.load(damaged)
    assert refused.value.errno == errno.ENOEXEC
    assert PATCH not in view.modules()
    assert livepatch.patches() == []
    assert not _taint(livepatch) & TAINT_LIVEPATCH
    livepatch.load(PATCH, wait=True)
    assert view.cmdline() == PATCH


def _taint(livepatch: Livepatch) -> int:
    return int(livepatch.guest.read("/proc/sys/kernel/tainted"))
