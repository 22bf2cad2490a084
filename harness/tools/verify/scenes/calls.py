# SPDX-License-Identifier: GPL-2.0-only
"""What the patched functions do is exercised, while memory is watched and calls are counted.

Cycles show what a load and an unload lose; what each call loses shows only when functions are
called. The function tracer counts the calls: it sees the entry of a function, before the livepatch
redirects it (kernel/trace/ftrace.c calls all its users there), so in a guest where all tasks are
patched each call of the old function is one of the new body.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.deadline import Deadline
from harness.tools.verify.scenes.guest_state import read_hooks
from harness.tools.verify.scenes.leaks import Count, find_growth_by_calls
from harness.tools.verify.scenes.load import FILES, files_of_targets
from harness.tools.verify.script import When
from harness.tools.verify.step import Failed
from harness.vm.kernel.codes import Code

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from harness.tools.verify.scene import Scene
    from harness.vm.guest.machine import Machine

_TRACING = "/sys/kernel/tracing"
_BUFFER_KIB = 512
# The CPU time that the guest has to get for its calls; on a busy host it is waited for that long.
_WORK_S = 1.0
_MOST_WORK_S = 10.0
_LOOK_S = 0.1
_CHECKS_S = 3.0
_MOST_CHECKS = 5
_BEFORE = 2
_WITH = 4
_READY_S = 20.0
_SIGTERM, _SIGKILL = 15, 9
_MOST_NAMES = 5
# "   klp-calls-93   [000] .....    15.1: cmdline_proc_show <-seq_read_iter"
_COUNT = r"""sed -n 's/^[^#].*: \([^ ]*\) <-.*/\1/p' /sys/kernel/tracing/trace | sort | uniq -c"""
_ENTRIES = re.compile(r"^(entries|overrun): (\d+)", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """What one stretch of work has used: objects and things that grew, calls by function."""

    growth: Mapping[str, int]
    calls: Mapping[str, int]


def exercise(scene: Scene, count: Callable[[Machine, int], Count]) -> None:
    """Call what the patch patches; expect that no call loses memory."""
    with scene.executed.paused(), scene.step("calls") as step:
        if scene.case.kernel.config.enabled("KASAN"):
            step.skip("this kernel's KASAN keeps freed memory: nothing can be counted")
            return
        files = (*FILES, *files_of_targets(scene))
        hooks = read_hooks(scene.machine)
        without = _stretches(scene, files, When.BEFORE, _BEFORE, count)
        patch = scene.enable()
        functions = sorted(read_hooks(scene.machine) - hooks)
        if not functions:
            scene.remove(patch)
            step.skip("it has no function in what is loaded")
            return
        _trace(scene.machine, functions)
        with_patch = _stretches(scene, files, When.DURING, _WITH, count)
        scene.machine.write(f"{_TRACING}/current_tracer", "nop")
        scene.remove(patch)
        scene.expect_no_splat()
        lost = find_growth_by_calls(
            [each.growth for each in without],
            [(each.growth, each.calls) for each in with_patch],
        )
        if lost:
            raise Failed(
                Code.LEAK,
                f"something leaks in each call: {lost[0]}",
                advice="free in the new body what it allocates, on each of its ways out",
                lines=lost,
            )
        calls = {
            name: sum(each.calls.get(name.partition(":")[2], 0) for each in with_patch)
            for name in functions
        }
        scene.executed.add("calls", calls)
        never = [name.partition(":")[2] for name, number in calls.items() if not number]
        called = len(functions) - len(never)
        step.passed(
            f"{sum(calls.values())} calls of {called} of {len(functions)} functions lose no memory"
        )
        if never:
            step.warn(
                Code.NOT_EXERCISED,
                f"no call of {names_of(never)} was seen: what is new there was not exercised",
                "give a --check that makes the kernel call it",
                tuple(never),
            )


def names_of(names: Sequence[str]) -> str:
    """Return functions in a sentence, the first five by their names."""
    shown = ", ".join(f"{name}()" for name in names[:_MOST_NAMES])
    more = len(names) - _MOST_NAMES
    return f"{shown} and {more} more" if more > 0 else shown


def _trace(machine: Machine, functions: Sequence[str]) -> None:
    """Have the tracer see calls of these functions, ``object:function``, and nothing else."""
    words = []
    for function in functions:
        owner, _, name = function.partition(":")
        words.append(name if owner == "vmlinux" else f"{name}:mod:{owner}")
    machine.write(f"{_TRACING}/buffer_size_kb", str(_BUFFER_KIB))
    machine.run(
        ["sh", "-c", f"cat >{_TRACING}/set_ftrace_filter"],
        stdin="".join(f"{word}\n" for word in words),
        deadline=machine.scaled(30.0 + 0.2 * len(words)),
    )
    machine.write(f"{_TRACING}/tracing_on", "0")
    machine.write(f"{_TRACING}/current_tracer", "function")


def _stretches(
    scene: Scene,
    files: Sequence[str],
    when: When,
    number: int,
    count: Callable[[Machine, int], Count],
) -> list[Stretch]:
    """Work so many times, and return what each time used; calls are counted with the patch."""
    machine = scene.machine
    is_traced = when is When.DURING
    found = []
    _work(scene, files, when)
    before = count(machine, 0)
    for _ in range(number):
        if is_traced:
            machine.write(f"{_TRACING}/trace", "")
            machine.write(f"{_TRACING}/tracing_on", "1")
        _work(scene, files, when)
        if is_traced:
            machine.write(f"{_TRACING}/tracing_on", "0")
        after = count(machine, 0)
        growth = {
            name: now.get(name, 0) - then.get(name, 0)
            for now, then in ((after.objects, before.objects), (after.things, before.things))
            for name in now
        }
        found.append(Stretch(growth=growth, calls=_calls(machine) if is_traced else {}))
        before = after
    return found


def _calls(machine: Machine) -> Mapping[str, int]:
    """Return how often each function was called. Events that were overwritten count by share."""
    stats = machine.read(f"{_TRACING}/per_cpu/cpu0/stats")
    numbers = {name: int(number) for name, number in _ENTRIES.findall(stats)}
    kept, lost = numbers.get("entries", 0), numbers.get("overrun", 0)
    ran = machine.run(["sh", "-c", _COUNT], deadline=machine.scaled(60.0))
    share = (kept + lost) / kept if kept else 1.0
    return {
        name: int(int(number) * share)
        for number, name in (line.split() for line in ran.stdout.splitlines())
    }


def _wait_for_work(scene: Scene) -> None:
    """Wait until the guest has got enough CPU time.

    Seconds alone mean little work on a busy host, and on a quiet one more than is needed.
    """
    hypervisor = scene.machine.hypervisor
    until_s = hypervisor.cpu_s() + _WORK_S
    end = Deadline.after(_MOST_WORK_S * scene.machine.time_scale)
    while hypervisor.cpu_s() < until_s and not end.expired:
        scene.hold(_LOOK_S)


def _work(scene: Scene, files: Sequence[str], when: When) -> None:
    """Make system calls, read files, and run the user's check: all that may reach a function."""
    machine = scene.machine
    caller = machine.spawn("klp-calls", *files)
    caller.next_line(machine.scaled(_READY_S))
    _wait_for_work(scene)
    caller.signal(_SIGTERM)
    try:
        caller.wait(machine.scaled(_READY_S))
    except TimeoutError:
        caller.signal(_SIGKILL)
    if scene.script is None:
        return
    end = Deadline.after(_CHECKS_S * machine.time_scale / 2)
    for _ in range(_MOST_CHECKS):
        scene.check(when)
        if end.expired:
            return
