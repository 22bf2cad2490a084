# SPDX-License-Identifier: GPL-2.0-only
"""What a guest printed after the host took its time is not the kernel's fault; the rest is."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import GuestPanic, GuestStarved, HarnessError, KernelSplat
from harness.klog.splats import find_splats
from harness.vm.guest.splat_verdict import of_panic, of_splats

DATA = Path(__file__).parent / "data" / "klog"
FOLDER = Path("/run")
# Of a 7.2 guest to which the host gave no CPU.
TIMER = """\
[   42.000000] WARNING: kernel/time/hrtimer.c:1100 at hrtimer_forward+0x9c/0xd0, CPU#1: swapper/1/0
[   42.000001] Modules linked in: klp_target_gate(O)
[   42.000002] RIP: 0010:hrtimer_forward+0x9c/0xd0
[   42.000003] Call Trace:
[   42.000004]  <IRQ>
[   42.000005]  tick_nohz_handler+0x77/0xf0
[   42.000006]  </IRQ>
[   42.000007] ---[ end trace 0000000000000000 ]---
"""
HANDLER = TIMER.replace("tick_nohz_handler", "klp_ftrace_handler")
MODULE = TIMER.replace("tick_nohz_handler+0x77/0xf0", "nap+0x77/0xf0 [klp_target_nap]")
PANIC = "[   43.000000] Kernel panic - not syncing: {}\n"


class Watched:
    """A guest that could not run, or could."""

    def __init__(self, *, starved: bool) -> None:
        self._starved = starved

    def excuse(self, lines: tuple[str, ...]) -> HarnessError | None:
        """Return what a starved guest's report is."""
        return GuestStarved("it waited for a CPU", details=lines) if self._starved else None


def log_of(name: str) -> str:
    return (DATA / f"{name}.log").read_text(encoding="utf-8").partition("\n\n")[2]


@pytest.mark.parametrize(
    "log",
    [TIMER, log_of("soft-lockup"), log_of("hung-task"), TIMER + log_of("soft-lockup")],
    ids=["timer", "lockup", "hung", "both"],
)
def test_what_lost_time_explains(log: str) -> None:
    """A stall, or a warning outside of livepatching: of the host, and kept, if time was lost."""
    splats = find_splats(log)
    starved = of_splats(splats, Watched(starved=True), FOLDER)
    assert isinstance(starved, GuestStarved)
    assert starved.details == tuple(splats[0].text.splitlines())
    assert starved.artefacts == FOLDER
    assert isinstance(of_splats(splats, Watched(starved=False), FOLDER), KernelSplat)
    assert isinstance(of_splats(splats, None, FOLDER), KernelSplat)


@pytest.mark.parametrize(
    "log",
    [HANDLER, MODULE, log_of("oops-null"), log_of("kasan-use-after-free"), TIMER + HANDLER],
    ids=["livepatch", "module", "oops", "kasan", "one-of-two"],
)
def test_what_lost_time_does_not_explain(log: str) -> None:
    """A warning in livepatching or in a module, and damage, are the kernel's on any host."""
    error = of_splats(find_splats(log), Watched(starved=True), FOLDER)
    assert isinstance(error, KernelSplat)


@pytest.mark.parametrize(
    ("log", "kind"),
    [
        (log_of("soft-lockup") + PANIC.format("softlockup: hung tasks"), GuestStarved),
        (TIMER + PANIC.format("kernel: panic_on_warn set ..."), GuestStarved),
        (HANDLER + PANIC.format("kernel: panic_on_warn set ..."), GuestPanic),
        (PANIC.format("Attempted to kill init!"), GuestPanic),
        ("", GuestPanic),
    ],
    ids=["lockup", "timer", "livepatch", "alone", "silent"],
)
def test_a_panic_has_its_cause(log: str, kind: type[HarnessError]) -> None:
    """A kernel that panics on a report of lost time is excused as the report is."""
    splats = find_splats(log)
    assert isinstance(of_panic(splats, Watched(starved=True), FOLDER, ("tail",)), kind)
    error = of_panic(splats, Watched(starved=False), FOLDER, ("tail",))
    assert isinstance(error, GuestPanic)
    assert error.details[0] == (splats[0].text.splitlines()[0] if splats else "tail")
