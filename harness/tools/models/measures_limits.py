# SPDX-License-Identifier: GPL-2.0-only
"""What a transition can and cannot do: functions in use, reversal, forks, modules that come."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.agent_protocol import Op
from harness.deadline import Deadline, wait_until
from harness.errors import HarnessError
from harness.livepatch.gates import Body
from harness.livepatch.tasks import PatchState
from harness.livepatch.waiting import QUICK_S, TRANSITION_S, poll, scaled
from harness.tools.models.bench_guest import BEGIN, Ended, span_s
from harness.tools.models.findings import Finding, ending
from harness.tools.models.rows import LIMIT_S

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.livepatch.guest import GuestProcess
    from harness.tools.models.bench_guest import BenchGuest

_GATE_PATCH = "klp_test_gate"
_NAP = "klp_target_nap"
_FORKS = 200
_LAST_PID = "/proc/loadavg"
_UNPATCHED = "unpatching complete"
_ORDINARY = "klp_target_mod"
_LIVE = f"/sys/module/{_ORDINARY}/initstate"
_INSMOD_S = 5.0


def always_in_use(bench: BenchGuest) -> Iterator[Finding]:
    """Keep the patched function in use: one task leaves it when the next one is inside."""
    gates = bench.gates
    number = 0
    inside = gates.enter(number)
    bench.log.mark()
    patch = bench.livepatch.load(_GATE_PATCH)
    until = Deadline.after(LIMIT_S)
    while patch.in_transition and not until.expired:
        number = 1 - number
        following = gates.enter(number)
        inside.release()
        inside = following
    if not patch.in_transition:
        seconds = span_s(bench.log.since_mark(), BEGIN, "patching complete")
        yield Finding(row="in-use", value=seconds)
        inside.release()
        return
    found = ending("in-use", Ended(seconds=None, why=bench.who_holds(patch)))
    released = bench.mark("the function is left")
    inside.release()
    after = bench.timed_end(patch, released)
    says = f"{after.seconds:.1f} s after the last one left" if after.seconds is not None else None
    yield Finding(row="in-use", never=found.never, says=says)


def kthread_asleep(bench: BenchGuest) -> Iterator[Finding]:
    """Patch a function in which a kernel thread sleeps until it is woken."""
    bench.livepatch.load_target(_NAP)
    yield ending("kthread", bench.timed_load("klp_test_symbol", object=_NAP, function=_NAP))


def reversal(bench: BenchGuest) -> Iterator[Finding]:
    """Take an open transition back while a task holds it open."""
    inside = bench.gates.enter(0)
    patch = bench.livepatch.load(_GATE_PATCH)
    was_open = bench.give_time(patch)
    others = bench.gates.call(1).body
    bench.log.mark()
    begin = bench.mark("enabled is set to 0")
    patch.write("enabled", "0")
    gone = poll(bench.guest, patch.path, Op.ABSENT, deadline=Deadline.after(LIMIT_S))
    if not gone:
        yield ending("reversal", Ended(seconds=None, why=bench.who_holds(patch)))
        return
    seconds = span_s(bench.log.since_mark(), begin, _UNPATCHED)
    body = inside.release().body
    after = bench.gates.call(1).body
    wrong = None
    if Body.PATCHED in (body, after):
        wrong = f"after the reversal a call ran the {after} body, and the task inside the {body}"
    says = f"others ran the {others} body meanwhile"
    if not was_open:
        says = "nothing to reverse: the transition had ended over the task inside"
    yield Finding(row="reversal", value=seconds, says=says, wrong=wrong)


def forks(bench: BenchGuest) -> Iterator[Finding]:
    """Fork and exit while a transition is open."""
    guest = bench.guest
    inside = bench.gates.enter(0)
    patch = bench.livepatch.load(_GATE_PATCH)
    storm = guest.spawn("klp-storm")
    storm.next_line(scaled(guest, QUICK_S))
    start = _last_pid(guest.read(_LAST_PID))
    if not wait_until(
        lambda: _last_pid(guest.read(_LAST_PID)) >= start + _FORKS,
        scaled(guest, TRANSITION_S),
        interval_s=0.2,
    ):
        raise HarnessError(f"fewer than {_FORKS} forks in {TRANSITION_S:.0f} s")
    was_open = patch.in_transition
    bench.log.mark()
    released = bench.mark("the holder is released")
    inside.release()
    if not was_open:
        wrong = _children(bench, storm)
        yield Finding(
            row="forks", says="nothing open: the transition had ended before", wrong=wrong
        )
        return
    ended = bench.timed_end(patch, released)
    if ended.seconds is None:
        yield ending("forks", ended)
        return
    yield Finding(row="forks", value=ended.seconds, wrong=_children(bench, storm))


def modules_coming(bench: BenchGuest) -> Iterator[Finding]:
    """Load an ordinary module while a transition is open."""
    guest = bench.guest
    inside = bench.gates.enter(0)
    patch = bench.livepatch.load(_GATE_PATCH)
    was_open = bench.give_time(patch)
    bench.log.mark()
    begin = bench.mark("insmod starts")
    loading = guest.spawn("/sbin/insmod", guest.upload(bench.modules[_ORDINARY]))
    live = poll(guest, _LIVE, Op.CONTAINS, "live", deadline=Deadline.after(_INSMOD_S))
    if live:
        seconds = span_s(bench.log.since_mark(), begin, "init sees")
        when = "while it is open" if was_open else "though nothing is open"
        yield Finding(row="modules", says=f"in {seconds:.2f} s, {when}")
        return
    still_open = patch.in_transition
    released = bench.mark("the holder is released")
    inside.release()
    code = loading.wait(Deadline.after(LIMIT_S))
    if code or not still_open:
        yield Finding(row="modules", wrong=f"insmod ended with {code}, after the transition's end")
        return
    seconds = span_s(bench.log.since_mark(), released, "init sees")
    yield Finding(
        row="modules",
        says=f"waits for the transition: loaded {seconds:.1f} s after the holder was released",
    )


def _children(bench: BenchGuest, storm: GuestProcess) -> str | None:
    """End the storm; return what is wrong with its children, or with the states of tasks."""
    storm.close_stdin()
    deadline = scaled(bench.guest, TRANSITION_S)
    line = storm.next_line(deadline)
    code = storm.wait(deadline)
    if code:
        raise HarnessError(f"klp-storm ended with code {code} and printed {line}")
    left = [
        f"{task.comm} ({task.tid}): {task.patch_state}"
        for task in bench.guest.tasks().tasks
        if task.patch_state not in (None, PatchState.UNDEFINED)
    ]
    return f"tasks have a patch state after the end: {', '.join(left[:3])}" if left else None


def _last_pid(text: str) -> int:
    """Return the last field of /proc/loadavg: the id of the newest process."""
    return int(text.split()[-1])
