# SPDX-License-Identifier: GPL-2.0-only
"""gdb on an interleaving: A stands at its point in a loop, and the other CPU is free."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from harness.deadline import Deadline
from harness.errors import UsageError
from harness.tools.race.explore.control import NotReached
from harness.tools.race.explore.duel import Word
from harness.tools.race.explore.guests import fresh_guest
from harness.tools.race.explore.running import A
from harness.vm.guest.gdb_server import GDB_SOCKET

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.tools.race.explore.pairs import Pair
    from harness.tools.race.explore.points import Hold
    from harness.tools.race.explore.scene import Scenes

_LONGEST_S = 7 * 86400.0


def debug(scenes: Scenes, pair: Pair, hold: Hold, say: Callable[[str], None]) -> None:
    """Hold A at a point, and leave the guest to gdb until it ends or this is interrupted.

    The guest stands still until gdb continues it: then B acts, and A goes round its loop. Raises
    UsageError when A does not pass the point, and how the guest ended.
    """
    with fresh_guest(scenes, pair, "gdb") as guest:
        held = guest.held
        a, b = pair.steps(pair.a), pair.steps(pair.b)
        held.arm(a, b, pair.after())
        held.begin_a(len(a))
        try:
            held.to_point(hold.a, len(a))
        except NotReached:
            raise UsageError(f"{pair.a.name} does not pass '{hold.a}' here") from None
        at = guest.gdb.pc(A)
        held.park(A)
        held.duel.set(Word.B_GO, len(b))
        guest.server.disconnect()
        vmlinux = shlex.quote(str(scenes.kernel.vmlinux))
        place = shlex.quote(f"target remote {guest.clone.folder / GDB_SOCKET}")
        say("the guest stands still; run this in another terminal:")
        say(f"gdb {vmlinux} -ex {place}")
        say(f"continue: B acts on CPU 1 (thread 2), and A stands at {guest.scene.code.where(at)}")
        say(f"to let A go on: thread 1, set $pc = {at:#x}, continue")
        hypervisor = guest.hypervisor
        hypervisor.events.wait(lambda: False, Deadline.after(_LONGEST_S), between=hypervisor.check)
