# SPDX-License-Identifier: GPL-2.0-only
"""Was it executed? How verify counts old and new bodies, and what it concludes from that."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from harness.tools.verify.executed import Executed, Execution, read_counts
from harness.tools.verify.new_bodies import new_bodies
from harness.tools.verify.page import verify_page
from harness.tools.verify.results import ExecutedFacts, VerdictFacts
from harness.tools.verify.script import When
from harness.vm.elf.module_info import read_module
from tests.unit.verify_doubles import MODULES, Guest

STATS = "entries: {}\noverrun: {}\ncommit overrun: 9\nentries: 0\noverrun: 0\n"
GATE = MODULES / "klp_test_gate.ko"


def test_new_bodies() -> None:
    """Each klp_func's new function has the name that it has in the module's symbol table."""
    assert new_bodies(MODULES / "klp_test_cmdline_a.ko") == {
        ("vmlinux", "cmdline_proc_show"): ("klp_test_cmdline_proc_show",)
    }
    assert new_bodies(MODULES / "klp_target_gate.ko") == {}


@pytest.mark.parametrize(
    ("text", "calls", "exact"),
    [
        (STATS.format(3, 0) + "      3 called f\n", {"f": 3, "g": 0}, True),
        # What was overwritten counts by share; of g nothing is known.
        (STATS.format(10, 90) + "     10 called f\n", {"f": 100, "g": None}, False),
        # ftrace shows one of a function's names: g may have been called by another.
        (STATS.format(4, 0) + "  1 called f\n  3 called h\n", {"f": 1, "g": None}, True),
        (STATS.format(0, 0), {"f": 0, "g": 0}, True),
    ],
)
def test_counts_of_the_tracer(text: str, calls: dict[str, int | None], exact: bool) -> None:
    """Never called is said only where no event can have been lost."""
    found = read_counts(text, ("f", "g"))
    assert (found.calls, found.exact) == (calls, exact)


class Traced(Guest):
    """A guest whose tracer gives set answers; ``asked`` are the names that it was asked for."""

    def __init__(self, *answers: Any) -> None:
        super().__init__()
        self.answers = list(answers)
        self.asked: list[str] = []

    def run(self, _argv: Any, *, stdin: str = "", **_: Any) -> Any:
        self.asked += stdin.splitlines()
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return SimpleNamespace(ok=answer is not None, stdout=answer or "")


def executed(guest: Any, *targets: str) -> Executed:
    case: Any = SimpleNamespace(
        name="klp_test_gate",
        info=read_module(GATE),
        request=SimpleNamespace(module=GATE),
        loadable=tuple(SimpleNamespace(name=name) for name in targets),
    )
    return Executed(guest, case, "idle")


def test_a_check_is_counted() -> None:
    """Before the patch the old functions of the target are traced, with it those of the patch."""
    called = STATS.format(5, 0) + "  5 called klp_test_gate_wait\n"
    guest = Traced("", STATS.format(0, 0), "untraced klp_test_gate_wait_second:mod:x\n", called)
    found = executed(guest, "klp_target_gate")
    with found.during("check-before", When.BEFORE):
        pass
    assert guest.asked == [
        f"klp_gate_{name}:mod:klp_target_gate"
        for name in ("wait", "wait_second", "wait_interruptible")
    ]
    guest.asked.clear()
    with found.during("check-during", When.DURING):
        assert guest.asked[0] == "klp_test_gate_wait:mod:klp_test_gate"
        # One within another counts nothing of its own.
        with found.during("check-during", When.DURING):
            pass
    by_place = {(each.during, each.function): (each.old, each.new) for each in found.counts}
    assert by_place["check-before", "klp_target_gate:klp_gate_wait"] == (0, None)
    assert by_place["check-during", "klp_target_gate:klp_gate_wait"] == (None, 5)
    assert len(found.counts) == 6
    assert not found.never_ran("check-during")


def test_a_check_that_never_runs_it() -> None:
    """It is named only when no new body ran, and that is known of each."""
    found = executed(Traced("", STATS.format(0, 0)), "klp_target_gate")
    with found.during("check-during", When.DURING):
        pass
    assert found.never_ran("check-during") == (
        "klp_gate_wait",
        "klp_gate_wait_second",
        "klp_gate_wait_interruptible",
    )
    assert not found.never_ran("check-before")
    found.counts[0] = Execution(scene="idle", during="check-during", function="f", new=None)
    assert not found.never_ran("check-during")


@pytest.mark.parametrize(
    "answers", [(TimeoutError(), ""), (None, ""), ("", TimeoutError()), ("", None)]
)
def test_a_tracer_that_fails_is_no_failure(answers: tuple[Any, ...]) -> None:
    """What could not be counted is not known, whatever else the check finds."""
    found = executed(Traced(*answers), "klp_target_gate")
    with found.during("check-during", When.DURING):
        pass
    assert {each.new for each in found.counts} == {None}
    assert not found.never_ran("check-during")


def test_targets_that_are_not_loaded() -> None:
    """Nothing is counted of functions that are not there, and the guest is asked nothing."""
    guest = Traced()
    found = executed(guest)
    with found.during("check-during", When.DURING):
        pass
    assert not found.counts


def test_the_table_of_the_page() -> None:
    """A column for each scene and check; a new body that never ran is marked."""
    counts = (
        ExecutedFacts(function="vmlinux:f", scene="idle", during="check-before", old=2),
        ExecutedFacts(function="vmlinux:f", scene="idle", during="check-during", new=0),
        ExecutedFacts(function="vmlinux:f", scene="cycles", during="calls", new=7, exact=False),
    )
    facts = VerdictFacts(module="klp_a", outcome="warned", path="a.ko", executed=counts)
    page = verify_page([facts], [], [], kernel="k", accelerator="a")
    assert page.count("<code>vmlinux:f</code>") == 1
    assert '<span class="never">new 0</span>' in page
    assert '<span class="">old 2</span>' in page
    assert "new about 7" in page
    assert "Was it executed?" not in verify_page([], [], [], kernel="k", accelerator="a")
