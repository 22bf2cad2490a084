# SPDX-License-Identifier: GPL-2.0-only
"""A target whose patch has livepatch relocations (.klp.rela.) comes again."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from harness.errors import ModuleRefused
from harness.livepatch.kernel_log import KernelLog
from harness.livepatch.patch import Livepatch
from harness.vm.elf.relocation import LivepatchRelocation, with_livepatch_relocation

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.behaviours.conftest import Guestview

TARGET, PATCH = "klp_target_mod", "klp_test_relocation"


@pytest.mark.behaviour("MO-07")
@pytest.mark.parametrize(
    ("section", "symbol"),
    [
        (".klp_hidden", "klp_hidden_function"),
        (".klp_hidden_near", "klp_hidden_near_function"),
    ],
    ids=["pointer", "distance"],
)
def test_relocated_target_comes_again(
    livepatch: Livepatch,
    sample_modules: Mapping[str, Path],
    view: Guestview,
    kernel_log: KernelLog,
    tmp_path: Path,
    section: str,
    symbol: str,
) -> None:
    """A kernel that clears relocations when the target goes (0c05e7bd) relocates them again.

    One that does not finds the old value in their place, and refuses the target with ENOEXEC until
    the patch is gone.
    """
    module = tmp_path / f"{PATCH}.ko"
    relocation = LivepatchRelocation(
        section=section,
        symbol=symbol,
        object=TARGET,
        stands_for="klp_target_g",
    )
    plain = sample_modules[PATCH].read_bytes()
    module.write_bytes(with_livepatch_relocation(plain, relocation))
    patch = livepatch.load(module, wait=True)
    target = livepatch.load_target(TARGET)
    assert livepatch.guest.read("/sys/kernel/klp_target/f") == "g original\n"
    target.unload()
    if view.has_function("clear_relocate_add"):
        livepatch.load_target(TARGET)
        assert livepatch.guest.read("/sys/kernel/klp_target/f") == "g original\n"
        return
    kernel_log.mark()
    with pytest.raises(ModuleRefused) as refused:
        livepatch.load_target(TARGET)
    assert refused.value.errno == errno.ENOEXEC
    assert kernel_log.matching("Skipping invalid relocation target")
    assert kernel_log.matching(f"refusing to load module '{TARGET}'")
    assert TARGET not in view.modules()
    assert (patch.enabled, patch.in_transition) == (True, False)
    patch.disable()
    patch.unload()
    livepatch.load_target(TARGET)
    assert view.target("f") == "original"
