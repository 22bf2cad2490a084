# SPDX-License-Identifier: GPL-2.0-only
"""The kernel logs of all guests: clean only when each was read to its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.errors import GuestPanic, HarnessError, KernelSplat, KernelVerdict
from harness.tools.verify.verdict import failed, not_run, passed
from harness.vm.kernel.codes import Code

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.tools.verify.scene import SceneResult
    from harness.tools.verify.verdict import Check
    from harness.vm.guest.machine import Machine

NO_SPLAT = "no-splat"
"""The check of all guests' logs."""


def read_log(machine: Machine, result: SceneResult) -> None:
    """Look at all that the guest's kernel has printed, whichever way its scene has ended.

    What keeps it from being read to its end is noted: such a log is not clean.
    """
    try:
        machine.check_splats()
    except (KernelSplat, GuestPanic) as error:
        result.unread = None
        if not result.excused:
            result.splat = result.splat or error.message
    except (KernelVerdict, OSError) as error:
        # The guest has hung, was reset, or does not answer.
        result.unread = str(error).splitlines()[0]
    except HarnessError as error:
        result.unread = error.message
        result.error = result.error or error
    else:
        result.unread = None


def no_splat(results: Sequence[SceneResult]) -> Check:
    """Return the check of all guests' logs.

    It is not-run when there was no guest, and when a log was not read to its end.
    """
    splats = {each.spec.name: each.splat for each in results if each.splat}
    if splats:
        first = next(iter(splats.values()))
        lines = tuple(f"{name}: {splat}" for name, splat in splats.items())
        return failed(NO_SPLAT, Code.SPLAT, f"in {', '.join(splats)}: {first}", lines=lines)
    guests = [each for each in results if each.has_guest]
    if not guests:
        return not_run(NO_SPLAT, "no guest was started, so no kernel log was read")
    unread = {each.spec.name: each.unread for each in guests if each.unread is not None}
    if unread:
        name, why = next(iter(unread.items()))
        more = f" and of {len(unread) - 1} more" if len(unread) > 1 else ""
        detail = f"the kernel log of {name}{more} was not read to its end: {why}"
        return not_run(NO_SPLAT, detail)
    return passed(
        NO_SPLAT,
        f"the kernel reported no bug in any of {len(guests)} guests, whose logs were read to "
        "their ends",
    )
