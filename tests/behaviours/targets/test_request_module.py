# SPDX-License-Identifier: GPL-2.0-only
"""A task that needs a module while it holds a transition: step 1 of bundles-2017 would deadlock."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.agent_protocol import Op
from harness.livepatch.patch import Livepatch
from harness.livepatch.tasks import PatchState, Tasks
from harness.livepatch.waiting import QUICK_S, poll, scaled

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from harness.vm.guest.machine import Machine

TARGET, PATCH, REQUESTED = "klp_target_request", "klp_test_symbol", "klp_target_mod"
FILE = "/sys/kernel/klp_request/request"
# The kernel's loader waits in it for a line, so that the transition begins first.
GO = "/tmp/klp-go"
LOADER = """\
#!/bin/sh
read -r _ < {go}
exec /sbin/insmod {module}
"""


@pytest.mark.behaviour("MO-08")
def test_the_blocker_can_load_a_module(
    guest: Machine,
    livepatch: Livepatch,
    tasks: Tasks,
    tmp_path: Path,
    sample_modules: Mapping[str, Path],
) -> None:
    """A task in a patched function calls request_module() while the transition waits for it.

    The module is loaded, the task leaves the function, and the transition ends.
    """
    livepatch.load_target(TARGET)
    loader = tmp_path / "loader"
    loader.write_text(LOADER.format(go=GO, module=guest.upload(sample_modules[REQUESTED])))
    path = guest.upload(loader)
    assert guest.run(["chmod", "0700", path]).code == 0
    assert guest.run(["mkfifo", GO]).code == 0
    guest.write("/proc/sys/kernel/modprobe", path)
    blocker = guest.spawn("cat", FILE)
    deadline = scaled(guest, QUICK_S)
    assert poll(guest, f"/proc/{blocker.pid}/stack", Op.CONTAINS, "klp_request", deadline=deadline)
    patch = livepatch.load(PATCH, object=TARGET, function="klp_request")
    tasks.wait_all(PatchState.PATCHED, held_by=tasks.get(blocker.pid))
    guest.write(GO, "go\n")
    assert blocker.next_line(scaled(guest, QUICK_S)) == "request original"
    patch.wait_complete()
    assert livepatch.module(REQUESTED).loaded
    assert guest.read(FILE) == "klp_test_symbol\n"
