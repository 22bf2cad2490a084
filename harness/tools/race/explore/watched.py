# SPDX-License-Identifier: GPL-2.0-only
"""A held inside of an access to memory that KCSAN watches, so that B meets it for certain.

KCSAN watches one access in some thousands, for microseconds, and reports who else has touched the
same memory meanwhile (kernel/kcsan/core.c, kcsan_setup_watchpoint()). Here it watches the one at
which A stands, for as long as A is held, and no other: what it reports is a data race of A and B.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.tools.race.explore.points import Point
from harness.tools.race.explore.running import A, B

if TYPE_CHECKING:
    from harness.tools.race.explore.kernel_code import KernelCode
    from harness.tools.race.explore.running import RunningGuest

BEGIN = Point(function="kcsan_setup_watchpoint")
"""Where it begins to watch an access."""
WAIT = Point(function="kcsan_setup_watchpoint", callee="__udelay")
"""Where a CPU waits for others to touch what it watches."""
_ENABLED, _SKIP = "kcsan_enabled", "kcsan_skip"
_NEVER = 1 << 40


class KcsanWatch:
    """Has KCSAN watch one access of a guest that stands still."""

    def __init__(self, held: RunningGuest, code: KernelCode) -> None:
        self._held = held
        self._enabled = code.symbol(_ENABLED)
        self._skip = code.percpu(_SKIP)

    def begin(self) -> None:
        """Let CPU A watch its next access, and CPU B none."""
        self._set_skip(A, 0)
        self._set_skip(B, _NEVER)
        self._held.gdb.write(self._enabled, b"\1", A)

    def hold(self) -> None:
        """Let CPU A watch no other access. KCSAN counts anew when it has begun to watch one."""
        self._set_skip(A, _NEVER)

    def end(self) -> None:
        """Compare no more: what was touched while A was held is known."""
        self._held.gdb.write(self._enabled, b"\0", A)

    def _set_skip(self, cpu: int, count: int) -> None:
        address = self._held.percpu(cpu, self._skip)
        self._held.gdb.write(address, count.to_bytes(8, "little"), cpu)
