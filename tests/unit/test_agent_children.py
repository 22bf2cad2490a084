# SPDX-License-Identifier: GPL-2.0-only
"""The children of the guest agent: those that block or die, programs it starts, and its end."""

from __future__ import annotations

import errno
import os
import re
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.deadline import wait_until
from tests.unit.speaking_agent import Agent, is_running, release, soon, started, stuck

if TYPE_CHECKING:
    pass

IDLE_CHILDREN = 2


# -- children that block or die --------------------------------------------------------------


def test_blocked_children_stall_nobody(agent: Agent, fifo: Path) -> None:
    """Requests that block in the kernel delay no other request."""
    numbers = stuck(agent, fifo, 20)
    assert agent.ask("hello")["errno"] == 0
    assert agent.ask("read", "/proc/version")["errno"] == 0
    release(agent, fifo, 20, b"go")
    texts = [agent.reply(number)["text"] for number in numbers]
    assert "".join(texts) == "go"


def test_a_child_that_is_killed_is_reported(agent: Agent, fifo: Path) -> None:
    """As by an oops: the request has an answer, and the agent lives on."""
    (number,) = stuck(agent, fifo)
    (pid,) = agent.children()
    assert agent.ask("signal", pid, int(signal.SIGSEGV))["errno"] == 0
    reply = agent.reply(number)
    assert (reply["errno"], reply["killed"]) == (0, signal.SIGSEGV)
    assert agent.ask("read", "/proc/version")["errno"] == 0


def test_a_waiting_child_that_is_killed_is_replaced(agent: Agent) -> None:
    """A child that the kernel kills costs at most its own request."""
    assert agent.ask("read", "/proc/version")["errno"] == 0
    for pid in agent.children():
        os.kill(pid, signal.SIGKILL)
    reply = agent.ask("read", "/proc/version")
    # Sent to it before its death was seen: an answer all the same.
    assert "text" in reply or reply["killed"] == signal.SIGKILL
    assert "text" in agent.ask("read", "/proc/version")


def test_a_child_serves_one_request_after_another(agent: Agent, file: Path) -> None:
    """And leaves nothing open."""

    def ask_all() -> None:
        for verb, *args in (
            ("read", "/proc/version"),
            ("read", "/none"),
            ("write", file, "x"),
            ("list", "/proc"),
            ("list", file),
            ("stat", "/proc"),
            ("tasks",),
            ("klog", 0),
            ("klog", 1 << 62),
            ("stack", os.getpid()),
            ("insmod", file, ""),
            ("rmmod", "klp_there_is_no_such_module"),
            ("poll-file", file, "contains", "y", 1, 1),
            ("poll-tasks", 0, "", 1, 1),
        ):
            agent.ask(verb, *args)

    ask_all()
    children, fds = agent.children(), agent.fds()
    ask_all()
    assert (agent.children(), agent.fds()) == (children, fds)
    assert len(children) == 1


@pytest.mark.parametrize("size", [0, 20_000, 500_000])
def test_a_child_is_there_before_the_first_request(agent: Agent, file: Path, size: int) -> None:
    """And takes what a module's size is: an agent that is saved needs no fork in a clone."""
    (child,) = agent.children()
    assert agent.ask("write", file, "x" * size)["written"] == size
    assert file.read_text() == "x" * size
    assert agent.ask("read", f"/proc/{child}/comm")["errno"] == 0
    assert agent.children() == [child]


def test_a_very_long_line_is_not_kept_in_memory(agent: Agent, file: Path) -> None:
    """It goes to a child of its own, which ends with it."""
    before = agent.children()
    assert agent.ask("write", file, "x" * (1 << 20))["written"] == 1 << 20
    assert wait_until(lambda: agent.children() == before, soon())


def test_looks_grow_rarer_while_nothing_happens(agent: Agent, file: Path) -> None:
    """Counted in system calls of the child; a busy machine only makes them fewer."""
    (child,) = agent.children()

    def calls() -> int:
        (count,) = re.findall(r"syscr: (\d+)", Path(f"/proc/{child}/io").read_text())
        return int(count)

    before = calls()
    poll = agent.ask("poll-file", file, "equals", "1", 1500, 2)
    assert (poll["errno"], agent.children()) == (errno.ETIMEDOUT, [child])
    # At one look every 2 ms, 1500 reads and more; at one every 16 ms, once it is that rare, 100.
    assert 4 < calls() - before < 400


def test_nothing_piles_up(agent: Agent, fifo: Path, file: Path) -> None:
    """No zombie, no descriptor and no more than two idle children stay."""

    def settled() -> bool:
        return len(agent.children()) <= IDLE_CHILDREN

    def round_() -> None:
        numbers = stuck(agent, fifo, 5)
        release(agent, fifo, 5)
        for number in numbers:
            agent.reply(number)
        agent.ask("write", file, "x" * 20000)
        agent.ask("spawn", "/none")
        agent.event(agent.spawn("/bin/true"), "exit")
        assert wait_until(settled, soon())

    round_()
    fds = agent.fds()
    for _ in range(5):
        round_()
    assert wait_until(lambda: agent.fds() <= fds, soon())
    assert all(is_running(pid) for pid in agent.children())


# -- spawned programs ------------------------------------------------------------------------


def test_a_program_is_heard_to_its_end(agent: Agent) -> None:
    """The reply comes first, then each line of both outputs, then the exit."""
    script = "echo out; echo err >&2; printf 'no newline \\377'; exit 3"
    number = agent.send("spawn", "/bin/sh", "-c", script)
    first = agent.message()
    assert first["id"] == number  # before any event
    events = [agent.message() for _ in range(4)]
    said = [(event["stream"], event["text"]) for event in events[:-1]]
    assert sorted(said) == [("stderr", "err"), ("stdout", "no newline ÿ"), ("stdout", "out")]
    assert events[-1] == {"event": "exit", "pid": first["pid"], "code": 3, "signal": None}


def test_the_end_comes_after_both_streams(agent: Agent, fifo: Path) -> None:
    """What a program left behind may still speak; its end is told at once, with its code."""
    pid = agent.spawn("/bin/sh", "-c", f"(read x <{fifo}; echo late) & exit 7")
    end = os.open(fifo, os.O_WRONLY)
    assert wait_until(lambda: not is_running(pid), soon())
    ended = agent.event(pid, "ended")
    assert (ended["code"], ended["signal"]) == (7, None)
    assert ended["stdout"] > 0
    os.write(end, b"\n")
    os.close(end)
    assert agent.message()["text"] == "late"
    assert agent.message()["code"] == 7


def test_a_program_that_cannot_be_started(agent: Agent, tmp_path: Path) -> None:
    """A spawn that fails is answered with its errno and leaves no process."""
    before = agent.children()
    assert agent.ask("spawn", "/none")["errno"] == errno.ENOENT
    assert agent.ask("spawn", tmp_path)["errno"] == errno.EACCES
    assert agent.ask("hello")["errno"] == 0
    assert wait_until(lambda: agent.children() == before, soon())
    agent.send("hello")
    assert "id" in agent.message()  # no event about either


# 32 and 33 are the C library's own: signal(2) does not touch them.
LIBC_SIGNALS = 1 << 31 | 1 << 32


def test_a_program_starts_clean(agent: Agent, fifo: Path) -> None:
    """No descriptor, blocked or ignored signal of the agent's, and a group of its own."""
    stuck(agent, fifo)
    script = "echo $(ls /proc/self/fd); grep -E 'Sig(Blk|Ign)' /proc/self/status; "
    pid = agent.spawn("/bin/sh", "-c", script + "cut -d' ' -f5 /proc/$$/stat")
    lines = [agent.event(pid, "line")["text"] for _ in range(4)]
    assert lines[0] == "0 1 2 3"  # 3 is the directory being listed
    masks = {int(line.split()[1], 16) & ~LIBC_SIGNALS for line in lines[1:3]}
    assert masks == {0}
    assert lines[3] == str(pid)


def test_a_program_is_fed(agent: Agent, fifo: Path) -> None:
    """Standard input arrives in order and whole, and ends when it is closed."""
    pid = agent.spawn("/bin/cat")
    # This child has nothing to do with the program, and must not keep its input open.
    stuck(agent, fifo)
    text = "".join(f"line {number}\n" for number in range(30000))
    agent.send("stdin", pid, text)
    assert agent.ask("close-stdin", pid)["errno"] == 0
    lines = [agent.event(pid, "line")["text"] for _ in range(30000)]
    assert lines == text.splitlines()
    assert agent.event(pid, "exit")["code"] == 0
    assert agent.ask("stdin", pid, "x")["errno"] == errno.ESRCH


def test_a_program_that_does_not_read_stalls_nobody(agent: Agent) -> None:
    """A full pipe blocks neither the agent nor the program's end."""
    pid = agent.spawn("/bin/sleep", "1000")
    full = agent.send("stdin", pid, "x" * 200_000)
    close = agent.send("close-stdin", pid)
    assert agent.ask("hello")["errno"] == 0
    assert agent.ask("signal", pid, int(signal.SIGTERM))["errno"] == 0
    assert agent.event(pid, "exit")["signal"] == signal.SIGTERM
    assert [agent.reply(n)["errno"] for n in (full, close)] == [errno.EPIPE, errno.EPIPE]


def test_a_slow_reader_loses_nothing(agent: Agent) -> None:
    """Output is held back, never dropped, when the host reads slowly."""
    pid = agent.spawn("/bin/sh", "-c", "head -c 3000000 /dev/zero; echo; seq 50000")
    head = ""
    while len(head) < 3_000_000:  # a line beyond 1 MiB comes in pieces
        head += agent.event(pid, "line")["text"]
    assert head == "\0" * 3_000_000
    numbers = [agent.event(pid, "line")["text"] for _ in range(50000)]
    assert numbers == [str(number) for number in range(1, 50001)]
    assert agent.event(pid, "exit")["code"] == 0


def test_signals_go_to_one_process_or_group(agent: Agent) -> None:
    """0 would be the agent's own group, -1 everybody."""
    for pid in ("0", "-1", "-0", "x", "", "99999999999999999999"):
        assert agent.ask("signal", pid, 9)["errno"] == errno.EINVAL, pid
    pid_ = agent.spawn("/bin/sh", "-c", "sleep 1000 & echo $!; wait")
    sleeper = int(agent.event(pid_, "line")["text"])
    assert agent.ask("signal", f"-{pid_}", 9)["errno"] == 0
    assert agent.event(pid_, "exit")["signal"] == signal.SIGKILL
    assert wait_until(lambda: not is_running(sleeper), soon())


# -- the end ---------------------------------------------------------------------------------


def processes_of(agent: Agent, fifo: Path) -> list[int]:
    """Start what can be left behind: a stuck child, a program, and its own child."""
    pid = agent.spawn("/bin/sh", "-c", "trap '' TERM HUP; sleep 1000 & echo $!; wait")
    sleeper = int(agent.event(pid, "line")["text"])
    stuck(agent, fifo, 3)
    return [sleeper, *agent.children()]


def test_the_end_of_input_ends_all(agent: Agent, fifo: Path) -> None:
    """The agent and all that it started end when the connection is closed."""
    pids = processes_of(agent, fifo)
    assert agent.close() == 0
    assert wait_until(lambda: not any(is_running(pid) for pid in pids), soon())


def test_sigterm_is_an_end_of_input(agent: Agent, fifo: Path) -> None:
    """SIGTERM ends the agent in the same orderly way."""
    pids = processes_of(agent, fifo)
    agent.child.terminate()
    assert agent.child.wait(timeout=soon().remaining_s) == 0
    assert wait_until(lambda: not any(is_running(pid) for pid in pids), soon())


def test_children_die_with_a_killed_agent(agent: Agent, fifo: Path) -> None:
    """An agent that is killed leaves no process in the guest."""
    stuck(agent, fifo, 3)
    agent.spawn("/bin/sleep", "1000")
    pids = agent.children()
    agent.child.kill()
    agent.child.wait(timeout=soon().remaining_s)
    assert wait_until(lambda: not any(is_running(pid) for pid in pids), soon())


def test_without_a_reader_it_ends(agent_program: Path) -> None:
    """An agent that nobody listens to does not run on."""
    with started(agent_program) as agent:
        assert agent.child.stdout is not None
        agent.child.stdout.close()
        agent.send("hello")
        assert agent.child.wait(timeout=soon().remaining_s) == 1
