# SPDX-License-Identifier: GPL-2.0-only
"""A copy of a process: it works as a new process would, and ends with what it is a copy of."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness.deadline import Deadline, wait_until
from harness.errors import HarnessError
from harness.vm.host.forked import forked
from harness.vm.host.process import run

ROOT = Path(__file__).resolve().parents[2]
BEGIN = """\
import os, signal, sys, time
from pathlib import Path
from harness.vm.host.forked import forked

note = Path(sys.argv[1])
def wait():
    while not note.exists(): time.sleep(0.01)
"""


def soon() -> Deadline:
    return Deadline.after(300)


def python(script: str, note: Path) -> list[str]:
    return [sys.executable, "-c", BEGIN + script, str(note)]


def is_running(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def test_it_has_what_was_there_and_is_no_second_command(tmp_path: Path) -> None:
    """Its input is empty; what this process had not written out yet is written by it alone."""
    script = (
        "known = ['before']\n"
        "print('once')\n"
        "def work():\n"
        "    os.environ['X'] = 'its own'\n"
        "    print(*known, repr(sys.stdin.read()), os.getppid() == parent)\n"
        "    sys.stdout.flush()\n"
        "    note.touch()\n"
        "parent = os.getpid()\n"
        "with forked(work):\n"
        "    wait()\n"
        "print('end', 'X' in os.environ)\n"
    )
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = python(script, tmp_path / "note")
    done = run(command, deadline=soon(), stdin="input", cwd=ROOT, env=buffered)
    assert done.stdout == "once\nbefore '' True\nend False\n"
    assert done.stderr == ""


def test_it_takes_signals_as_a_new_process_does(tmp_path: Path) -> None:
    """Handlers of this process are not its own; Ctrl-C is blocked; what is ignored stays so."""
    script = (
        "for number in (signal.SIGTERM, signal.SIGINT):\n"
        "    signal.signal(number, lambda *_: print('a handler of another process'))\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "def work():\n"
        "    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == {signal.SIGINT}\n"
        "    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler\n"
        "    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL\n"
        "    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN\n"
        "    note.touch()\n"
        "with forked(work):\n"
        "    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()\n"
        "    wait()\n"
        "print('end')\n"
    )
    done = run(python(script, tmp_path / "note"), deadline=soon(), cwd=ROOT)
    assert (done.stdout, done.stderr) == ("end\n", "")


def test_an_error_in_it_ends_it_alone(tmp_path: Path) -> None:
    """It does not go on with what this process has still to do."""
    script = (
        "def work():\n"
        "    try:\n"
        "        raise SystemExit('wrong')\n"
        "    finally:\n"
        "        note.touch()\n"
        "try:\n"
        "    with forked(work):\n"
        "        wait()\n"
        "finally:\n"
        "    print('tidied up')\n"
    )
    done = run(python(script, tmp_path / "note"), deadline=soon(), cwd=ROOT)
    assert done.stdout == "tidied up\n"


def test_it_ends_with_the_context(tmp_path: Path) -> None:
    """And is reaped."""
    script = (
        "def work():\n"
        "    note.touch()\n"
        "    signal.pause()\n"
        "with forked(work):\n"
        "    wait()\n"
        "try:\n"
        "    os.waitpid(-1, os.WNOHANG)\n"
        "except ChildProcessError:\n"
        "    print('no children')\n"
    )
    done = run(python(script, tmp_path / "note"), deadline=soon(), cwd=ROOT)
    assert done.stdout == "no children\n"


def test_it_ends_with_a_process_that_is_killed(tmp_path: Path) -> None:
    """kill -9 leaves nothing behind."""
    script = (
        "def work():\n"
        "    aside = note.with_name('aside')\n"
        "    aside.write_text(str(os.getpid()))\n"
        "    aside.rename(note)\n"
        "    signal.pause()\n"
        "with forked(work):\n"
        "    signal.pause()\n"
    )
    note = tmp_path / "note"
    with subprocess.Popen(python(script, note), cwd=ROOT) as parent:
        try:
            assert wait_until(note.exists, soon())
        finally:
            parent.kill()
    pid = int(note.read_text())
    assert wait_until(lambda: not is_running(pid), soon())


def test_a_host_that_starts_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said, and signals are taken as before."""

    def refuse() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", refuse)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with pytest.raises(HarnessError, match="cannot start a process: Resource temp"), forked(print):
        pytest.fail("it was entered")
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
