# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's own selftests: what a tree has, and what a script's output says."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, cast

import pytest

from harness.errors import UsageError
from harness.tools.selftests import command as command
from harness.tools.selftests.output import SKIP_CODE, Case, ScriptOutput, Verdict
from harness.tools.selftests.script_run import ScriptRun
from harness.tools.selftests.tree import SUITE, Script, find_suite

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from harness.tools.selftests.results import SelftestResult
    from harness.vm.guest.session import Session
    from harness.vm.kernel.kernel import Kernel

PLANNED = ("first", "second", "third")
DIFF = ("--- expected", "+++ result", "@@ -1 +1 @@", "-a", "+b", "ERROR: livepatch failed")


def _verdicts(output: ScriptOutput, code: int) -> list[tuple[str, Verdict | None]]:
    return [(case.name, case.verdict) for case in output.finish(code)]


def _output(*lines: str) -> ScriptOutput:
    output = ScriptOutput(PLANNED, 10.0)
    for number, line in enumerate(lines):
        output.take(line, 11.0 + number)
    return output


def test_all_pass() -> None:
    """Each "ok" is a passed case with the time since the one before it."""
    output = ScriptOutput(PLANNED[:2], 10.0)
    output.take("TEST: first ... ok", 12.0)
    output.take("TEST: second ... ok", 12.5)
    cases = output.finish(0)
    assert [(case.name, case.verdict, case.seconds) for case in cases] == [
        ("first", Verdict.PASSED, 2.0),
        ("second", Verdict.PASSED, 0.5),
    ]


def test_failure_has_its_diff_and_the_rest_was_not_reached() -> None:
    """A script stops at its first failure; what it did not reach has not passed."""
    output = _output("TEST: first ... ok", "TEST: second ... not ok", "", *DIFF)
    cases = output.finish(1)
    assert [case.verdict for case in cases] == [Verdict.PASSED, Verdict.FAILED, Verdict.FAILED]
    assert set(DIFF) <= set(cases[1].detail)
    assert cases[2].detail[0] == "was not reached"


def test_death_within_a_case() -> None:
    """A case that never printed "ok" has failed, with the lines that were printed instead."""
    output = _output("TEST: first ... ERROR: failed to load module x")
    assert _verdicts(output, 1) == [
        ("first", Verdict.FAILED),
        ("second", Verdict.FAILED),
        ("third", Verdict.FAILED),
    ]
    assert "ERROR: failed to load module x" in output.finish(1)[0].detail


@pytest.mark.parametrize(("end", "verdict"), [("ok", "passed"), ("not ok", "failed")])
def test_words_between_a_case_and_its_end(end: str, verdict: str) -> None:
    """A shell may report a killed child between the name of a case and its "ok"."""
    killed = "./test-syscall.sh: line 38: 71 Terminated   ./test_klp-call_getpid"
    output = _output(f"TEST: first ... {killed}", end, "TEST: second ... ok", "TEST: third ... ok")
    assert [case.verdict for case in output.finish(0)] == [verdict, "passed", "passed"]


def test_skip() -> None:
    """Exit code 4 skips what has no verdict yet."""
    output = _output("TEST: first ... ok", "SKIP: unable to load module x")
    verdicts = _verdicts(output, SKIP_CODE)
    assert verdicts == [
        ("first", Verdict.PASSED),
        ("second", Verdict.SKIPPED),
        ("third", Verdict.SKIPPED),
    ]


@pytest.mark.parametrize("lines", [(), ("TEST: first ... ok",)])
def test_silence_is_no_pass(lines: tuple[str, ...]) -> None:
    """A script that ends with 0 and has not printed "ok" for a case has failed it."""
    verdicts = dict(_verdicts(_output(*lines), 0))
    assert verdicts["third"] is Verdict.FAILED


def test_failure_after_the_last_case() -> None:
    """A script that fails when all its cases have passed has failed all the same."""
    output = _output(*(f"TEST: {name} ... ok" for name in PLANNED))
    assert _verdicts(output, 1)[-1] == ("end", Verdict.FAILED)
    assert [verdict for _, verdict in _verdicts(output, 0)[:3]] == [Verdict.PASSED] * 3


def _tree(root: Path, makefile: str, *, old: bool) -> Path:
    folder = root / SUITE
    folder.mkdir(parents=True)
    (folder / "Makefile").write_text(makefile)
    (folder / "test-one.sh").write_text('start_test "one"\nstart_test "two words"\n')
    (folder / "test-two.sh").write_text("start_test bare\n")
    (folder / "helper.c").write_text("int main;\n")
    (root / "lib/livepatch" if old else folder / "test_modules").mkdir(parents=True)
    return root


def test_suite_of_an_old_tree(tmp_path: Path) -> None:
    """Up to 6.7 the modules are in lib/livepatch, and need a variable to be built."""
    makefile = (
        "TEST_PROGS_EXTENDED := functions.sh\nTEST_PROGS := \\\n\ttest-one.sh \\\n\ttest-two.sh\n"
    )
    suite = find_suite(_tree(tmp_path, makefile, old=True))
    assert [(script.name, script.cases) for script in suite.scripts] == [
        ("test-one.sh", ("one", "two words")),
        ("test-two.sh", ("bare",)),
    ]
    assert suite.modules == tmp_path / "lib/livepatch"
    assert suite.variables == ("CONFIG_TEST_LIVEPATCH=m",)
    assert suite.programs == ()


def test_suite_of_a_new_tree(tmp_path: Path) -> None:
    """Later they are beside the scripts, with programs that these run."""
    makefile = (
        "TEST_GEN_FILES := helper\nTEST_GEN_MODS_DIR := test_modules\nTEST_PROGS := test-one.sh\n"
    )
    suite = find_suite(_tree(tmp_path, makefile, old=False))
    assert suite.modules == tmp_path / SUITE / "test_modules"
    assert suite.variables == ()
    assert [source.name for source in suite.programs] == ["helper.c"]


class Played:
    """A session whose guests are names, and scripts with given verdicts."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **verdicts: Verdict) -> None:
        self.began: list[str] = []
        self._verdicts = verdicts
        monkeypatch.setattr(command, "run_script", self._run)

    @contextlib.contextmanager
    def guest(self, kernel: object, *, name: str) -> Iterator[str]:
        self.began.append(name)
        yield name

    def _run(self, machine: str, script: Script) -> ScriptRun:
        case = Case(name="case", verdict=self._verdicts[machine])
        return ScriptRun(script=script.name, cases=(case,), seconds=0.0)


@pytest.mark.parametrize("verdict", [Verdict.FAILED, Verdict.SKIPPED])
def test_no_script_after_one_that_failed(verdict: Verdict, monkeypatch: pytest.MonkeyPatch) -> None:
    """With --stop; what did not begin has no result. One that may skip has not failed."""
    verdicts = {"a": Verdict.PASSED, "b": verdict, "c": Verdict.PASSED}
    scripts = [Script(name=f"{name}.sh", cases=()) for name in verdicts]

    def ran(*, stop: bool, may_skip: frozenset[str] = frozenset()) -> list[str]:
        session = Played(monkeypatch, **verdicts)
        ended: dict[str, tuple[SelftestResult, ...]] = {}
        names = command._run_all(
            cast("Session", session), cast("Kernel", None), scripts, 1, may_skip, ended, stop=stop
        )
        ids = [result.id for name in names for result in ended.pop(name)]
        assert not ended
        assert ids == [f"{name}/case" for name in session.began]
        return session.began

    assert ran(stop=False) == ["a", "b", "c"]
    assert ran(stop=True) == ["a", "b"]
    skipped = verdict is Verdict.SKIPPED
    assert ran(stop=True, may_skip=frozenset("b")) == ["a", "b", *("c" if skipped else "")]


def test_suite_without_scripts(tmp_path: Path) -> None:
    """A Makefile without scripts is refused, and not a suite that passes."""
    with pytest.raises(UsageError, match="lists no test scripts"):
        find_suite(_tree(tmp_path, "include ../lib.mk\n", old=True))
