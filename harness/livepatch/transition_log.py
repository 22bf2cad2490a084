# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's attempts to complete a transition, fake signals and force, from its log. Pure.

The lines are those of kernel/livepatch/transition.c. klp_try_switch_task() logs with pr_debug(), so
dynamic debug has to be switched on first: `log_attempts`. On 5.10, what it logs of a stack begins
with the name of klp_check_stack(), which wrote that text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.agent_protocol import KlogRecord
    from harness.livepatch.guest import Guest

# The same file in two places; which of them exists depends on mounts and configuration.
_CONTROLS = ("/proc/dynamic_debug/control", "/sys/kernel/debug/dynamic_debug/control")
_QUERY = "func klp_try_switch_task +p"
# The kernel tries once a second; the lines of one attempt are logged without a pause.
_SAME_ATTEMPT_US = 250_000
_HELD = re.compile(
    r"klp_(?:try_switch_task|check_stack): (?P<comm>.*):(?P<tid>\d{1,10}) "
    r"(?:is (?P<running>running)|has an (?P<unreliable>unreliable stack)"
    r"|is (?P<sleeping>sleeping) on function (?P<function>\S+))$"
)


class Why(StrEnum):
    """Why the kernel did not switch a task."""

    SLEEPING = "sleeping in a patched function"
    RUNNING = "running"
    UNRELIABLE = "its stack is unreliable"


@dataclass(frozen=True, kw_only=True)
class HeldTask:
    """A task that an attempt did not switch; ``function`` is the one that it sleeps in."""

    tid: int
    comm: str
    why: Why
    function: str | None = None


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """An attempt that did not switch all tasks; ``us`` is the time since boot in microseconds."""

    us: int
    held: tuple[HeldTask, ...]


class Measure(StrEnum):
    """A measure against tasks that do not switch: fake signals or force."""

    SIGNAL = "signal"
    FORCE = "force"


_MEASURES = {
    Measure.SIGNAL: re.compile(r"livepatch: signaling remaining tasks$"),
    Measure.FORCE: re.compile(r"livepatch: forcing remaining tasks to the (?:un)?patched state$"),
}


def log_attempts(guest: Guest) -> bool:
    """Make the kernel log each task that it does not switch; False without dynamic debug."""
    for path in _CONTROLS:
        try:
            guest.write(path, f"{_QUERY}\n")
        except OSError:
            continue
        return True
    return False


def read_attempts(records: Iterable[KlogRecord]) -> list[Attempt]:
    """Return the attempts that did not switch all tasks, in the order of time.

    An attempt that did logs nothing, so it is not among them.
    """
    found: list[tuple[int, int, list[HeldTask]]] = []
    for record in records:
        match = _HELD.search(record.text.rstrip("\n"))
        if match is None:
            continue
        start_us, last_us, held = found[-1] if found else (0, 0, [])
        if found and record.us - last_us <= _SAME_ATTEMPT_US:
            found[-1] = (start_us, record.us, held)
        else:
            held = []
            found.append((record.us, record.us, held))
        reasons = [why for why in Why if match[why.name.lower()]]
        task = HeldTask(
            tid=int(match["tid"]), comm=match["comm"], why=reasons[0], function=match["function"]
        )
        if task not in held:
            held.append(task)
    return [Attempt(us=start_us, held=tuple(held)) for start_us, _, held in found]


def read_measures(records: Iterable[KlogRecord]) -> list[tuple[int, Measure]]:
    """Return the times of fake signals and of force in the kernel log, in order."""
    return [
        (record.us, measure)
        for record in records
        for measure, pattern in _MEASURES.items()
        if pattern.search(record.text.rstrip("\n"))
    ]


def is_of_attempt(text: str) -> bool:
    """Return whether a line of the kernel log is one that `log_attempts` asked for."""
    return any(f"{name}: " in text for name in ("klp_try_switch_task", "klp_check_stack"))
