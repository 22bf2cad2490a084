# SPDX-License-Identifier: GPL-2.0-only
"""What the guest agent answers to requests."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from harness.agent_protocol import (
    PROTOCOL_VERSION,
    Directory,
    FilePoll,
    FileStatus,
    Hello,
    KlogBatch,
    TaskSample,
    encode_request,
)
from harness.deadline import wait_until
from harness.vm.host.process import run, spawn
from tests.unit.speaking_agent import Agent, soon, started

if TYPE_CHECKING:
    from collections.abc import Iterator

LINE_MAX = 8 << 20
MUCH = 4 << 20  # more than pipes and sockets hold
PPOLL = "271"


@pytest.fixture(scope="module")
def shared_agent(agent_program: Path) -> Iterator[Agent]:
    with started(agent_program) as agent:
        yield agent


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
    """The first answer has what the host checks: protocol, release, boot."""
    hello = Hello.model_validate(agent.ask("hello"))
    assert hello.protocol == PROTOCOL_VERSION
    assert hello.release == os.uname().release
    assert hello.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=300))
@example(data=bytes(range(256)))
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
    """A large file is cut off at the limit, and the reply says so."""
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


@pytest.mark.parametrize("size", [0, 10, 3 << 18])
def test_create_makes_the_file_and_its_folders(agent: Agent, tmp_path: Path, size: int) -> None:
    """What comes is what was sent, whatever bytes it has; a file that is there is left alone."""
    path = tmp_path / "one/two/file"
    data = os.urandom(size)
    text = data.decode(errors="surrogateescape")
    assert agent.ask("create", path, text) == {"id": 1, "written": size, "errno": 0}
    assert path.read_bytes() == data
    assert path.stat().st_mode & 0o777 == 0o644
    assert agent.ask("create", path, "other")["errno"] == errno.EEXIST
    assert agent.ask("create", path / "below", "x")["errno"] == errno.ENOTDIR
    assert path.read_bytes() == data


def test_write_is_one_system_call(agent: Agent, fifo: Path) -> None:
    """sysfs takes each write(2) as a whole; a pipe keeps those up to PIPE_BUF in one piece too."""
    end = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
    try:
        assert agent.ask("write", fifo, "x" * 4096)["errno"] == 0
        assert os.read(end, 8192) == b"x" * 4096
    finally:
        os.close(end)


def test_files_are_listed_and_described(agent: Agent, tmp_path: Path) -> None:
    """Types, modes and sizes are those of the file system; links are not followed."""
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
    assert [task.comm for task in agents] == ["klp-agent"]


def test_the_kernel_log_goes_on_where_it_was_left(agent: Agent) -> None:
    """Records come in order from any sequence number, none twice and none lost."""
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
    # An earlier start after a later one: the file is read from its first record once more.
    half = len(batch.records) // 2
    later = KlogBatch.model_validate(agent.ask("klog", batch.records[half].seq))
    assert later.records[: len(batch.records) - half] == batch.records[half:]
    assert KlogBatch.model_validate(agent.ask("klog", 1 << 62)).records == ()


def test_poll_tasks_needs_patch_states(agent: Agent) -> None:
    """A kernel without patch states is an error of its own, and so are wrong arguments."""
    reply = agent.ask("poll-tasks", -1, "", 0, 1)
    if Path("/proc/self/patch_state").exists():
        assert reply["errno"] in (0, errno.ETIMEDOUT, errno.EACCES)
    else:
        assert (reply["errno"], "patch_state" in reply["error"]) == (errno.ENOENT, True)
    assert agent.ask("poll-tasks", 2, "", 0, 1)["errno"] == errno.EINVAL
    assert agent.ask("poll-tasks", 1, "5,x", 0, 1)["errno"] == errno.EINVAL


def test_modules_that_are_none_are_refused(agent: Agent, file: Path, tmp_path: Path) -> None:
    """The kernel's errno for a module that cannot be loaded or unloaded is passed on."""
    assert agent.ask("insmod", tmp_path / "none.ko", "")["errno"] == errno.ENOENT
    assert agent.ask("insmod", file, "")["errno"] != 0
    assert agent.ask("rmmod", "klp_there_is_no_such_module")["errno"] != 0


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
    """Each comparison of poll-file is met by the content it names and by no other."""
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
    """A file that is removed and made again meanwhile does not end the wait."""
    file.write_text("0\n")
    number = agent.send("poll-file", file, "equals", "1", 20000, 2)
    gone = agent.send("poll-file", file, "absent", "", 20000, 2)
    file.unlink()
    assert agent.reply(gone)["errno"] == 0
    file.write_text("1\n")
    reply = agent.reply(number)
    assert (reply["errno"], reply["text"]) == (0, "1")


def test_poll_does_not_wait_for_what_no_waiting_mends(agent: Agent, tmp_path: Path) -> None:
    """An error that time cannot change is reported at once."""
    assert agent.ask("poll-file", tmp_path, "equals", "1", 20000, 2)["errno"] == errno.EISDIR


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
        (b"5 insmod /a ", 5),
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
    """Whatever line arrives, there is an answer that says what is wrong."""
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
    """Where the transport splits a line does not matter."""
    for piece in (b"4", b"1 hel", b"lo\n42 hello\n4", b"3 hello", b"\n"):
        agent.raw(piece)
        assert agent.ask("hello")["errno"] == 0 if piece == b"\n" else True
    assert sorted(agent.message()["id"] for _ in range(3)) == [41, 42, 43]


def test_what_is_taken_is_told(agent_program: Path) -> None:
    """All bytes are counted, those of half a line at once: the sender waits for that."""
    with started(agent_program, "report-taken") as agent:
        agent.raw(b"7 hel")
        assert agent.message() == {"event": "taken", "bytes": 5}
        agent.raw(b"lo\n")
        assert agent.message() == {"event": "taken", "bytes": 3}
        assert agent.reply(7)["errno"] == 0


def test_an_agent_that_is_not_asked_reports_no_bytes(agent: Agent) -> None:
    """Without its option the agent sends no event about bytes that it took."""
    agent.raw(b"7 hello\n")
    assert agent.message()["id"] == 7


def test_an_agent_stays(agent_program: Path, tmp_path: Path) -> None:
    """When the host has closed its end, what it started goes on, and may say as much as it likes.

    An agent that does not stay ends what it started.
    """
    go, said = tmp_path / "go", tmp_path / "said"
    script = f"while [ ! -e {go} ]; do sleep 0.01; done; yes | head -c {MUCH} && echo >{said}"
    for arguments in (("stay",), ()):
        host, port = socket.socketpair()
        with (
            port,
            spawn([agent_program, *arguments], stdin=port.fileno(), stdout=port.fileno()) as child,
        ):
            port.close()
            with host, host.makefile("rwb", buffering=0) as line:
                assert json.loads(line.readline()) == {"event": "ready"}
                line.write(encode_request(1, "spawn", ["/bin/sh", "-c", script]))
                assert json.loads(line.readline())["errno"] == 0
            if not arguments:
                # 1: it had something to say when the host was gone.
                assert child.wait(timeout=soon().remaining_s) in {0, 1}
                continue
            go.touch()
            assert wait_until(said.exists, soon()), "it waits for the host to read"
            assert child.poll() is None


def test_a_host_that_leaves_while_it_is_told(agent_program: Path, tmp_path: Path) -> None:
    """An agent that stays, and waits for room to write, notices that the host closes its end."""
    said = tmp_path / "said"
    host, port = socket.socketpair()
    with port, spawn([agent_program, "stay"], stdin=port.fileno(), stdout=port.fileno()) as child:
        port.close()
        with host, host.makefile("rwb", buffering=0) as line:
            assert json.loads(line.readline()) == {"event": "ready"}
            script = f"yes | head -c {MUCH} && echo >{said}"
            line.write(encode_request(1, "spawn", ["/bin/sh", "-c", script]))
            call = Path(f"/proc/{child.pid}/syscall")
            assert wait_until(lambda: _waits_for_room(call.read_text()), soon())
            assert not said.exists()
        assert wait_until(said.exists, soon())


def _waits_for_room(call: str) -> bool:
    """Return whether it sleeps in ppoll(2) for one descriptor; its loop waits for more of them."""
    words = call.split()
    return words[0] == PPOLL and int(words[2], 16) == 1


def test_other_arguments_are_wrong_usage(agent_program: Path) -> None:
    """An unknown argument ends the agent with exit code 2."""
    assert run([agent_program, "tell"], deadline=soon(), check=False).returncode == 2
