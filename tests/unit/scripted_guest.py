# SPDX-License-Identifier: GPL-2.0-only
"""A scripted guest, which implements the Guest protocol for unit tests of live patching.

It models the files, tasks, modules and the kernel log that live patching reads. Time does not
pass: each wait runs the next steps of the script, and reaches its deadline when the script has
ended before the condition holds. ``fail`` makes any call fail at any step.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.agent_protocol import (
    DirEntry,
    FilePoll,
    FileStatus,
    KlogBatch,
    KlogRecord,
    Op,
    Stragglers,
    Task,
    TaskSample,
)
from harness.errors import ModuleRefused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from harness.deadline import Deadline

LIVEPATCH = "/sys/kernel/livepatch"


@dataclass(kw_only=True)
class ScriptedTask:
    """A thread of the scripted guest, which a test may change."""

    tid: int
    comm: str = "sleeper"
    pid: int | None = None
    kthread: bool = False
    state: str = "S"
    patch_state: int | None = -1
    stack: str = ""

    def sampled(self) -> Task:
        return Task(
            tid=self.tid,
            pid=self.pid or self.tid,
            ppid=1,
            comm=self.comm,
            state=self.state,
            kthread=self.kthread,
            patch_state=self.patch_state,
            cpu=0,
        )


@dataclass(kw_only=True)
class ScriptedProcess:
    """A program of the scripted guest: the lines that it prints, and its exit code after them."""

    pid: int
    says: deque[str] = field(default_factory=deque)
    code: int | None = 0
    heard: list[str] = field(default_factory=list)

    def next_line(self, deadline: Deadline) -> str:
        if self.says:
            return self.says.popleft()
        if self.code is None:
            raise TimeoutError("the scripted program prints nothing more")
        raise EOFError

    def lines(self, deadline: Deadline) -> Iterator[str]:
        while self.says:
            yield self.says.popleft()

    def write_line(self, text: str) -> None:
        self.heard.append(f"line {text}")

    def close_stdin(self) -> None:
        self.heard.append("end of input")

    def signal(self, number: int) -> None:
        self.heard.append(f"signal {number}")

    def wait(self, deadline: Deadline) -> int:
        if self.code is None:
            raise TimeoutError("the scripted program does not end")
        return self.code


class ScriptedGuest:
    """Implements harness.livepatch.guest.Guest."""

    time_scale = 1.0

    def __init__(self) -> None:
        self.files: dict[str, str] = {}
        self.modes: dict[str, int] = {}
        self.on_write: dict[str, Callable[[str], None]] = {}
        self.on_insmod: dict[str, Callable[[str], None]] = {}
        self.programs: dict[str, Callable[[tuple[str, ...]], ScriptedProcess]] = {}
        self.scripted_tasks: list[ScriptedTask] = []
        self.log: list[KlogRecord] = []
        self.lost = 0
        self.calls: list[str] = []
        self.deadlines: list[Deadline] = []
        self._script: deque[Callable[[], object]] = deque()
        self._failures: list[tuple[str, BaseException, int]] = []

    # -- the script ---------------------------------------------------------------------------

    def later(self, *steps: Callable[[], object]) -> None:
        """Add steps of the script, which waits run one by one."""
        self._script.extend(steps)

    def fail(self, call: str, error: BaseException, *, after: int = 0) -> None:
        """Make a call whose text begins so fail, after so many that succeed."""
        self._failures.append((call, error, after))

    def say(self, *texts: str) -> None:
        """Add records to the kernel log."""
        for text in texts:
            number = len(self.log)
            self.log.append(KlogRecord(seq=number, us=number * 1000, level=6, text=text))

    def add_patch(
        self,
        name: str,
        objects: Mapping[str, Sequence[str]],
        *,
        transition: bool = False,
        enabled: bool = True,
        attributes: dict[str, str] | None = None,
    ) -> None:
        """Add a livepatch with its objects and their "function,sympos" directories."""
        root = f"{LIVEPATCH}/{name}"
        self.files[f"{root}/enabled"] = f"{int(enabled)}\n"
        self.files[f"{root}/transition"] = f"{int(transition)}\n"
        self.files[f"{root}/force"] = ""
        self.modes |= {f"{root}/enabled": 0o644, f"{root}/force": 0o200}
        for attribute, text in (attributes or {}).items():
            self.files[f"{root}/{attribute}"] = text
        for object_name, functions in objects.items():
            self.files[f"{root}/{object_name}/patched"] = "1\n"
            for function in functions:
                self.files[f"{root}/{object_name}/{function}/"] = ""
        self.files[f"/sys/module/{name}/initstate"] = "live\n"
        self.files[f"/sys/module/{name}/refcnt"] = f"{int(enabled)}\n"
        self.on_write[f"{root}/enabled"] = lambda text: self._write_enabled(name, text)
        self.on_write[f"{root}/force"] = lambda text: self._write_force(name, text)

    def complete(self, name: str) -> None:
        """End a patch's transition; a disabled patch is removed from sysfs in later steps."""
        root = f"{LIVEPATCH}/{name}"
        self.files[f"{root}/transition"] = "0\n"
        for task in self.scripted_tasks:
            task.patch_state = -1
        if self.files[f"{root}/enabled"] == "0\n":
            self.later(lambda: self.remove(root), lambda: self._unused(name))

    def remove(self, root: str) -> None:
        """Remove a file or a whole directory."""
        for path in [path for path in self.files if path == root or path.startswith(f"{root}/")]:
            del self.files[path]

    def _unused(self, name: str) -> None:
        self.files[f"/sys/module/{name}/refcnt"] = "0\n"

    def _write_enabled(self, name: str, text: str) -> None:
        path = f"{LIVEPATCH}/{name}/enabled"
        if text.strip() not in ("0", "1") or self.files[path].strip() == text.strip():
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), path)
        self.files[path] = f"{text.strip()}\n"
        self.files[f"{LIVEPATCH}/{name}/transition"] = "1\n"

    def _write_force(self, name: str, text: str) -> None:
        if self.files[f"{LIVEPATCH}/{name}/transition"] != "1\n":
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), f"{LIVEPATCH}/{name}/force")
        self.complete(name)

    # -- the Guest protocol -------------------------------------------------------------------

    def read(self, path: str, *, deadline: Deadline | None = None) -> str:
        self._called(f"read {path}")
        text = self._content(path)
        if text is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return text

    def write(self, path: str, text: str, *, deadline: Deadline | None = None) -> None:
        self._called(f"write {path} {text!r}")
        if path in self.on_write:
            self.on_write[path](text)
        elif path in self.files:
            self.files[path] = text
        else:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)

    def list_dir(self, path: str) -> tuple[DirEntry, ...]:
        self._called(f"list {path}")
        names: dict[str, DirEntry] = {}
        for known in self.files:
            if not known.startswith(f"{path}/"):
                continue
            name, slash, _ = known.removeprefix(f"{path}/").partition("/")
            if not name:
                continue
            mode = 0o755 if slash else self.modes.get(known, 0o444)
            names[name] = DirEntry(name=name, type="dir" if slash else "file", mode=mode)
        if not names and not self._is_there(path):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return tuple(names[name] for name in sorted(names))

    def stat(self, path: str) -> FileStatus:
        self._called(f"stat {path}")
        if not self._is_there(path):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        is_file = path in self.files
        return FileStatus(
            type="file" if is_file else "dir", mode=self.modes.get(path, 0o444), size=0
        )

    def poll_file(self, path: str, op: Op, value: str, *, deadline: Deadline) -> FilePoll:
        self._called(f"poll {path} {op} {value}")
        self.deadlines.append(deadline)

        def met() -> bool:
            text = self._content(path)
            text = None if text is None else text.removesuffix("\n")
            match op:
                case Op.EQUALS:
                    return text == value
                case Op.DIFFERS:
                    return text != value
                case Op.CONTAINS:
                    return text is not None and value in text
                case Op.ABSENT:
                    return not self._is_there(path)
                case Op.PRESENT:
                    return self._is_there(path)

        ended = self._wait(met)
        text = self._content(path)
        return FilePoll(
            errno=0 if ended else errno.ETIMEDOUT,
            text=None if text is None else text.removesuffix("\n"),
        )

    def poll_tasks(self, state: int, *, but: Sequence[int], deadline: Deadline) -> Stragglers:
        self._called(f"poll-tasks {state} {list(but)}")
        self.deadlines.append(deadline)

        def behind() -> list[ScriptedTask]:
            return [
                task
                for task in self.scripted_tasks
                if task.patch_state != state and task.tid not in but
            ]

        if self._wait(lambda: not behind()):
            return Stragglers(errno=0)
        return Stragglers(
            errno=errno.ETIMEDOUT, stragglers=tuple(task.sampled() for task in behind())
        )

    def tasks(self) -> TaskSample:
        self._called("tasks")
        return TaskSample(
            monotonic_us=1, tasks=tuple(task.sampled() for task in self.scripted_tasks)
        )

    def stack(self, tid: int) -> str:
        self._called(f"stack {tid}")
        return self._task(tid).stack

    def klog(self, since: int = 0) -> KlogBatch:
        self._called(f"klog {since}")
        if self._script and since:
            self._script.popleft()()
        return KlogBatch(records=tuple(self.log[since:]), next=len(self.log), lost=self.lost)

    def upload(self, path: Path) -> str:
        self._called(f"upload {path.name}")
        return f"/modules/{path.name}"

    def insmod(self, path: str, params: str = "", *, deadline: Deadline | None = None) -> None:
        self._called(f"insmod {path} {params}".rstrip())
        name = path.rpartition("/")[2].removesuffix(".ko").replace("-", "_")
        if name in self.on_insmod:
            self.on_insmod[name](params)
        else:
            self.files[f"/sys/module/{name}/initstate"] = "live\n"
            self.files[f"/sys/module/{name}/refcnt"] = "0\n"

    def rmmod(self, name: str) -> None:
        self._called(f"rmmod {name}")
        if self.files.get(f"/sys/module/{name}/refcnt") != "0\n":
            raise ModuleRefused(name, errno.EBUSY, action="unload")
        self.remove(f"/sys/module/{name}")

    def spawn(self, program: str, *args: str) -> ScriptedProcess:
        self._called(" ".join(("spawn", program, *args)))
        return self.programs[program](args)

    # -- the model ----------------------------------------------------------------------------

    def _called(self, call: str) -> None:
        self.calls.append(call)
        for number, (begins, error, after) in enumerate(self._failures):
            if call.startswith(begins):
                if after:
                    self._failures[number] = (begins, error, after - 1)
                    return
                del self._failures[number]
                raise error

    def _wait(self, met: Callable[[], bool]) -> bool:
        while not met():
            if not self._script:
                return False
            self._script.popleft()()
        return True

    def _is_there(self, path: str) -> bool:
        return self._content(path) is not None or any(
            known.startswith(f"{path}/") for known in self.files
        )

    def _content(self, path: str) -> str | None:
        parts = path.split("/")
        if parts[1] == "proc" and parts[2].isdigit():
            return self._proc(int(parts[2]), parts[3] if len(parts) > 3 else "")
        return self.files.get(path)

    def _proc(self, tid: int, name: str) -> str | None:
        try:
            task = self._task(tid)
        except ProcessLookupError:
            return None
        if name == "patch_state":
            return None if task.patch_state is None else f"{task.patch_state}\n"
        if name == "stat":
            return f"{task.tid} ({task.comm}) {task.state} 1 1\n"
        return ""

    def _task(self, tid: int) -> ScriptedTask:
        for task in self.scripted_tasks:
            if task.tid == tid:
                return task
        raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH), f"/proc/{tid}")


# A patch of the gates, and stacks of a task that holds its transition.
GATE = {"klp_target_gate": ["klp_gate_wait,1", "klp_gate_wait_second,1"]}
GATE_ROOT = f"{LIVEPATCH}/klp_test_gate"
IN_OLD = """\
[<0>] klp_gate_sleep+0x135/0x170 [klp_target_gate]
[<0>] klp_gate_wait+0xa/0x10 [klp_target_gate]
[<0>] klp_gate_read+0x77/0x10a [klp_target_gate]
[<0>] vfs_read+0x7b/0x1f0
"""
IN_NEW = """\
[<0>] klp_gate_sleep+0x135/0x170 [klp_target_gate]
[<0>] klp_test_gate_wait+0xa/0x10 [klp_test_gate]
[<0>] klp_gate_read+0x77/0x10a [klp_target_gate]
"""


def guest_with_gate() -> ScriptedGuest:
    """Return a guest in which klp_test_gate can be loaded, and a task holds its transition."""
    guest = ScriptedGuest()
    guest.scripted_tasks = [
        ScriptedTask(tid=1, comm="init"),
        ScriptedTask(tid=36, comm="klp-gate", state="D", stack=IN_OLD),
    ]

    def load(params: str) -> None:
        guest.add_patch("klp_test_gate", GATE, transition=True)
        for task in guest.scripted_tasks:
            task.patch_state = 1
        guest.scripted_tasks[1].patch_state = 0

    guest.on_insmod["klp_test_gate"] = load
    return guest
