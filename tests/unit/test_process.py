# SPDX-License-Identifier: GPL-2.0-only
"""Host processes, with real ones."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness.deadline import Deadline, wait_until
from harness.errors import (
    CommandFailed,
    CommandTimeout,
    HarnessError,
    MissingTool,
    NoSpace,
    UsageError,
)
from harness.vm.host import process
from harness.vm.host.process import (
    PIPE,
    command_line,
    find_program,
    foreground,
    run,
    spawn,
)

ROOT = Path(__file__).resolve().parents[2]


def soon() -> Deadline:
    return Deadline.after(30)


def is_running(pid: int) -> bool:
    """Whether a process exists and is more than a zombie that nobody has reaped yet."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def read_pid(path: Path) -> int:
    assert wait_until(lambda: path.exists() and path.read_text().endswith("\n"), soon())
    return int(path.read_text())


def test_both_outputs_beyond_a_pipe_each() -> None:
    """Neither output may fill up and block the child, in whichever order it writes them."""
    script = (
        "import sys\n"
        "for stream in (sys.stderr, sys.stdout, sys.stderr):\n"
        "    stream.write('x' * 3_000_000 + '\\n'); stream.flush()\n"
    )
    done = run([sys.executable, "-c", script], deadline=soon())
    assert len(done.stdout) == 3_000_001
    assert len(done.stderr) == 6_000_002


def test_a_nice_child_lets_others_go_first() -> None:
    """So do its children, and its session where the host schedules by these."""
    script = "read line; nice; cat /proc/self/autogroup 2>/dev/null"
    with spawn(["sh", "-c", script], stdin=PIPE, stdout=PIPE, nice=7) as child:
        said, _ = child.communicate(b"\n", timeout=30)
    own, _, group = said.decode().partition("\n")
    assert own == "7"
    # A kernel without autogroups has no such file.
    assert not group or group.endswith(" nice 7\n")


def test_input_beyond_a_pipe_comes_back() -> None:
    """Input and output larger than a pipe do not block each other."""
    text = "line of input\n" * 100_000
    assert run(["cat"], stdin=text, deadline=soon()).stdout == text


def test_input_that_nobody_reads_is_no_error() -> None:
    """A command may end without reading its input."""
    assert run(["true"], stdin="x" * 1_000_000, deadline=soon()).returncode == 0


def test_lines_come_whole_and_also_go_to_the_log(tmp_path: Path) -> None:
    """Lines are passed on whole, however they are written, and logged."""
    seen: list[str] = []
    log = tmp_path / "log"
    run(
        ["sh", "-c", "printf 'on'; printf 'e\\ntwo'; printf 'three\\n' >&2"],
        deadline=soon(),
        on_line=seen.append,
        log_path=log,
    )
    assert sorted(seen) == ["one", "three", "two"]
    assert sorted(log.read_text().replace("twothree", "two\nthree").split()) == [
        "one",
        "three",
        "two",
    ]


def test_bytes_that_are_no_text_are_replaced() -> None:
    """Output that is no UTF-8 is no error."""
    assert run(["printf", r"\377ok"], deadline=soon()).stdout == "\ufffdok"


def test_time_out_kills_grandchildren_too(tmp_path: Path) -> None:
    """The whole process group dies at the deadline, not its leader alone."""
    grandchild = tmp_path / "pid"
    script = f"sleep 600 & echo $! >{grandchild}; echo started; wait"
    with pytest.raises(CommandTimeout) as caught:
        run(["sh", "-c", script], deadline=Deadline.after(1.0))
    assert "was killed" in caught.value.message
    assert caught.value.details == ("started",)
    pid = read_pid(grandchild)
    assert wait_until(lambda: not is_running(pid), soon())


def test_what_a_finished_command_left_running_is_killed(tmp_path: Path) -> None:
    """A background process that holds the output open neither delays nor survives its command."""
    left = tmp_path / "pid"
    done = run(["sh", "-c", f"sleep 600 & echo $! >{left}; echo done"], deadline=soon())
    assert done.stdout == "done\n"
    pid = read_pid(left)
    assert wait_until(lambda: not is_running(pid), soon())


def test_leaving_spawn_kills_the_group(tmp_path: Path) -> None:
    """A block that ends leaves none of its processes."""
    grandchild = tmp_path / "pid"
    with spawn(["sh", "-c", f"sleep 600 & echo $! >{grandchild}; wait"]) as child:
        pid = read_pid(grandchild)
        assert is_running(pid)
    assert child.returncode == -signal.SIGKILL
    assert wait_until(lambda: not is_running(pid), soon())


def test_child_dies_with_a_killed_parent(tmp_path: Path) -> None:
    """kill -9 of the harness leaves no child: the kernel sends the death signal."""
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from harness.vm.host.process import spawn\n"
        "with spawn(['sleep', '600']) as child:\n"
        "    Path(sys.argv[1]).write_text(f'{child.pid}\\n')\n"
        "    child.wait()\n"
    )
    told = tmp_path / "pid"
    parent = subprocess.Popen([sys.executable, "-c", script, str(told)], cwd=ROOT)
    try:
        pid = read_pid(told)
        # setpriv turns into sleep by execve(2): only then is the death signal certainly set.
        assert wait_until(lambda: "sleep" in Path(f"/proc/{pid}/comm").read_text(), soon())
    finally:
        parent.kill()
        parent.wait()
    assert wait_until(lambda: not is_running(pid), soon())


def test_die_with_parent_follows_a_killed_parent(tmp_path: Path) -> None:
    """What make starts ends with make, also when make was killed."""
    told = tmp_path / "pid"
    child = (
        "import os, sys, time\n"
        "from pathlib import Path\n"
        "from harness.vm.host.process import die_with_parent\n"
        "die_with_parent(os.getppid())\n"
        "Path(sys.argv[1]).write_text(f'{os.getpid()}\\n')\n"
        "time.sleep(600)\n"
    )
    middle = (
        "import subprocess, sys\n"
        "subprocess.run([sys.executable, '-c', sys.argv[1], sys.argv[2]], check=False)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", middle, child, str(told)], cwd=ROOT)
    try:
        pid = read_pid(told)
    finally:
        parent.kill()
        parent.wait()
    assert wait_until(lambda: not is_running(pid), soon())


def test_die_with_parent_ends_at_once_when_the_parent_is_gone() -> None:
    """There is no moment in which a child can miss its parent's end."""
    script = "from harness.vm.host.process import die_with_parent\ndie_with_parent(999_999_999)\n"
    done = run([sys.executable, "-c", script], deadline=soon(), cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL


def test_missing_program() -> None:
    """A program that is not installed is named, with where to learn its package."""
    with pytest.raises(MissingTool, match="no-such-program is not installed") as caught:
        run(["no-such-program"], deadline=soon())
    assert caught.value.hint is not None


def test_programs_of_the_system_are_found_without_them_in_path(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Debian's PATH for others than root has no sbin; depmod and dropbear are there."""
    program = tmp_path / "klp-sbin-program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert "/usr/sbin" in process.SYSTEM_FOLDERS
    monkeypatch.setattr(process, "SYSTEM_FOLDERS", (str(tmp_path),))
    assert find_program(program.name) == str(program)


def test_failure_has_exit_code_command_and_last_lines() -> None:
    """An error has the command, its exit code and its last lines."""
    with pytest.raises(CommandFailed) as caught:
        run(["sh", "-c", "echo 'two words'; echo why >&2; exit 7"], deadline=soon())
    assert caught.value.message.endswith("ended with exit code 7")
    assert "`sh -c 'echo '" in caught.value.message
    assert caught.value.details == ("two words", "why")


@pytest.mark.parametrize(
    ("number", "name"), [(signal.SIGSEGV, "SIGSEGV"), (signal.SIGRTMIN + 1, "signal 35")]
)
def test_failure_names_the_signal(number: int, name: str) -> None:
    """A command that a signal killed is not reported as an exit code."""
    with pytest.raises(CommandFailed, match=f"was killed by {name}$"):
        run(["sh", "-c", f"kill -{int(number)} $$"], deadline=soon())


def test_failure_for_want_of_space_is_its_own_error() -> None:
    """/dev/full answers every write as a full disk does."""
    with pytest.raises(NoSpace, match="ran out of disk space") as caught:
        run(["sh", "-c", "cat /etc/hostname >/dev/full"], deadline=soon())
    assert caught.value.hint is not None


def test_messages_come_in_one_language(monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors are told from messages, so a child's language must not be the user's."""
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    assert run(["sh", "-c", "echo $LC_ALL"], deadline=soon()).stdout == "C.UTF-8\n"


def test_unchecked_failure_is_returned() -> None:
    """A caller that judges the exit code itself gets it."""
    done = run(["sh", "-c", "exit 3"], deadline=soon(), check=False)
    assert done.returncode == 3


def test_a_file_that_cannot_be_started(tmp_path: Path) -> None:
    """What keeps a command from starting is a failure of the host."""
    with pytest.raises(HarnessError, match="cannot start true: No such file"):
        run(["true"], deadline=soon(), cwd=tmp_path / "nowhere")


def test_expired_deadline_still_kills() -> None:
    """A deadline that has passed already leaves no process behind."""
    with pytest.raises(CommandTimeout):
        run(["sleep", "600"], deadline=Deadline.after(0))


def test_pipes_of_spawn_are_closed() -> None:
    """A block that ends leaves no descriptor open."""
    with spawn(["cat"], stdin=PIPE, stdout=PIPE) as child:
        assert child.stdin is not None
        assert child.stdout is not None
    assert child.stdin.closed
    assert child.stdout.closed


def test_foreground_stays_in_our_process_group(tmp_path: Path) -> None:
    """Ctrl-C must reach apt-get, and sudo must keep its terminal."""
    told = tmp_path / "group"
    assert foreground(["sh", "-c", f"cut -d' ' -f5 /proc/self/stat >{told}; exit 4"]) == 4
    assert int(told.read_text()) == os.getpgrp()


def test_command_line_can_be_pasted() -> None:
    """Quoted commands can be run by the reader."""
    assert command_line(["a b", Path("c$d")]) == "'a b' 'c$d'"


def test_failure_keeps_the_last_lines_only() -> None:
    """An error quotes what a person will read: the end of the output, not all of it."""
    with pytest.raises(CommandFailed) as caught:
        run(["sh", "-c", "seq 0 99; exit 1"], deadline=soon())
    assert caught.value.details == tuple(str(number) for number in range(80, 100))


def test_a_failure_is_explained_and_a_time_out_is_not() -> None:
    """What a caller makes of a failure must not hide that time was up or the disk full."""

    def explain(error: CommandFailed) -> Exception:
        return UsageError("explained", details=error.details)

    with pytest.raises(UsageError, match="explained") as caught:
        run(["sh", "-c", "echo why; exit 1"], deadline=soon(), explain=explain)
    assert caught.value.details == ("why",)
    with pytest.raises(CommandTimeout):
        run(["sleep", "600"], deadline=Deadline.after(0), explain=explain)
    with pytest.raises(NoSpace):
        run(["sh", "-c", "cat /etc/hostname >/dev/full"], deadline=soon(), explain=explain)
