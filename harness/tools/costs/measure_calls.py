# SPDX-License-Identifier: GPL-2.0-only
"""What a call of a function costs: patched or not, traced or not, in transition, stacked."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING

from harness.errors import HarnessError
from harness.livepatch.waiting import QUICK_S, scaled
from harness.observer.task_clock import TaskClock
from harness.tools.costs import stacked
from harness.tools.costs.arithmetic import call_costs
from harness.tools.costs.figures import Finding, called

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.observer.task_clock import InterruptPoints
    from harness.tools.costs.guest import CostGuest

_FUNCTION = stacked.FUNCTION
_TARGET, _PATCH, _NEW = "klp_target_pair", "klp_test_pair", "klp_test_pair_g"
_SPIN, _GATE_FILE = "/sys/kernel/klp_pair/spin", "/sys/kernel/klp_pair/gate"
_TRACING = "/sys/kernel/tracing"
_GATE = 5
_CALLS = 20
_HELD = 5
_STACKS = (1, 2, stacked.DEEPEST)
_OLD = "old"
# Where a function's fentry is, and where it goes on behind it: an endbr64 may come first.
_FENTRY, _BODY = (0, 4), (5, 9)


class _Caller:
    """Has the function called, and returns what each call cost."""

    def __init__(self, guest: CostGuest, interrupts: InterruptPoints) -> None:
        self._guest = guest
        self._clock = TaskClock(interrupts)
        places = guest.addresses()
        if _FUNCTION not in places:
            raise HarnessError("/proc/kallsyms of the guest does not have the modules' functions")
        self._old = places[_FUNCTION]

    def forget(self) -> None:
        """Take no note of the calls until now."""
        self.costs(_NEW)

    def call(self, new: str) -> list[tuple[str, int]]:
        """Call it; ``new`` is the new function that may run."""
        self.forget()
        for _ in range(_CALLS):
            self._guest.machine.read(_SPIN)
        return self.costs(new)

    def costs(self, new: str) -> list[tuple[str, int]]:
        """Return which version each call since the last time ran, and what it cost."""
        places = self._guest.addresses()
        versions = {self._old: _OLD}
        if new in places:
            versions[places[new]] = new
        bodies = {start + at: name for start, name in versions.items() for at in _BODY}
        entries = frozenset(self._old + at for at in _FENTRY)
        return call_costs(self._guest.events(), self._clock, entries, bodies)


def measure_calls(guest: CostGuest, interrupts: InterruptPoints) -> Iterator[Finding]:
    """Yield the figures of calls, as they come."""
    guest.gates.open(_GATE)
    guest.livepatch.load_target(_TARGET)
    caller = _Caller(guest, interrupts)
    yield _found("call-unpatched", caller.call(_NEW), _OLD)
    with _kprobe(guest):
        yield _found("call-kprobe", caller.call(_NEW), _OLD)
    with _traced(guest):
        yield _found("call-tracer", caller.call(_NEW), _OLD)
    guest.gates.close(_GATE)
    held = [guest.machine.spawn("cat", _GATE_FILE) for _ in range(_HELD)]
    for process in held:
        guest.gates[_GATE].await_task(process.pid)
    patch = guest.livepatch.load(_PATCH)
    yield _found("call-transition-new", caller.call(_NEW), _NEW)
    caller.forget()
    guest.gates.open(_GATE)
    for process in held:
        process.next_line(scaled(guest.machine, QUICK_S))
    yield _found("call-transition-old", caller.costs(_NEW), _OLD)
    patch.wait_complete()
    yield _found("call-patched", caller.call(_NEW), _NEW)
    with _kprobe(guest):
        yield _found("call-patched-kprobe", caller.call(_NEW), _NEW)
    with _traced(guest):
        yield _found("call-patched-tracer", caller.call(_NEW), _NEW)
    patch.disable()
    patch.unload()
    yield _found("call-unloaded", caller.call(_NEW), _OLD)
    for depth in range(1, stacked.DEEPEST + 1):
        guest.livepatch.load(stacked.module_at(depth), wait=True)
        if depth in _STACKS:
            new = stacked.new_function_at(depth)
            yield _found(f"call-stacked-{depth}", caller.call(new), new)


def _found(figure: str, costs: list[tuple[str, int]], version: str) -> Finding:
    """Return a figure of the calls that ran a version. Raises HarnessError when none did."""
    values = tuple(float(cost) for ran, cost in costs if ran == version)
    if not values:
        ran = sorted({name for name, _ in costs}) or ["none"]
        raise HarnessError(f"{figure}: {len(costs)} calls were seen, which ran {', '.join(ran)}")
    return replace(called(figure), values=values)


@contextlib.contextmanager
def _kprobe(guest: CostGuest) -> Iterator[None]:
    module = guest.livepatch.load_target("klp_test_kprobe", symbol=_FUNCTION)
    yield
    module.unload()


@contextlib.contextmanager
def _traced(guest: CostGuest) -> Iterator[None]:
    """Trace the function into a buffer, as `current_tracer` does."""
    guest.machine.write(f"{_TRACING}/set_ftrace_filter", f"{_FUNCTION}\n")
    guest.machine.write(f"{_TRACING}/current_tracer", "function")
    yield
    guest.machine.write(f"{_TRACING}/current_tracer", "nop")
    guest.machine.write(f"{_TRACING}/set_ftrace_filter", "\n")
