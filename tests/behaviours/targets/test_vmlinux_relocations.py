# SPDX-License-Identifier: GPL-2.0-only
"""Livepatch relocations (.klp.rela.) against symbols of vmlinux."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from harness.errors import ModuleRefused
from harness.livepatch.kernel_log import KernelLog
from harness.livepatch.patch import Livepatch
from harness.vm.elf.livepatch_relocation import LivepatchRelocation, with_livepatch_relocation

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.behaviours.conftest import Guestview

PATCH = "klp_test_vmlinux_relocation"
OF_A_TARGET, TARGET = "klp_test_relocation", "klp_target_mod"
# The text of /proc/version. It is not exported (init/version.c).
SYMBOL = "linux_banner"
POINTER, NEAR = ".klp_hidden", ".klp_hidden_near"
REFUSED = f"invalid access to vmlinux symbol '{SYMBOL}'"


@pytest.mark.behaviour("MO-12")
@pytest.mark.parametrize(
    ("section", "symbol"),
    [(POINTER, "klp_hidden_text"), (NEAR, "klp_hidden_near_text")],
    ids=["pointer", "distance"],
)
def test_resolved_before_init(
    livepatch: Livepatch,
    sample_modules: Mapping[str, Path],
    view: Guestview,
    tmp_path: Path,
    section: str,
    symbol: str,
) -> None:
    """The symbol can be used by the module's init, before the patch is enabled, and ever after."""
    module = tmp_path / f"{PATCH}.ko"
    relocation = LivepatchRelocation(
        section=section, symbol=symbol, object="vmlinux", stands_for=SYMBOL
    )
    module.write_bytes(with_livepatch_relocation(sample_modules[PATCH].read_bytes(), relocation))
    guest = livepatch.guest
    banner = guest.read("/proc/version").strip()
    patch = livepatch.load(module, wait=True)
    assert patch.module.parameter("seen").strip() == banner
    assert guest.read("/proc/cmdline").strip() == banner
    patch.disable()
    patch.unload()
    assert view.cmdline() == "original"


@pytest.fixture
def wrong(sample_modules: Mapping[str, Path], tmp_path: Path) -> Path:
    """A patch that names a symbol of vmlinux in a relocation section for its target."""
    module = tmp_path / f"{OF_A_TARGET}.ko"
    relocation = LivepatchRelocation(
        section=POINTER,
        symbol="klp_hidden_function",
        object=TARGET,
        stands_for=SYMBOL,
        symbol_object="vmlinux",
    )
    plain = sample_modules[OF_A_TARGET].read_bytes()
    module.write_bytes(with_livepatch_relocation(plain, relocation))
    return module


@pytest.mark.behaviour("MO-12")
def test_wrong_section_of_a_loaded_target(
    livepatch: Livepatch, view: Guestview, kernel_log: KernelLog, wrong: Path
) -> None:
    """A symbol of vmlinux in a section for a target that is loaded: the patch is refused."""
    livepatch.load_target(TARGET)
    with pytest.raises(ModuleRefused) as refused:
        livepatch.load(wrong)
    assert refused.value.errno == errno.EINVAL
    assert kernel_log.matching(REFUSED)
    assert livepatch.patches() == []
    assert view.target("f") == "original"


@pytest.mark.behaviour("MO-12")
def test_wrong_section_of_a_later_target(
    livepatch: Livepatch, view: Guestview, kernel_log: KernelLog, wrong: Path
) -> None:
    """A symbol of vmlinux in a section for a target that is loaded later: that is refused."""
    patch = livepatch.load(wrong, wait=True)
    with pytest.raises(ModuleRefused) as refused:
        livepatch.load_target(TARGET)
    assert refused.value.errno == errno.EINVAL
    assert kernel_log.matching(REFUSED)
    assert TARGET not in view.modules()
    assert patch.enabled
