# SPDX-License-Identifier: GPL-2.0-only
"""What the campaign of signals calls a fault: programs in place of klp-harness show each."""

from __future__ import annotations

import random
import signal
import sys
import textwrap
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from benchmarks import commands_here
from benchmarks.commands_here import Ended, Place
from benchmarks.signals import Shooting, Victim, _exit_problems

if TYPE_CHECKING:
    from pathlib import Path

_LISTING = Ended(words=("kernel", "list"), code=0, output="", seconds=1, report={"results": [1]})
# A test gives commands another one.
_PYTHON = sys.executable
_VICTIM = Victim(words=("victim",))
_CLEAN = Ended(words=("victim",), code=0, output="", seconds=0.5, report={})


class _Always(random.Random):
    """Chooses one signal, late."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(1)
        self._number = number

    def choice(self, _: object) -> signal.Signals:  # type: ignore[override]
        return self._number

    def random(self) -> float:
        return 1.0

    def uniform(self, _low: float, _high: float) -> float:
        return 1.5


Shoot = Callable[[str, signal.Signals], tuple[str, ...]]


@pytest.fixture
def shoot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shoot:
    """Send one signal to a Python program in place of klp-harness; return the problems."""
    monkeypatch.setattr(commands_here, "_GONE_S", 1.0)

    def once(program: str, number: signal.Signals) -> tuple[str, ...]:
        script = tmp_path / "bin" / "klp-harness"
        script.parent.mkdir(exist_ok=True)
        script.write_text(f"#!{_PYTHON}\nimport sys, time, os, signal, subprocess\n")
        with script.open("a") as file:
            file.write(textwrap.dedent(program))
        script.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(script.with_name("python")))
        place = Place(tmp_path / "place")
        monkeypatch.setattr(place, "run", lambda words, **_: _LISTING)
        shooting = Shooting(place=place, seed=1)
        return shooting._one(_VICTIM, _CLEAN, _Always(number)).problems

    return once


def test_a_program_that_ends_as_it_should(shoot: Shoot) -> None:
    """128 and the signal's number, and nothing left: no problem."""
    program = """
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        time.sleep(60)
    """
    assert shoot(program, signal.SIGTERM) == ()
    assert shoot("time.sleep(60)", signal.SIGKILL) == ()


def test_another_exit_code(shoot: Shoot) -> None:
    """Ctrl-C's code for SIGTERM is a fault."""
    program = """
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))
        time.sleep(60)
    """
    assert shoot(program, signal.SIGTERM) == ("exit code 130 instead of 143",)


def test_a_traceback_and_half_a_file(shoot: Shoot) -> None:
    """A traceback of ours, and JSON that was cut off, are named."""
    program = """
        open(sys.argv[sys.argv.index("--json") + 1], "w").write('{"results": [')
        print("Traceback (most recent call last):")
        print('  File "/x/harness/cli/app.py", line 1', flush=True)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        time.sleep(60)
    """
    problems = " ".join(shoot(program, signal.SIGTERM))
    assert "a half-written result file" in problems
    assert "it printed a traceback" in problems


def test_a_process_that_is_left(shoot: Shoot) -> None:
    """A child that outlives its command is found, also in a session of its own."""
    program = """
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        subprocess.Popen(["sleep", "20"], start_new_session=True)
        time.sleep(60)
    """
    (problem,) = shoot(program, signal.SIGTERM)
    assert "processes are left" in problem
    assert "sleep 20" in problem


def test_a_private_key_that_is_left(shoot: Shoot) -> None:
    """A key in the folder of a run whose process has ended is a fault, unless SIGKILL ended it."""
    program = """
        folder = os.path.join(os.environ["KLP_HARNESS_RUNS"], f"20260101-000000-run-{os.getpid()}")
        os.makedirs(folder)
        open(os.path.join(folder, "client_key"), "w").write("x")
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        time.sleep(60)
    """
    (problem,) = shoot(program, signal.SIGTERM)
    assert problem.startswith("left behind: 20260101-000000-run-")
    assert shoot(program, signal.SIGKILL) == ()


def test_what_an_earlier_one_left_is_not_its_own(shoot: Shoot) -> None:
    """SIGKILL's leftovers are for the next run, which may be interrupted before it removes them."""
    leaves_a_key = """
        folder = os.path.join(os.environ["KLP_HARNESS_RUNS"], f"20260101-000000-run-{os.getpid()}")
        os.makedirs(folder)
        open(os.path.join(folder, "client_key"), "w").write("x")
        time.sleep(60)
    """
    assert shoot(leaves_a_key, signal.SIGKILL) == ()
    program = """
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        time.sleep(60)
    """
    assert shoot(program, signal.SIGTERM) == ()


def test_a_signal_that_is_swallowed(shoot: Shoot) -> None:
    """Exit code 0 without results at the time of the signal: the command did not take it."""
    program = """
        name = sys.argv[sys.argv.index("--json") + 1]
        signal.signal(signal.SIGTERM, lambda *_: open(name, "w").write("{}"))
        time.sleep(4)
    """
    assert shoot(program, signal.SIGTERM) == ("it went on as if there had been no signal",)


@pytest.mark.parametrize(
    ("code", "number", "right"),
    [
        (130, signal.SIGINT, True),
        (-2, signal.SIGINT, True),
        (129, signal.SIGHUP, True),
        (0, signal.SIGTERM, True),
        (1, signal.SIGINT, False),
        (3, signal.SIGTERM, False),
        (137, signal.SIGKILL, False),
        (-9, signal.SIGKILL, True),
    ],
)
def test_which_exit_codes_are_right(code: int, number: signal.Signals, right: bool) -> None:
    """That of the signal as a shell reports it, or that of a command that was done by then."""
    assert (_exit_problems(code, number, 0, in_time=True) == []) is right


def test_what_the_campaign_starts_ignores_no_signal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under nohup as well: or else each command would go on as if there had been no signal."""
    program = tmp_path / "klp-harness"
    program.write_text("#!/bin/sh\nexec cat /proc/self/status\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        ended = Place(tmp_path / "place").run((), seconds=60, report=False)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    ignored = next(line for line in ended.output.splitlines() if line.startswith("SigIgn:"))
    assert not [each for each in numbers if int(ignored.split()[1], 16) >> (each - 1) & 1]
