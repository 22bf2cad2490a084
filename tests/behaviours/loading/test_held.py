# SPDX-License-Identifier: GPL-2.0-only
"""A patch that is disabled while somebody still holds its kobject."""

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
    """The module of a disabled patch stays until the last user of its kobject is done (3ec24776).

    klp_free_patch_finish() waits for the release before it puts the module: what the kobject lies
    in is the module's memory.
    """
    patch = livepatch.load(HELD, wait=True)
    module = livepatch.module(HELD)
    guest.write(PARAMETER, "1")
    patch.disable(wait=False)
    kernel_log.wait_for(f"'{HELD}': unpatching complete")
    # Its work to free was queued before; each of these waits for all CPUs' work queues in turn.
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
