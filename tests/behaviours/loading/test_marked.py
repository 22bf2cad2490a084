# SPDX-License-Identifier: GPL-2.0-only
"""Livepatches must be marked as such, and no module may have the name vmlinux."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest
from elftools.elf.elffile import ELFFile

from harness.errors import ModuleRefused
from harness.livepatch.kernel_log import KernelLog
from harness.livepatch.patch import Livepatch
from harness.vm.kernel.signing import without_signature

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.behaviours.conftest import Guestview

NAME_SECTION = ".gnu.linkonce.this_module"
PLAIN = "klp_target_notrace"


@pytest.mark.behaviour("LD-03")
def test_module_not_marked_as_livepatch(
    livepatch: Livepatch, view: Guestview, kernel_log: KernelLog
) -> None:
    """A module that enables a patch without MODULE_INFO(livepatch) is refused with EINVAL."""
    with pytest.raises(ModuleRefused) as refused:
        livepatch.load("klp_test_notlivepatch")
    assert refused.value.errno == errno.EINVAL
    assert kernel_log.matching("klp_test_notlivepatch.* is not marked as a livepatch module")
    assert livepatch.patches() == []
    assert "klp_test_notlivepatch" not in view.modules()
    assert view.cmdline() == "original"


@pytest.mark.behaviour("LD-03")
def test_module_called_vmlinux(
    livepatch: Livepatch,
    sample_modules: Mapping[str, Path],
    tmp_path: Path,
    view: Guestview,
    kernel_log: KernelLog,
) -> None:
    """A module named vmlinux is EINVAL: in patches that names the kernel (kernel/livepatch)."""
    impostor = tmp_path / "vmlinux.ko"
    impostor.write_bytes(_renamed(sample_modules[PLAIN], PLAIN, "vmlinux"))
    guest = livepatch.guest
    with pytest.raises(ModuleRefused) as refused:
        guest.insmod(guest.upload(impostor))
    assert refused.value.errno == errno.EINVAL
    assert "vmlinux" not in view.modules()
    assert kernel_log.matching("vmlinux.ko: invalid module name")
    livepatch.load_target(PLAIN)
    assert PLAIN in view.modules()


def _renamed(module: Path, old: str, new: str) -> bytes:
    """Return a module with another name in its struct module, which the kernel reads."""
    with module.open("rb") as file:
        section = ELFFile(file).get_section_by_name(NAME_SECTION)
        assert section is not None
        start, size = section["sh_offset"], section["sh_size"]
    data = bytearray(without_signature(module.read_bytes()))
    place = data.index(old.encode(), start, start + size)
    data[place : place + len(old)] = new.encode().ljust(len(old), b"\0")
    return bytes(data)
