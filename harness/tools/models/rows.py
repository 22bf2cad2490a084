# SPDX-License-Identifier: GPL-2.0-only
"""The rows of ``models compare``: what each figure means, and how it is measured. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

SIZES = (10, 100, 1_000, 5_000)
"""How many tasks sleep while the time is taken."""

STALLS = ("stall-none", "stall", "stall-held")
"""The rows of stalls, the noise first."""

WOKEN_OF = 100
STALL_TASKS = 1_000
LIMIT_S = 45.0
"""How long a transition is waited for before it counts as one that never ends, in seconds.

Linux sends fake signals in the 15th and in the 30th second.
"""


class Unit(StrEnum):
    """What the numbers of a row count."""

    SECONDS = "s"
    TASKS = "tasks"
    PAIRS = "pairs"
    NONE = ""


class Group(StrEnum):
    """The kind of a row."""

    TIME = "time until all run the new code"
    STALL = "longest stall"
    REST = "what else"


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row: ``means`` and ``how`` are sentences; ``tasks`` is how many sleep, where it counts."""

    id: str
    title: str
    means: str
    how: str
    unit: Unit = Unit.SECONDS
    group: Group = Group.REST
    tasks: int | None = None


_TIME_MEANS = (
    "How long the kernel takes from the load of a livepatch until every task runs the new function."
)
_BETWEEN = (
    'Guest clock, between the kernel\'s messages "enabling patch" and "patching complete". '
    "A guest has two CPUs and 512 MiB, and is alone on the machine."
)


def time_id(tasks: int) -> str:
    """Return the id of the row for so many sleeping tasks."""
    return f"time-{tasks}"


ROWS: tuple[Row, ...] = (
    *(
        Row(
            id=time_id(tasks),
            title=f"all switched, {tasks:,} tasks asleep",
            means=_TIME_MEANS,
            how=f"{_BETWEEN} {tasks:,} threads sleep interruptibly, in no patched function.",
            group=Group.TIME,
            tasks=tasks,
        )
        for tasks in SIZES
    ),
    Row(
        id="time-load",
        title="all switched, under load",
        means=_TIME_MEANS,
        how=f"{_BETWEEN} Two tasks make a hundred kinds of system calls, a third one forks, all "
        "without a pause.",
        group=Group.TIME,
    ),
    Row(
        id="stall-none",
        title="longest stall, no livepatch",
        means="The noise: how long a task that always wants to run had to wait though no livepatch "
        "was loaded.",
        how="A task spins on a cheap system call and keeps the longest gap between two rounds, "
        f"while an ordinary module is loaded and unloaded. {STALL_TASKS:,} threads sleep. The "
        "guest's second CPU is offline, as the two would take turns under TCG.",
        group=Group.STALL,
        tasks=STALL_TASKS,
    ),
    Row(
        id="stall",
        title="longest stall, livepatch loaded",
        means="How long a task that always wants to run is kept from it by a transition.",
        how="The gaps of the same task from the load of a livepatch to the end of its transition.",
        group=Group.STALL,
        tasks=STALL_TASKS,
    ),
    Row(
        id="stall-held",
        title="longest stall, transition held",
        means="The same while a task keeps the transition open: what each attempt in vain costs.",
        how="The gaps of the same task in the three seconds after the load, while another task "
        "sleeps in the patched function.",
        group=Group.STALL,
        tasks=STALL_TASKS,
    ),
    Row(
        id="woken",
        title=f"tasks woken, of {WOKEN_OF}",
        means="How many sleeping tasks the transition woke or sent a fake signal.",
        how=f"{WOKEN_OF} threads sleep interruptibly for ever. Those whose count of context "
        "switches in /proc/PID/task/TID/status grew were woken. The count is exact.",
        unit=Unit.TASKS,
    ),
    Row(
        id="in-use",
        title="a function always in use",
        means="Whether a function can be patched that some task is inside at every moment.",
        how="Tasks sleep in the patched function, each until the next one does, so that the "
        "function is never empty. Time from the load to the end of the transition.",
    ),
    Row(
        id="kthread",
        title="a kernel thread asleep in it",
        means="Whether a function can be patched in which a kernel thread sleeps until it is "
        "woken; nobody but the kernel's live patching would wake it.",
        how="The thread of klp_target_nap leaves the function when it is woken. Linux wakes it "
        "with the fake signals, in the 15th second.",
    ),
    Row(
        id="world",
        title="all data changed at once",
        means="TRANSFORM_WORLD: a callback converts all data when no task is in an old function "
        "any more. Right only where that is true.",
        how="A task sleeps in an old function that reads the data, which are converted by "
        "klp_test_transform_world; the same again with a reversal in the middle.",
        unit=Unit.NONE,
    ),
    Row(
        id="access",
        title="data changed when used",
        means="TRANSFORM_ON_ACCESS: new functions convert each item that they use, once no task "
        "is in an old function.",
        how="The same with klp_test_transform_access_1, which keeps new data in shadow variables.",
        unit=Unit.NONE,
    ),
    Row(
        id="reversal",
        title="reversed in the middle",
        means="Whether an open transition can be taken back at once, while a task holds it open.",
        how="A task sleeps in the old function; 0 is written to `enabled` three seconds after the "
        "load. Time from there until all run the old code.",
    ),
    Row(
        id="forks",
        title="forks and exits in the middle",
        means="Whether tasks that are forked and exit during a transition get the right state, so "
        "that it ends.",
        how="A transition is held open while another task forks at least 200 times. Time from the "
        "release of the holder to the end.",
    ),
    Row(
        id="modules",
        title="a module loaded in the middle",
        means="Whether a module can be loaded while a transition is open.",
        how="A transition is held open; insmod of an ordinary module is given five seconds.",
        unit=Unit.NONE,
    ),
    Row(
        id="both",
        title="old and new at once",
        means="Whether one task runs an old function while another runs its new one. "
        "SWITCH_THREAD does that, SWITCH_KERNEL must not.",
        how="A task sleeps in the old function for three seconds after the load; another one comes "
        "from user mode and calls it.",
        unit=Unit.NONE,
    ),
    Row(
        id="mixed",
        title="mixed pairs",
        means="Calls in which an old function called a new one. Every model but null promises "
        "that there are none.",
        how="Four tasks call a function that pauses and calls a second one; a livepatch of both is "
        "loaded twice and disabled in between (once where its module cannot be unloaded).",
        unit=Unit.PAIRS,
    ),
)
ROW = {row.id: row for row in ROWS}
