# SPDX-License-Identifier: GPL-2.0-only
"""What the models promise: data that are changed, and functions that are kept apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.deadline import Deadline
from harness.livepatch.waiting import TRANSITION_S, scaled
from harness.tools.models.bench_guest import PAIR_FILE, PAIR_GATE, PAIR_PATCH, PAIR_TARGET
from harness.tools.models.findings import Finding, judge_both, judge_data, judge_mixed
from harness.tools.models.results import Switch
from harness.tools.models.rows import LIMIT_S

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.livepatch.patch import Patch
    from harness.tools.models.bench_guest import BenchGuest

_STORE = "/sys/kernel/klp_store"
_WORLD, _ACCESS = "klp_test_transform_world", "klp_test_transform_access_1"
_SUM_GATE = 0
_NAP = "/sys/kernel/klp_pair/nap"
_NEW = "f patched g patched"
_CALLERS = 3
_CALL_EVERY_US = 20_000
_ROUNDS = 2


def data_at_once(bench: BenchGuest) -> Iterator[Finding]:
    """TRANSFORM_WORLD: reversed in the middle, then to its end under a task that reads."""
    bench.livepatch.load_target("klp_target_store")
    wrong: str | None = None
    if bench.cell.switch is not Switch.FUNCTION:
        wrong = _reversed_in_the_middle(bench)
        bench.guest.write(f"{_STORE}/clear", "1")
    yield from _changed(bench, "world", _WORLD, "1000 2000 3000", also_wrong=wrong)


def data_when_used(bench: BenchGuest) -> Iterator[Finding]:
    """TRANSFORM_ON_ACCESS, to its end under a task that reads."""
    bench.livepatch.load_target("klp_target_store")
    yield from _changed(bench, "access", _ACCESS, "1 2 3")


def _changed(
    bench: BenchGuest, row: str, module: str, stored: str, *, also_wrong: str | None = None
) -> Iterator[Finding]:
    """Load a patch that changes data while a task is inside an old function that reads them."""
    _add(bench, 1500, 2750)
    old = bench.hold(f"{_STORE}/sum", _SUM_GATE)
    patch = bench.livepatch.load(module)
    bench.give_time(patch)
    _add(bench, 3100)
    # In old items there is nothing but whole seconds.
    words, wrong = judge_data(bench.cell, bench.answer(old, _SUM_GATE), "6000")
    if not patch.completes(Deadline.after(LIMIT_S)):
        why = f"not within {LIMIT_S:.0f} s: {bench.who_holds(patch)}"
        yield Finding(row=row, never=f"{why}; the data keep the old format", wrong=wrong)
        return
    if wrong is None and bench.cell.switch is not Switch.FUNCTION:
        wrong = also_wrong or _expect(bench, stored, "1000 2000 3000")
        patch.disable()
        patch.unload()
        wrong = wrong or _expect(bench, "1 2 3", "1000 2000 3000")
    yield Finding(row=row, says=words, wrong=wrong)


def _reversed_in_the_middle(bench: BenchGuest) -> str | None:
    """Take a transform back before its transition ended; return what is wrong afterwards."""
    _add(bench, 1500)
    old = bench.hold(f"{_STORE}/sum", _SUM_GATE)
    patch = bench.livepatch.load(_WORLD)
    bench.give_time(patch)
    patch.write("enabled", "0")
    patch.unload()
    wrong = _expect(bench, "1", "1000")
    read = bench.answer(old, _SUM_GATE)
    return wrong or (f"after the reversal an old function read {read}" if read != "1000" else None)


def _expect(bench: BenchGuest, stored: str, items: str) -> str | None:
    """Return how the data differ from what they should be."""
    found = [" ".join(bench.guest.read(f"{_STORE}/{name}").split()) for name in ("stored", "items")]
    if found == [stored, items]:
        return None
    return f"the data are {found[0]} and read as {found[1]}, and not {stored} and {items}"


def _add(bench: BenchGuest, *durations_ms: int) -> None:
    for duration_ms in durations_ms:
        bench.guest.write(f"{_STORE}/add", str(duration_ms))


def consistency(bench: BenchGuest) -> Iterator[Finding]:
    """Old and new at once, and mixed pairs: the rule TR-03 on any model."""
    guest = bench.guest
    bench.livepatch.load_target(PAIR_TARGET, kthreads=1)
    bench.log.mark()
    for _ in range(_CALLERS):
        caller = guest.spawn("klp-caller", _NAP, str(_CALL_EVERY_US))
        caller.next_line(scaled(guest, TRANSITION_S))
    old = bench.hold(PAIR_FILE, PAIR_GATE)
    patch = bench.livepatch.load(PAIR_PATCH)
    bench.give_time(patch)
    both = bench.call(_NAP) == _NEW
    held = bench.answer(old, PAIR_GATE)
    wrong = judge_both(bench.cell, both=both)
    yield Finding(row="both", says="yes" if both else "no", wrong=wrong)
    never = _load_again(bench, patch)
    mixed = len(bench.log.matching("mixed pair"))
    yield Finding(
        row="mixed",
        value=mixed,
        says=f"the task that was inside met {held}" + (f"; {never}" if never else ""),
        wrong=judge_mixed(bench.cell, mixed),
    )


def _load_again(bench: BenchGuest, patch: Patch) -> str | None:
    """Disable and load the patch for some rounds; return why one did not end."""
    for number in range(1, _ROUNDS + 1):
        if not patch.completes(Deadline.after(LIMIT_S)):
            return f"load {number} did not end: {bench.who_holds(patch)}"
        if number == _ROUNDS or bench.cell.switch is Switch.FUNCTION:
            break
        patch.write("enabled", "0")
        if not patch.completes(Deadline.after(LIMIT_S)):
            return f"disable {number} did not end: {bench.who_holds(patch)}"
        patch.unload()
        bench.livepatch.load(PAIR_PATCH)
    return None
