# SPDX-License-Identifier: GPL-2.0-only
"""What splats on the console and a panic say, and of whom: the kernel, or the host."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from harness.errors import GuestPanic, HarnessError, KernelSplat
from harness.klog.splats import Category

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from harness.klog.splats import Splat


class Watched(Protocol):
    """Who knows for how long the guest could not run: Liveness."""

    def excuse(self, lines: tuple[str, ...]) -> HarnessError | None:
        """Return the error that explains what the guest printed, None without one."""


def of_splats(
    splats: Sequence[Splat], watched: Watched | None, folder: Path
) -> KernelSplat | HarnessError:
    """Return the error for these splats, one at least.

    When all of them may come of time that the host took from the guest, and it did take it, that
    is the error, with the first splat's lines: GuestStopped or GuestStarved.
    """
    excuse = _excuse(splats, watched, folder)
    if excuse is not None:
        return excuse
    more = f" (and {len(splats) - 1} more)" if len(splats) > 1 else ""
    return KernelSplat(
        f"splat in the kernel log: {splats[0].title}{more}",
        details=_lines(splats[0]),
        artefacts=folder,
    )


def of_panic(
    splats: Sequence[Splat], watched: Watched | None, folder: Path, tail: tuple[str, ...]
) -> GuestPanic | HarnessError:
    """Return the error for a panic, given all splats that no test declared.

    Options make a kernel panic on the reports that `of_splats` excuses (softlockup_panic,
    hung_task_panic, panic_on_rcu_stall, panic_on_warn): such a panic is excused with its cause.
    ``tail`` is the console's, for a panic of which no text is there.
    """
    causes = [splat for splat in splats if splat.category is not Category.PANIC]
    excuse = _excuse(causes, watched, folder) if causes else None
    if excuse is not None:
        return excuse
    title = splats[0].title if splats else "no text reached the console"
    details = _lines(splats[0]) if splats else tail
    return GuestPanic(f"the guest panicked: {title}", details=details, artefacts=folder)


def _excuse(splats: Sequence[Splat], watched: Watched | None, folder: Path) -> HarnessError | None:
    if watched is None or not all(splat.may_come_of_lost_time for splat in splats):
        return None
    excuse = watched.excuse(_lines(splats[0]))
    if excuse is not None:
        excuse.artefacts = folder
    return excuse


def _lines(splat: Splat) -> tuple[str, ...]:
    return tuple(splat.text.splitlines())
