# SPDX-License-Identifier: GPL-2.0-only
"""The messages between guest agent and host; guest-programs/README.md describes them.

Requests are encoded and replies checked here; the transport is harness.vm.guest.agent.
"""

from __future__ import annotations

import json
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from harness.errors import HarnessError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PROTOCOL_VERSION = 1
_PLAIN = "._/-"
_SHOWN_CHARS = 200
_SHOWN_LINES = 5


class Op(StrEnum):
    """What poll-file compares."""

    EQUALS = "equals"
    DIFFERS = "differs"
    CONTAINS = "contains"
    ABSENT = "absent"
    PRESENT = "present"


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    @classmethod
    def of(cls, reply: Mapping[str, Any]) -> Self:
        """Return what a reply says; raises HarnessError when no agent can have said that."""
        try:
            return cls.model_validate(reply)
        except ValidationError as error:
            shown = f"{dict(reply)!r}"[:_SHOWN_CHARS]
            raise HarnessError(
                f"the guest agent answered what is no {cls.__name__}: {shown}",
                details=tuple(str(error).splitlines()[:_SHOWN_LINES]),
            ) from error


class Task(_Message):
    """One thread of the guest. ``patch_state`` is None where the kernel has no such file."""

    tid: int
    pid: int
    ppid: int
    comm: str
    state: str
    kthread: bool
    patch_state: int | None
    cpu: int


class TaskSample(_Message):
    """All threads at one moment; ``monotonic_us`` is the guest's CLOCK_MONOTONIC."""

    monotonic_us: int
    tasks: tuple[Task, ...] = Field(strict=False)


class Stragglers(_Message):
    """Outcome of poll-tasks: the tasks that had not reached the state, none when all had."""

    errno: int
    stragglers: tuple[Task, ...] = Field(default=(), strict=False)


class DirEntry(_Message):
    """One name in a directory; ``mode`` holds the permission bits."""

    name: str
    type: Literal["dir", "file", "link", "other"]
    mode: int


class FileStatus(_Message):
    """Type, permission bits and size in bytes of one file."""

    type: Literal["dir", "file", "link", "other"]
    mode: int
    size: int


class Directory(_Message):
    """A directory's entries."""

    entries: tuple[DirEntry, ...] = Field(strict=False)


class KlogRecord(_Message):
    """One record of /dev/kmsg: sequence number, time since boot in microseconds, syslog level."""

    seq: int
    us: int
    level: int
    text: str


class KlogBatch(_Message):
    """Records since a sequence number; ``next`` continues, ``lost`` counts overruns."""

    records: tuple[KlogRecord, ...] = Field(strict=False)
    next: int
    lost: int = 0


class FilePoll(_Message):
    """Outcome of poll-file: errno 0, or ETIMEDOUT with the last content (None when absent)."""

    errno: int
    text: str | None = None
    waited_ms: int = 0


class Text(_Message):
    """The content of a file, or a task's stack; ``truncated``: there is more of the file."""

    text: str
    truncated: bool = False


class Spawned(_Message):
    """A program was started."""

    pid: int


class Hello(_Message):
    """The agent's first answer."""

    protocol: int
    release: str
    cpus_online: int
    boot_id: str
    uptime_us: int
    monotonic_us: int


class ReadyEvent(_Message):
    """The agent has started, and waits for requests."""

    event: Literal["ready"]


class LineEvent(_Message):
    """A line that a spawned program wrote; ``partial``: without a newline, at least until now."""

    event: Literal["line"]
    pid: int
    stream: Literal["stdout", "stderr"]
    text: str
    partial: bool = False


class ExitEvent(_Message):
    """A spawned program ended, by ``code`` or by ``signal``."""

    event: Literal["exit"]
    pid: int
    code: int | None
    signal: int | None


class EndedEvent(_Message):
    """A spawned program ended, and another process has its output open: the pipes' inodes."""

    event: Literal["ended"]
    pid: int
    code: int | None
    signal: int | None
    stdout: int | None
    stderr: int | None


Event = ReadyEvent | LineEvent | ExitEvent | EndedEvent
EVENT: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="event")])


def read_object(line: str | bytes) -> dict[str, Any] | None:
    """Return the JSON object that a line from the guest holds, None when it is no such line.

    Nothing that a guest prints raises: not bytes that are no UTF-8, not a thousand brackets.
    """
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def encode_request(number: int, verb: str, args: Sequence[str]) -> bytes:
    """Return one request line. Text that is not ASCII travels as UTF-8."""
    fields = [quote(arg.encode(errors="surrogateescape"), safe=_PLAIN) or "%" for arg in args]
    return (" ".join([str(number), verb, *fields]) + "\n").encode("ascii")
