# SPDX-License-Identifier: GPL-2.0-only
"""The guest agent, compiled for and run on this host, and spoken to through pipes."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.deadline import Deadline, wait_until
from harness.host.process import PIPE, Process, run, spawn
from harness.wire import (
    PROTOCOL_VERSION,
    Directory,
    FilePoll,
    FileStatus,
    Hello,
    KlogBatch,
    TaskSample,
    encode_request,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAMS = Path(__file__).resolve().parents[2] / "guest-programs"
LINE_MAX = 8 << 20
IDLE_CHILDREN = 2


def soon() -> Deadline:
    return Deadline.after(30)


class Agent:
    """An agent, its requests and what it says."""

    def __init__(self, child: Process[bytes]) -> None:
        assert child.stdin is not None
        assert child.stdout is not None
        self.child = child
        self._stdin = child.stdin
        self._stdout = child.stdout.fileno()
        self._partial = b""
        self._messages: list[dict[str, Any]] = []
        self._number = 0

    def raw(self, data: bytes) -> None:
        self._stdin.write(data)
        self._stdin.flush()

    def send(self, verb: str, *args: object) -> int:
        self._number += 1
        self.raw(encode_request(self._number, verb, [str(arg) for arg in args]))
        return self._number

    def ask(self, verb: str, *args: object) -> dict[str, Any]:
        return self.reply(self.send(verb, *args))

    def reply(self, number: int) -> dict[str, Any]:
        return self._take(lambda message: message.get("id") == number)

    def event(self, pid: int, kind: str) -> dict[str, Any]:
        return self._take(lambda message: message.get("event") == kind and message["pid"] == pid)

    def message(self) -> dict[str, Any]:
        return self._take(lambda message: True)

    def spawn(self, *argv: str) -> int:
        reply = self.ask("spawn", *argv)
        assert reply["errno"] == 0
        return int(reply["pid"])

    def close(self) -> int:
        self._stdin.close()
        return self.child.wait(timeout=soon().remaining_s)

    def children(self) -> list[int]:
        task = Path(f"/proc/{self.child.pid}/task/{self.child.pid}/children")
        return [int(pid) for pid in task.read_text().split()]

    def fds(self) -> int:
        """How many descriptors it and its children have open."""
        pids = [self.child.pid, *self.children()]
        return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in pids)  # noqa: PTH208

    def _take(self, wanted: Any) -> dict[str, Any]:
        deadline = soon()
        looked = 0
        while True:
            for index in range(looked, len(self._messages)):
                if wanted(self._messages[index]):
                    return self._messages.pop(index)
            looked = len(self._messages)
            assert select.select([self._stdout], [], [], deadline.remaining_s)[0], "no answer"
            data = os.read(self._stdout, 1 << 20)
            assert data, "the agent has ended"
            *lines, self._partial = (self._partial + data).split(b"\n")
            self._messages += [json.loads(line.decode()) for line in lines]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The agent, built as for a guest."""
    out = tmp_path_factory.mktemp("guest-programs")
    run(["make", "-C", PROGRAMS, f"OUT={out}"], deadline=Deadline.after(120))
    return out / "klp-agent"


@contextlib.contextmanager
def started(program: Path) -> Iterator[Agent]:
    with spawn([program], stdin=PIPE, stdout=PIPE) as child:
        yield Agent(child)


@pytest.fixture(scope="module")
def shared_agent(program: Path) -> Iterator[Agent]:
    with started(program) as agent:
        yield agent


@pytest.fixture
def agent(program: Path) -> Iterator[Agent]:
    with started(program) as agent:
        yield agent


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a file, 100%"
    path.write_bytes(b"")
    return path


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path


def stuck(agent: Agent, fifo: Path, count: int = 1) -> list[int]:
    """Let children of the agent block in the kernel until somebody opens the fifo."""
    numbers = [agent.send("read", fifo) for _ in range(count)]
    agent.ask("hello")  # requests are taken in their order
    return numbers


def release(agent: Agent, fifo: Path, count: int, data: bytes = b"") -> None:
    """Let so many stuck children go; one of them reads the data."""
    end = os.open(fifo, os.O_WRONLY)
    try:
        assert wait_until(lambda: readers(agent, fifo) == count, soon())
        os.write(end, data)
    finally:
        os.close(end)


def readers(agent: Agent, fifo: Path) -> int:
    """How many children of the agent have the fifo open."""
    folders = (Path(f"/proc/{pid}/fd") for pid in agent.children())
    return sum(any(fd.readlink() == fifo for fd in folder.iterdir()) for folder in folders)


def is_running(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def shown(data: bytes) -> str:
    """How the protocol shows bytes: UTF-8 where it is, and U+00XX for each other byte."""
    text = ""
    while data:
        for length in range(1, 5):
            with contextlib.suppress(UnicodeDecodeError):
                text += data[:length].decode()
                data = data[length:]
                break
        else:
            text += chr(data[0])
            data = data[1:]
    return text


def test_hello_says_who_it_is(agent: Agent) -> None:
    hello = Hello.model_validate(agent.ask("hello"))
    assert hello.protocol == PROTOCOL_VERSION
    assert hello.release == os.uname().release
    assert hello.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=300))
def test_every_byte_survives(
    shared_agent: Agent, tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    """Requests carry any bytes, and replies show any bytes as valid JSON."""
    file = tmp_path_factory.getbasetemp() / "every-byte"
    file.write_bytes(b"")
    text = data.decode(errors="surrogateescape")
    reply = shared_agent.ask("write", file, text)
    assert (reply["errno"], reply["written"]) == (0, len(data))
    assert file.read_bytes() == data
    assert shared_agent.ask("read", file)["text"] == shown(data)


def test_what_is_not_utf8_is_shown_byte_by_byte(agent: Agent, file: Path) -> None:
    """Surrogates, overlong forms, beyond U+10FFFF, and a sequence that is cut short."""
    file.write_bytes(b"\xed\xa0\x80 \xc0\x80 \xe0\x80\x80 \xf4\x90\x80\x80 \xe2\x82")
    expected = "í\xa0\x80 À\x80 à\x80\x80 ô\x90\x80\x80 â\x82"
    assert agent.ask("read", file)["text"] == expected


def test_read_stops_at_its_limit(agent: Agent, file: Path) -> None:
    file.write_text("x" * ((1 << 20) + 1))
    reply = agent.ask("read", file)
    assert (len(reply["text"]), reply["truncated"]) == (1 << 20, True)
    reply = agent.ask("read", file, 2 << 20)
    assert (len(reply["text"]), reply["truncated"]) == ((1 << 20) + 1, False)
    reply = agent.ask("read", file, (1 << 20) + 1)
    assert (len(reply["text"]), reply["truncated"]) == ((1 << 20) + 1, False)


def test_write_creates_no_file(agent: Agent, tmp_path: Path) -> None:
    """A misspelt name in /sys must not become a file elsewhere, or another errno."""
    assert agent.ask("write", tmp_path / "none", "x")["errno"] == errno.ENOENT
    assert agent.ask("read", tmp_path / "none")["errno"] == errno.ENOENT
    assert not (tmp_path / "none").exists()


def test_write_is_one_system_call(agent: Agent, fifo: Path) -> None:
    """sysfs takes each write(2) as a whole; a pipe keeps those up to PIPE_BUF in one piece too."""
    end = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
    try:
        assert agent.ask("write", fifo, "x" * 4096)["errno"] == 0
        assert os.read(end, 8192) == b"x" * 4096
    finally:
        os.close(end)


def test_files_are_listed_and_described(agent: Agent, tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir(mode=0o750)
    (tmp_path / "file").write_text("12345")
    (tmp_path / "file").chmod(0o640)
    (tmp_path / "link").symlink_to("nowhere")
    os.mkfifo(tmp_path / "other")
    entries = {e.name: e for e in Directory.model_validate(agent.ask("list", tmp_path)).entries}
    kinds = {name: entry.type for name, entry in entries.items()}
    assert kinds == {"dir": "dir", "file": "file", "link": "link", "other": "other"}
    assert (entries["dir"].mode, entries["file"].mode) == (0o750, 0o640)
    status = FileStatus.model_validate(agent.ask("stat", tmp_path / "file"))
    assert (status.type, status.mode, status.size) == ("file", 0o640, 5)
    assert FileStatus.model_validate(agent.ask("stat", tmp_path / "link")).type == "link"
    assert agent.ask("list", tmp_path / "file")["errno"] == errno.ENOTDIR
    assert agent.ask("stat", tmp_path / "none")["errno"] == errno.ENOENT


def test_every_thread_is_listed(agent: Agent) -> None:
    """With its own name, whatever is in it, under its process."""
    quit_ = threading.Event()
    threads = [threading.Thread(target=quit_.wait) for _ in range(5)]
    for thread in threads:
        thread.start()
    try:
        tid = threads[0].native_id
        Path(f"/proc/self/task/{tid}/comm").write_text("a) R 1 (b")
        reply = agent.ask("tasks")
        if os.geteuid() and Path("/proc/self/patch_state").exists():
            assert reply["errno"] == errno.EACCES  # only root may read it
            return
        sample = TaskSample.model_validate(reply)
        ours = {task.tid: task for task in sample.tasks if task.pid == os.getpid()}
        assert set(ours) == {int(name) for name in os.listdir("/proc/self/task")}  # noqa: PTH208
    finally:
        quit_.set()
        for thread in threads:
            thread.join()
    assert ours[tid or 0].comm == "a) R 1 (b"
    assert ours[tid or 0].ppid == os.getppid()
    assert not ours[tid or 0].kthread
    agents = [task for task in sample.tasks if task.pid == agent.child.pid]
    assert [(task.comm, task.state) for task in agents] == [("klp-agent", "S")]


def test_the_kernel_log_goes_on_where_it_was_left(agent: Agent) -> None:
    first = agent.ask("klog", 0)
    if not os.access("/dev/kmsg", os.R_OK):
        assert first["errno"] in (errno.ENOENT, errno.EACCES, errno.EPERM)
        return
    batch = KlogBatch.model_validate(first)
    assert [record.seq for record in batch.records] == sorted(r.seq for r in batch.records)
    assert batch.next == (batch.records[-1].seq + 1 if batch.records else 0)
    again = KlogBatch.model_validate(agent.ask("klog", batch.next))
    assert all(record.seq >= batch.next for record in again.records)
    assert again.next >= batch.next
    # An earlier start after a later one: the whole log once more.
    whole = KlogBatch.model_validate(agent.ask("klog", 0))
    assert whole.records[: len(batch.records)] == batch.records
    assert KlogBatch.model_validate(agent.ask("klog", 1 << 62)).records == ()


def test_poll_tasks_needs_patch_states(agent: Agent) -> None:
    reply = agent.ask("poll-tasks", -1, "", 0, 1)
    if Path("/proc/self/patch_state").exists():
        assert reply["errno"] in (0, errno.ETIMEDOUT, errno.EACCES)
    else:
        assert (reply["errno"], "patch_state" in reply["error"]) == (errno.ENOENT, True)
    assert agent.ask("poll-tasks", 2, "", 0, 1)["errno"] == errno.EINVAL
    assert agent.ask("poll-tasks", 1, "5,x", 0, 1)["errno"] == errno.EINVAL


def test_modules_that_are_none_are_refused(agent: Agent, file: Path, tmp_path: Path) -> None:
    assert agent.ask("insmod", tmp_path / "none.ko", "")["errno"] == errno.ENOENT
    assert agent.ask("insmod", file, "")["errno"] != 0
    assert agent.ask("rmmod", "klp_there_is_no_such_module")["errno"] != 0


# -- children that block or die --------------------------------------------------------------


def test_blocked_children_stall_nobody(agent: Agent, fifo: Path) -> None:
    numbers = stuck(agent, fifo, 20)
    assert agent.ask("hello")["errno"] == 0
    assert agent.ask("read", "/proc/version")["errno"] == 0
    release(agent, fifo, 20, b"go")
    texts = [agent.reply(number)["text"] for number in numbers]
    assert "".join(texts) == "go"


def test_a_child_that_is_killed_is_told_apart(agent: Agent, fifo: Path) -> None:
    """As by an oops: the request has an answer, and the agent lives on."""
    (number,) = stuck(agent, fifo)
    (pid,) = agent.children()
    assert agent.ask("signal", pid, int(signal.SIGSEGV))["errno"] == 0
    reply = agent.reply(number)
    assert (reply["errno"], reply["killed"]) == (0, signal.SIGSEGV)
    assert agent.ask("read", "/proc/version")["errno"] == 0


def test_a_waiting_child_that_is_killed_is_replaced(agent: Agent) -> None:
    assert agent.ask("read", "/proc/version")["errno"] == 0
    for pid in agent.children():
        os.kill(pid, signal.SIGKILL)
    reply = agent.ask("read", "/proc/version")
    # Sent to it before its death was seen: an answer all the same.
    assert "text" in reply or reply["killed"] == signal.SIGKILL
    assert "text" in agent.ask("read", "/proc/version")


def test_nothing_piles_up(agent: Agent, fifo: Path, file: Path) -> None:
    """No zombie, no descriptor and no more than two idle children stay."""

    def round_() -> None:
        numbers = stuck(agent, fifo, 5)
        release(agent, fifo, 5)
        for number in numbers:
            agent.reply(number)
        for verb, *args in (
            ("read", "/proc/version"),
            ("read", "/none"),
            ("write", file, "x"),
            ("write", file, "x" * 20000),
            ("list", "/proc"),
            ("stat", "/proc"),
            ("tasks",),
            ("klog", "0"),
            ("stack", os.getpid()),
            ("insmod", file, ""),
            ("poll-file", file, "contains", "y", "1", "1"),
            ("poll-tasks", "0", "", "1", "1"),
        ):
            agent.ask(verb, *args)
        agent.event(agent.spawn("/bin/true"), "exit")

    def settled() -> bool:
        return len(agent.children()) <= IDLE_CHILDREN

    round_()
    assert wait_until(settled, soon())
    fds = agent.fds()
    for _ in range(5):
        round_()
    assert wait_until(settled, soon())
    assert agent.fds() <= fds
    assert all(is_running(pid) for pid in agent.children())


# -- poll-file -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "op", "value", "met"),
    [
        ("1\n", "equals", "1", True),
        ("1\n\n", "equals", "1\n", True),
        ("1", "equals", "1", True),
        ("10\n", "equals", "1", False),
        ("", "equals", "", True),
        (None, "equals", "", False),
        ("1\n", "differs", "1", False),
        ("0\n", "differs", "1", True),
        (None, "differs", "1", True),
        ("1\nklp_a 2\n", "contains", "klp_a", True),
        ("1\n", "contains", "klp_a", False),
        (None, "contains", "", False),
        (None, "absent", "", True),
        ("1\n", "absent", "", False),
        ("1\n", "present", "", True),
        (None, "present", "", False),
    ],
)
def test_poll_conditions(
    shared_agent: Agent, tmp_path: Path, content: str | None, op: str, value: str, met: bool
) -> None:
    path = tmp_path / "polled"
    if content is not None:
        path.write_text(content)
    poll = FilePoll.model_validate(shared_agent.ask("poll-file", path, op, value, 3, 1))
    assert poll.errno == (0 if met else errno.ETIMEDOUT)
    if op in ("absent", "present") or content is None:
        assert poll.text is None
    else:
        assert poll.text == content.removesuffix("\n")
    assert met or poll.waited_ms >= 3


def test_poll_outlasts_a_file_that_goes_and_comes(agent: Agent, file: Path) -> None:
    file.write_text("0\n")
    number = agent.send("poll-file", file, "equals", "1", 20000, 2)
    gone = agent.send("poll-file", file, "absent", "", 20000, 2)
    file.unlink()
    assert agent.reply(gone)["errno"] == 0
    file.write_text("1\n")
    reply = agent.reply(number)
    assert (reply["errno"], reply["text"]) == (0, "1")


def test_poll_does_not_wait_for_what_no_waiting_mends(agent: Agent, tmp_path: Path) -> None:
    assert agent.ask("poll-file", tmp_path, "equals", "1", 20000, 2)["errno"] == errno.EISDIR


# -- spawned programs ------------------------------------------------------------------------


def test_a_program_is_heard_to_its_end(agent: Agent) -> None:
    script = "echo out; echo err >&2; printf 'no newline \\377'; exit 3"
    number = agent.send("spawn", "/bin/sh", "-c", script)
    first = agent.message()
    assert first["id"] == number  # before any event
    events = [agent.message() for _ in range(4)]
    said = [(event["stream"], event["text"]) for event in events[:-1]]
    assert sorted(said) == [("stderr", "err"), ("stdout", "no newline ÿ"), ("stdout", "out")]
    assert events[-1] == {"event": "exit", "pid": first["pid"], "code": 3, "signal": None}


def test_the_end_comes_after_both_streams(agent: Agent, fifo: Path) -> None:
    """What a program left behind may still speak."""
    pid = agent.spawn("/bin/sh", "-c", f"(read x <{fifo}; echo late) & exit 7")
    end = os.open(fifo, os.O_WRONLY)
    assert wait_until(lambda: not is_running(pid), soon())
    os.write(end, b"\n")
    os.close(end)
    assert agent.message()["text"] == "late"
    assert agent.message()["code"] == 7


def test_a_program_that_cannot_be_started(agent: Agent, tmp_path: Path) -> None:
    assert agent.ask("spawn", "/none")["errno"] == errno.ENOENT
    assert agent.ask("spawn", tmp_path)["errno"] == errno.EACCES
    assert agent.ask("hello")["errno"] == 0
    assert wait_until(lambda: not agent.children(), soon())
    agent.send("hello")
    assert "id" in agent.message()  # no event about either


def test_a_program_starts_clean(agent: Agent, fifo: Path) -> None:
    """No descriptor, blocked or ignored signal of the agent's, and a group of its own."""
    stuck(agent, fifo)
    script = "echo $(ls /proc/self/fd); grep -E 'Sig(Blk|Ign)' /proc/self/status; "
    pid = agent.spawn("/bin/sh", "-c", script + "cut -d' ' -f5 /proc/$$/stat")
    lines = [agent.event(pid, "line")["text"] for _ in range(4)]
    assert lines[0] == "0 1 2 3"  # 3 is the directory being listed
    assert {line.split()[1].strip("0") for line in lines[1:3]} == {""}
    assert lines[3] == str(pid)


def test_a_program_is_fed(agent: Agent, fifo: Path) -> None:
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
    pid = agent.spawn("/bin/sleep", "1000")
    full = agent.send("stdin", pid, "x" * 200_000)
    close = agent.send("close-stdin", pid)
    assert agent.ask("hello")["errno"] == 0
    assert agent.ask("signal", pid, int(signal.SIGTERM))["errno"] == 0
    assert agent.event(pid, "exit")["signal"] == signal.SIGTERM
    assert [agent.reply(n)["errno"] for n in (full, close)] == [errno.EPIPE, errno.EPIPE]


def test_a_slow_reader_loses_nothing(agent: Agent) -> None:
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


# -- malformed requests ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "number"),
    [
        (b"", 0),
        (b"hello", 0),
        (b"-5 hello", 0),
        (b"1234567890123456789 hello", 0),
        (b"5", 5),
        (b"5 ", 5),
        (b"5  hello", 5),
        (b"5 hullo", 5),
        (b"5 hello x", 5),
        (b"5 read", 5),
        (b"5 read /a ", 5),
        (b"5 read /a  1", 5),
        (b"5 read /a%", 5),
        (b"5 read /a%4", 5),
        (b"5 read /a%zz", 5),
        (b"5 read /a%00", 5),
        (b"5 read /a\xff", 5),
        (b"5 read /a\tb", 5),
        (b"5 re\0ad /a", 5),
        (b"5 read /a many", 5),
        (b"5 spawn" + b" a" * 257, 5),
        (b"5 poll-file /a like x 1 1", 5),
        (b"5 poll-file /a equals x 1 0", 5),
        (b"5 stack self", 5),
    ],
)
def test_a_malformed_request_is_answered(shared_agent: Agent, line: bytes, number: int) -> None:
    shared_agent.raw(line + b"\n")
    reply = shared_agent.message()
    assert (reply["id"], reply["errno"]) == (number, errno.EINVAL)
    assert reply["error"]


def test_long_lines(agent: Agent, file: Path) -> None:
    """8 MiB are taken; more are refused by number, and what follows is understood."""
    text = "x" * (LINE_MAX - 1000)
    assert agent.ask("write", file, text)["written"] == len(text)
    assert agent.ask("read", file, LINE_MAX)["text"] == text
    agent.raw(b"77 write /a " + b"x" * (LINE_MAX + (1 << 20)) + b"\n78 hello\n")
    refused = agent.message()
    assert (refused["id"], refused["errno"]) == (77, errno.E2BIG)
    assert agent.message()["id"] == 78


def test_requests_come_in_any_pieces(agent: Agent) -> None:
    for piece in (b"4", b"1 hel", b"lo\n42 hello\n4", b"3 hello", b"\n"):
        agent.raw(piece)
        assert agent.ask("hello")["errno"] == 0 if piece == b"\n" else True
    assert sorted(agent.message()["id"] for _ in range(3)) == [41, 42, 43]


# -- the end ---------------------------------------------------------------------------------


def processes_of(agent: Agent, fifo: Path) -> list[int]:
    """Start what can be left behind: a stuck child, a program, and its own child."""
    pid = agent.spawn("/bin/sh", "-c", "trap '' TERM HUP; sleep 1000 & echo $!; wait")
    sleeper = int(agent.event(pid, "line")["text"])
    stuck(agent, fifo, 3)
    return [sleeper, *agent.children()]


def test_the_end_of_input_ends_all(agent: Agent, fifo: Path) -> None:
    pids = processes_of(agent, fifo)
    assert agent.close() == 0
    assert wait_until(lambda: not any(is_running(pid) for pid in pids), soon())


def test_sigterm_is_an_end_of_input(agent: Agent, fifo: Path) -> None:
    pids = processes_of(agent, fifo)
    agent.child.terminate()
    assert agent.child.wait(timeout=soon().remaining_s) == 0
    assert wait_until(lambda: not any(is_running(pid) for pid in pids), soon())


def test_children_die_with_a_killed_agent(agent: Agent, fifo: Path) -> None:
    stuck(agent, fifo, 3)
    agent.spawn("/bin/sleep", "1000")
    pids = agent.children()
    agent.child.kill()
    agent.child.wait(timeout=soon().remaining_s)
    assert wait_until(lambda: not any(is_running(pid) for pid in pids), soon())


def test_without_a_reader_it_ends(program: Path) -> None:
    with started(program) as agent:
        assert agent.child.stdout is not None
        agent.child.stdout.close()
        agent.send("hello")
        assert agent.child.wait(timeout=soon().remaining_s) == 1
