# SPDX-License-Identifier: GPL-2.0-only
"""A patch that is disabled while there is a reference to its kobject."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.errors import ModuleRefused

if TYPE_CHECKING:
    from harness.livepatch.kernel_log import KernelLog
    from harness.livepatch.patch import Livepatch
    from harness.vm.guest.machine import Machine

HELD = "klp_test_held"
PARAMETER = f"/sys/module/{HELD}/parameters/held"


@pytest.mark.behaviour("LD-05")
@pytest.mark.behaviour("SY-05")
def test_module_stays_while_its_kobject_is_held(
    guest: Machine, livepatch: Livepatch, kernel_log: KernelLog
) -> None:
    """The module of a disabled patch stays until the last reference to its kobject is dropped.

    klp_free_patch_finish() waits for the release before it puts the module, since the kobject is in
    the module's memory (3ec24776).
    """
    patch = livepatch.load(HELD, wait=True)
    module = livepatch.module(HELD)
    guest.write(PARAMETER, "1")
    patch.disable(wait=False)
    kernel_log.wait_for(f"'{HELD}': unpatching complete")
    # The work that frees it was queued before; each of these waits for all CPUs' workqueues.
    other = livepatch.load("klp_test_cmdline_a", wait=True)
    other.disable()
    assert module.refcount == 1
    with pytest.raises(ModuleRefused):
        module.unload()
    guest.write(PARAMETER, "0")
    patch.wait_gone()
    assert module.wait_unused()
    module.unload()
    assert not module.loaded
