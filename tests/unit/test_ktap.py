# SPDX-License-Identifier: GPL-2.0-only
"""Reports as KTAP obey the rules of the kernel's ktap.rst."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from harness.cli.registry import make_report
from harness.report.base import CheckOutcome, ErrorFacts, HostFacts, KernelFacts
from harness.report.ktap import to_ktap
from harness.report.suite_results import TestResult
from harness.tools.race.results import RaceResult
from harness.tools.selftests.results import SelftestResult

if TYPE_CHECKING:
    from collections.abc import Sequence

HOST = HostFacts(system="Debian 12", kernel="6.1.0", cpus=2, memory_mib=4096, python="3.11.2")
KERNEL = KernelFacts(
    spec="6.1",
    version="6.1.192",
    digest="d1",
    config_digest="c1",
    compiler="gcc 12",
    source="linux-source-6.1",
)
RESULT_LINE = re.compile(r"(?:not )?ok \d+ [^#]+(?: # (?:SKIP|XFAIL|ERROR)(?: .*)?)?\Z")


def ktap(command: str, results: Sequence[Any], **fields: Any) -> list[str]:
    made = make_report(
        command=command,
        outcome=fields.pop("outcome", "passed"),
        harness="0.1.0",
        host=HOST,
        seconds=1.0,
        kernel=KERNEL,
        kernels=(KERNEL,),
        results=tuple(results),
        **fields,
    )
    return to_ktap(made).splitlines()


def case(name: str, outcome: CheckOutcome, *detail: str, script: str = "test-a.sh") -> Any:
    return SelftestResult(
        id=f"{script.removesuffix('.sh')}/{name}",
        outcome=outcome,
        seconds=0.1,
        script=script,
        detail=detail,
    )


def obeys_the_rules(lines: Sequence[str], indent: str = "") -> int:
    """Check version, plan, numbers and kinds of one level; return how many tests it has."""
    mine = [line[len(indent) :] for line in lines if not line.startswith(f"{indent}  ")]
    assert mine[0] == "KTAP version 1"
    known = [line for line in mine[1:] if not line.startswith("#")]
    plan, results = known[0], known[1:]
    assert all(RESULT_LINE.match(line) for line in results), results
    assert plan == f"1..{len(results)}"
    numbers = [int(line.removeprefix("not ").split()[1]) for line in results]
    assert numbers == list(range(1, len(results) + 1))
    return len(results)


def test_the_cases_of_a_script_are_its_subtests() -> None:
    """One failed case fails its script; the failing diff comes before its line."""
    lines = ktap(
        "selftests",
        [
            case("first", CheckOutcome.PASSED),
            case("second", CheckOutcome.FAILED, "--- expected", "+++ result"),
            case("third", CheckOutcome.SKIPPED, "no module", script="test-b.sh"),
            case("fourth", CheckOutcome.PASSED),
        ],
    )
    assert obeys_the_rules(lines) == 2
    assert [line for line in lines if not line.startswith("#")] == [
        "KTAP version 1",
        "1..2",
        "  KTAP version 1",
        "  1..3",
        "  ok 1 first",
        "  # --- expected",
        "  # +++ result",
        "  not ok 2 second",
        "  ok 3 fourth",
        "not ok 1 test-a.sh",
        "  KTAP version 1",
        "  1..1",
        "  ok 1 third # SKIP no module",
        "ok 2 test-b.sh # SKIP",
    ]
    assert obeys_the_rules(lines[4:11], "  ") == 3


@pytest.mark.parametrize(
    ("outcome", "line"),
    [
        (CheckOutcome.PASSED, "ok 1 test_x"),
        (CheckOutcome.FAILED, "not ok 1 test_x"),
        (CheckOutcome.ERROR, "not ok 1 test_x # ERROR why it is so"),
        (CheckOutcome.SKIPPED, "ok 1 test_x # SKIP why it is so"),
        (CheckOutcome.EXPECTED_FAILURE, "ok 1 test_x # XFAIL why it is so"),
    ],
)
def test_each_outcome_has_its_line(outcome: CheckOutcome, line: str) -> None:
    """Skips and expected failures carry their reason, errors are none of the kernel's."""
    result = TestResult(
        id="a/test_y.py::test_x", outcome=outcome, seconds=0, detail="why it is so\nand more"
    )
    lines = ktap("test", [result])
    assert f"  {line}" in lines
    assert lines[-1].startswith("not ok" if line.startswith("not") else "ok")


def test_what_a_test_says_breaks_nothing() -> None:
    """Lines that look like results, and bytes of a console, stay behind a "#"; names have none."""
    result = TestResult(
        id="a/test_y.py::test_x[#1]",
        outcome=CheckOutcome.FAILED,
        seconds=0,
        detail="ok 1 not a result\n\x1b[31mred\x00\n" + "line\n" * 1000,
    )
    lines = ktap("test", [result])
    assert obeys_the_rules(lines) == 1
    assert obeys_the_rules([line for line in lines if line.startswith("  ")], "  ") == 1
    assert "  # ok 1 not a result" in lines
    assert "  not ok 1 test_x[_1]" in lines
    assert not any("\x1b" in line or "\x00" in line for line in lines)
    assert len(lines) < 250


def test_a_command_that_failed_is_a_test_that_failed() -> None:
    """Half a run is never a whole one."""
    error = ErrorFacts(kind="BootFailed", fault="kernel", message="it did not boot", details=("x",))
    lines = ktap("test", [], outcome="failed", error=error)
    assert obeys_the_rules(lines) == 1
    assert lines[-2:] == ["# x", "not ok 1 command # ERROR it did not boot"]


def test_a_race_that_is_excused() -> None:
    """A race that is shown fails, unless it was to be expected and is excused."""
    fields: dict[str, Any] = {
        "outcome": CheckOutcome.SHOWN,
        "seconds": 1,
        "rule": "FO-06",
        "title": "t",
    }
    shown = RaceResult(id="exit", **fields)
    assert ktap("race run", [shown])[-1] == "not ok 1 exit"
    excused = RaceResult(id="exit", expected=True, excused=True, **fields)
    assert ktap("race run", [excused])[-1] == "ok 1 exit # XFAIL"
