# SPDX-License-Identifier: GPL-2.0-only
"""Jobs side by side: in threads of this process, and as child commands that these wait for."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.cli.child_commands import ChildCommands, Command, Lane
from harness.deadline import Deadline, wait_until
from harness.errors import HarnessError
from harness.threads import run_jobs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_PATIENCE_S = 30.0


def test_jobs_overlap() -> None:
    """As many jobs run at the same time as were asked for."""
    together = threading.Barrier(3, timeout=_PATIENCE_S)

    def wait_for_others(number: int) -> int:
        together.wait()
        return number

    found = run_jobs(range(3), wait_for_others, at_a_time=3, name="x")
    assert sorted(found) == [0, 1, 2]


def test_jobs_are_taken_late_and_in_order() -> None:
    """The source of jobs can stop because of what earlier jobs found."""
    done: list[int] = []

    def until_three() -> Iterator[int]:
        for number in range(1, 10):
            if len(done) == 3:
                return
            yield number

    list(run_jobs(until_three(), done.append, at_a_time=1, name="x"))
    assert done == [1, 2, 3]


def test_a_job_that_raises_ends_the_run() -> None:
    """The caller gets the error, and no further job begins."""
    begun: list[int] = []

    def fail(number: int) -> None:
        begun.append(number)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(run_jobs(range(100), fail, at_a_time=1, name="x"))
    assert begun == [0]


def test_no_job_begins_after_the_caller_has_stopped() -> None:
    """As on Ctrl-C: the jobs that had begun go on, the others never begin."""
    goes_on, begun = threading.Event(), []

    def work(number: int) -> int:
        begun.append(number)
        if number:
            goes_on.wait(_PATIENCE_S)
        return number

    found = run_jobs(range(100), work, at_a_time=1, name="x")
    assert next(found) == 0
    assert wait_until(lambda: begun == [0, 1], Deadline.after(_PATIENCE_S))
    found.close()  # type: ignore[attr-defined]
    goes_on.set()
    threads = [thread for thread in threading.enumerate() if thread.name == "x-0"]
    for thread in threads:
        thread.join(_PATIENCE_S)
    assert begun == [0, 1]


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Have a shell script run in place of the harness's own commands."""

    def put(text: str) -> None:
        script = tmp_path / "command"
        script.write_text(f"#!/bin/sh\n{text}")
        script.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(script))
        monkeypatch.chdir(tmp_path)

    return put


def command(lane: Lane, name: str) -> Command:
    return Command(lane=lane, name=name, arguments=(name,))


def test_one_build_and_one_run_at_a_time(tmp_path: Path, program: Callable[[str], None]) -> None:
    """While one kernel is tested the next is built, and no two commands of a kind overlap."""
    program("kind=${3%-*}\nmkdir $kind || exit 9\nsleep 0.2\nrmdir $kind\n")

    def build_and_run(name: str) -> tuple[int, int]:
        build = commands.run(command(Lane.BUILD, f"build-{name}"))
        return build.code, commands.run(command(Lane.RUN, f"run-{name}")).code

    with ChildCommands(tmp_path, runs=1, deadline=Deadline.after(_PATIENCE_S)) as commands:
        found = list(run_jobs("ab", build_and_run, at_a_time=2, name="x"))
    assert found == [(0, 0), (0, 0)]


def test_a_build_overlaps_a_run(tmp_path: Path, program: Callable[[str], None]) -> None:
    """Each of two commands of different kinds waits for the other to have begun."""
    program("touch began-$3\nwhile ! test -e began-run -a -e began-build; do sleep 0.02; done\n")
    wanted = [command(Lane.BUILD, "build"), command(Lane.RUN, "run")]
    with ChildCommands(tmp_path, runs=1, deadline=Deadline.after(_PATIENCE_S)) as commands:
        found = list(run_jobs(wanted, commands.run, at_a_time=2, name="x"))
    assert [done.code for done in found] == [0, 0]


def test_a_command_without_a_report_keeps_what_it_printed(
    tmp_path: Path, program: Callable[[str], None]
) -> None:
    """A command that fails early is known by its exit code and its last lines."""
    program("echo first; echo last >&2; exit 3\n")
    with ChildCommands(tmp_path, runs=1, deadline=Deadline.after(_PATIENCE_S)) as commands:
        done = commands.run(command(Lane.RUN, "x"))
    assert (done.code, done.report, done.last_lines()) == (3, None, "first\nlast")


def test_the_deadline_ends_all_children(tmp_path: Path, program: Callable[[str], None]) -> None:
    """Neither the child that ran out of time is left behind, nor one of another thread."""
    program("echo $$ >pid-$3\nexec sleep 1000\n")
    wanted = [command(Lane.BUILD, "build"), command(Lane.RUN, "run"), command(Lane.RUN, "late")]
    with (
        pytest.raises(HarnessError, match="time for these runs is up"),
        ChildCommands(tmp_path, runs=1, deadline=Deadline.after(2)) as commands,
    ):
        list(run_jobs(wanted, commands.run, at_a_time=3, name="x"))
    pids = {path.name: path.read_text().strip() for path in tmp_path.glob("pid-*")}
    assert len(pids) == 2
    assert not [pid for pid in pids.values() if Path(f"/proc/{pid}").exists()]


def test_leaving_the_context_ends_all_children(
    tmp_path: Path, program: Callable[[str], None]
) -> None:
    """Also a child that another thread waits for, as it is after an interrupt."""
    program("echo $$ >pid\nexec sleep 1000\n")
    pid = tmp_path / "pid"
    with ChildCommands(tmp_path, runs=1, deadline=Deadline.after(_PATIENCE_S)) as commands:
        waits = threading.Thread(target=_expect_end, args=(commands,))
        waits.start()
        assert wait_until(lambda: pid.exists() and bool(pid.read_text()), Deadline.after(10))
    assert not Path(f"/proc/{pid.read_text().strip()}").exists()
    waits.join(_PATIENCE_S)


def _expect_end(commands: ChildCommands) -> None:
    with pytest.raises(HarnessError, match="was ended"):
        commands.run(command(Lane.RUN, "x"))
