# SPDX-License-Identifier: GPL-2.0-only
"""A guest that fails at any request, while a livepatch is loaded, watched and unloaded.

The guest is scripted, and each of its calls fails once, in each of the ways in which calls to a
guest can fail. What is seen of the livepatch is then a failure of that kind, and never a pass.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.errors import GuestPanic, HarnessError, KlpError, LostConnection, LostGuest, NoSpace
from harness.livepatch.patch import Livepatch
from tests.unit.scripted_guest import ScriptedGuest, ScriptedTask

FAILURES: dict[str, Callable[[], BaseException]] = {
    "lost guest": lambda: LostGuest("QEMU was killed"),
    "lost connection": lambda: LostConnection("the agent ended"),
    "panic": lambda: GuestPanic("the guest panicked"),
    "no space": lambda: NoSpace("the disk is full"),
    "no reply": lambda: HarnessError("the guest agent answered what is no reply"),
    "time-out": lambda: TimeoutError("the guest did not answer"),
    "refused": lambda: OSError(errno.EIO, os.strerror(errno.EIO), "/sys"),
    "interrupt": KeyboardInterrupt,
}


class FailingGuest(ScriptedGuest):
    """A scripted guest whose n-th call fails."""

    def __init__(self, nth: int, failure: Callable[[], BaseException]) -> None:
        super().__init__()
        self._nth = nth
        self._failure = failure
        self._count = 0
        self.has_failed = False

    def _called(self, text: str) -> None:
        super()._called(text)
        self._count += 1
        if self._count == self._nth:
            self.has_failed = True
            raise self._failure()


def prepared(guest: ScriptedGuest) -> ScriptedGuest:
    """Let a patch of that guest be loaded, complete, be disabled and unloaded."""
    guest.scripted_tasks.append(ScriptedTask(tid=7, patch_state=0, stack="[<0>] f+0x1/0x2"))

    def load(_: str) -> None:
        guest.add_patch("klp_a", {"vmlinux": ["f,1"]}, transition=True)
        guest.later(lambda: guest.complete("klp_a"))

    guest.on_insmod["klp_a"] = load
    return guest


def one_life(guest: ScriptedGuest, module: Path) -> list[str]:
    """Load, wait, disable, wait, unload; return what was seen."""
    livepatch = Livepatch(guest, modules={"klp_a": module})
    patch = livepatch.load("klp_a")
    seen = [f"enabled {patch.enabled}", f"in transition {patch.in_transition}"]
    seen += [str(blocker.task.tid) for blocker in patch.blockers()]
    patch.wait_complete()
    seen.append(f"in transition {patch.in_transition}")
    guest.later(lambda: guest.complete("klp_a"))
    patch.disable()
    patch.wait_gone()
    patch.unload()
    return [*seen, f"loaded {livepatch.module('klp_a').loaded}"]


@pytest.mark.parametrize("name", FAILURES)
def test_each_call_to_the_guest_fails_once(name: str, tmp_path: Path) -> None:
    """A life of a patch in which a call fails ends with that failure, whichever call it was."""
    module = tmp_path / "klp_a.ko"
    module.write_bytes(b"")
    expected = one_life(prepared(ScriptedGuest()), module)
    failures = 0
    for number in range(1, 1000):
        guest = FailingGuest(number, FAILURES[name])
        kind = type(FAILURES[name]())
        allowed: tuple[Any, ...] = (kind, KlpError) if kind is OSError else (kind,)
        try:
            seen = one_life(prepared(guest), module)
        except allowed:
            failures += 1
            continue
        assert seen == expected, f"call {number}, {guest.calls[number - 1 : number]}"
        if not guest.has_failed:
            break
        pytest.fail(f"the failure of {guest.calls[number - 1]} was not seen")
    assert failures > 8
