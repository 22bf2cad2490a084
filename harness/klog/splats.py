# SPDX-License-Identifier: GPL-2.0-only
"""Find splats in the kernel log: in a stream while it comes, or in a recorded one. Pure.

What begins a splat, and which splats are none, is data: policy.toml.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from harness.klog.policy import Category, Exemption, Extent, Policy, Rule, default_policy
from harness.klog.records import ConsoleReader, LogLine, from_records

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.agent_protocol import KlogRecord

__all__ = ["Category", "Splat", "SplatDetector", "find_splats", "find_splats_in_records"]

_MAX_LINES = 300
_MAX_PREFACE = 12
# Lines without a stack yet that a splat may have: lockdep tells a long story first.
_MAX_STORY = 150
# A splat comes in one go: a pause this long before its stack means that it has none.
_PAUSE_US = 1_000_000

_FRAME = re.compile(r"=+$|-+\[ cut here \]-+$")
_TRACE_END = re.compile(r"---\[ end ")
_CUT_HERE = re.compile(r"-+\[ cut here \]-+$")
_FRAME_END = re.compile(r"=+$")
_STACK_BEGIN = re.compile(r"(?:Call Trace:|Call trace:|.*stack backtrace:|Backtrace:)")
_STACK_END = " </TASK>"
# What the kernel prints around a stack (arch/x86/kernel/dumpstack.c and process_64.c,
# lib/dump_stack.c), and the ends of the reports of lockdep and of the stall detectors.
_BODY = re.compile(
    r"$|\s|>?[0-9a-f]{16}: |"
    r"(?:CPU: \d|Hardware name: |Call Trace:|Modules linked in: |Workqueue: |Stopper: |RIP: |RSP: |"
    r"RAX: |RBP: |RDX: |R1[03]: |FS: |CS: |CR2: |DR[036]: |PKRU: |Code: |Tainted: |ORIG_RAX|"
    r"unloaded tainted modules: |last unloaded: |irq event stamp: |(?:hard|soft)irqs last |Kernel "
    r"Offset: |---\[ |note: |rcu: |task:|NMI backtrace for |Sending NMI |INFO: lockdep is turned "
    r"off|INFO: task .* blocked on an? |\d+ locks? held by |no locks held by |Disabling lock "
    r"debugging|Slab 0x|Object 0x|"
    r"Preemption disabled at:|Showing |pool \d|workqueue |-+$|preempt_count=)"
)
_RIP = re.compile(r"RIP: 0010:(?P<function>[A-Za-z_.][^\s+]*)\+0x\S+(?P<module> \[\w+\])?")


class Splat:
    """A complaint of the kernel. It grows while its lines come; the rest never changes.

    ``us`` is the time since boot of its first line, None when the log has no times.
    """

    def __init__(self, rule: Rule, groups: dict[str, str], us: int | None) -> None:
        self.us = us
        self._rule = rule
        self._groups = groups
        self._fault: str | None = None
        self._first_line = ""
        self._lines: list[str] = []

    def __repr__(self) -> str:
        return f"<{self.category} {self.title!r}>"

    @property
    def category(self) -> Category:
        """What kind of complaint it is."""
        return self._rule.category

    @property
    def rule(self) -> str:
        """The rule of policy.toml that found it."""
        return self._rule.id

    @property
    def title(self) -> str:
        """What happened and in which function, without numbers that differ from run to run."""
        title = self._rule.title.format_map(self._groups).removesuffix(" in ").strip()
        if self._fault:
            title = f"{title} in {self._fault}"
        return title

    @property
    def first_line(self) -> str:
        """The line by which it was found."""
        return self._first_line

    @property
    def text(self) -> str:
        """All of its lines so far, without time stamps."""
        return "\n".join(tuple(self._lines))

    def _add(self, text: str) -> None:
        self._lines.append(text)
        if self._fault is None and self._rule.fault:
            match = _RIP.search(text)
            if match:
                self._fault = match["function"] + (match["module"] or "")


class SplatDetector:
    """Finds splats in a console's stream as it comes.

    A splat is told of at its first line, and grows afterwards. Only one that an exemption may still
    apply to is told of when its stack is complete.
    """

    def __init__(self, policy: Policy | None = None) -> None:
        self._policy = policy or default_policy()
        self._reader = ConsoleReader()
        self._stamped = False
        self._preface: list[str] = []
        self._open: Splat | None = None
        self._hidden: list[Exemption] = []
        self._ended = False
        self._in_stack = False
        self._last_us: int | None = None

    def feed(self, text: str) -> list[Splat]:
        """Take the next piece of the stream, split anywhere; return the splats it brings."""
        return self._take(self._reader.feed(text))

    def finish(self) -> list[Splat]:
        """End the stream; return the splats that were still uncertain."""
        return self._take(self._reader.finish()) + self._close()

    def take(self, lines: Iterable[LogLine]) -> list[Splat]:
        """Take lines that are whole already."""
        return self._take(lines)

    def _take(self, lines: Iterable[LogLine]) -> list[Splat]:
        found: list[Splat] = []
        for line in lines:
            if line.from_kernel:
                self._stamped = True
            elif self._stamped:
                continue  # a user program's: it says nothing about the kernel
            found += self._line(line)
        return found

    def _line(self, line: LogLine) -> list[Splat]:
        text = line.text
        begun = self._match(text) if self._policy.any_of.match(text) else None
        if begun is not None:
            rule, groups = begun
            if self._open is None or not self._belongs(rule, groups):
                return self._close() + self._begin(rule, groups, line)
        elif self._open is None or not self._continues(line):
            found = self._close()
            self._prepare(text)
            return found
        return self._grow(line)

    def _match(self, text: str) -> tuple[Rule, dict[str, str]] | None:
        for rule in self._policy.deny:
            match = rule.pattern.match(text)
            if match:
                return rule, {
                    name: _plain(name, value) for name, value in match.groupdict("").items()
                }
        return None

    def _belongs(self, rule: Rule, groups: dict[str, str]) -> bool:
        """Return whether a line that could begin a splat is part of the open one."""
        splat = self._open
        assert splat is not None
        opened = splat._rule  # noqa: SLF001
        if opened.id in rule.refines and not self._in_stack and not self._ended:
            splat._rule, splat._groups = rule, groups  # noqa: SLF001
            return True
        return not self._ended and ("*" in opened.absorbs or rule.id in opened.absorbs)

    def _begin(self, rule: Rule, groups: dict[str, str], line: LogLine) -> list[Splat]:
        splat = Splat(rule, groups, line.us)
        splat._first_line = line.text  # noqa: SLF001
        splat._lines = [*self._preface]  # noqa: SLF001
        self._preface = []
        self._open, self._ended, self._in_stack = splat, False, False
        self._hidden = [exempt for exempt in self._policy.allow if exempt.rule == rule.id]
        shown = [] if self._hidden else [splat]
        return shown + self._grow(line)

    def _grow(self, line: LogLine) -> list[Splat]:
        splat, text = self._open, line.text
        assert splat is not None
        splat._add(text)  # noqa: SLF001
        self._last_us = line.us
        if _TRACE_END.match(text):
            self._ended = True
        elif _STACK_BEGIN.match(text):
            self._in_stack = True
        if text == _STACK_END and self._hidden:
            return self._decide()
        return []

    def _continues(self, line: LogLine) -> bool:
        """Return whether a line that begins nothing belongs to the open splat."""
        splat, text = self._open, line.text
        assert splat is not None
        length = len(splat._lines)  # noqa: SLF001
        if length >= _MAX_LINES or _CUT_HERE.match(text):
            return False
        extent = splat._rule.extent  # noqa: SLF001
        if extent is Extent.FRAME:
            if _FRAME_END.match(text):
                self._grow(line)
                self._ended = True
                return False
            return not self._ended
        if extent is Extent.TRACE and not self._ended:
            return True
        if extent is Extent.STACK and not self._in_stack and length < _MAX_STORY:
            return not self._paused(line)
        return _BODY.match(text) is not None

    def _paused(self, line: LogLine) -> bool:
        last_us = self._last_us
        return line.us is not None and last_us is not None and line.us - last_us > _PAUSE_US

    def _prepare(self, text: str) -> None:
        """Keep the lines that may stand before a splat's first: the frame, a warning's text."""
        if _FRAME.match(text):
            self._preface = [text]
        elif self._preface:
            self._preface.append(text)
            if len(self._preface) > _MAX_PREFACE:
                self._preface = []

    def _close(self) -> list[Splat]:
        found = self._decide()
        self._open = None
        return found

    def _decide(self) -> list[Splat]:
        """Return the open splat when it was held back and no exemption applies to it."""
        splat, hidden = self._open, self._hidden
        self._hidden = []
        if splat is None or not hidden:
            return []
        lines = tuple(splat._lines)  # noqa: SLF001
        exempt = any(rule.pattern.search(line) for rule in hidden for line in lines)
        return [] if exempt else [splat]


def find_splats(text: str, policy: Policy | None = None) -> list[Splat]:
    """Return the splats of a recorded console."""
    detector = SplatDetector(policy)
    return detector.feed(text) + detector.finish()


def find_splats_in_records(
    records: Iterable[KlogRecord], policy: Policy | None = None
) -> list[Splat]:
    """Return the splats in records of /dev/kmsg."""
    detector = SplatDetector(policy)
    return detector.take(from_records(records)) + detector.finish()


def _plain(name: str, value: str) -> str:
    """Return a group's text fit for a title: of a path of the build machine only the last part."""
    if name == "file" and value.startswith("/"):
        return value.rpartition("/")[2]
    return value.rstrip()
