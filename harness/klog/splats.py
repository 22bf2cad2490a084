# SPDX-License-Identifier: GPL-2.0-only
"""Finds splats in the kernel log, in a stream while it comes or in a recorded log. Pure.

Which lines begin a splat, and which splats are exempt, is data: policy.toml.
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
# Lines that a splat may have before its stack: lockdep prints many first.
_MAX_WITHOUT_STACK = 150
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
_STALLS = frozenset({Category.LOCKUP, Category.RCU_STALL, Category.HUNG_TASK})
# A frame of livepatching, or of any module.
_OURS = re.compile(r"\bklp_[\w.]*\+0x|\+0x[0-9a-f]+/0x[0-9a-f]+ \[\w+\]")
_RIP = re.compile(r"RIP: 0010:(?P<function>[A-Za-z_.][^\s+]*)\+0x\S+(?P<module> \[\w+\])?")


class Splat:
    """A report of the kernel about a bug. Lines are added while they come; the rest stays.

    ``first_line`` is the line that began it, ``us`` that line's time since boot in microseconds,
    None when the log has no times.
    """

    def __init__(self, rule: Rule, groups: dict[str, str], first: LogLine) -> None:
        self.first_line = first.text
        self.us = first.us
        self._rule = rule
        self._groups = groups
        self._fault: str | None = None
        self._lines: list[str] = []

    def __repr__(self) -> str:
        return f"<{self.category} {self.title!r}>"

    @property
    def category(self) -> Category:
        """The category of its rule."""
        return self._rule.category

    @property
    def rule(self) -> str:
        """The rule of policy.toml that found it."""
        return self._rule.id

    @property
    def title(self) -> str:
        """What happened and in which function, without numbers that differ from run to run."""
        title = self._rule.title.format_map(self._groups).removesuffix(" in ").strip()
        return f"{title} in {self._fault}" if self._fault else title

    @property
    def may_come_of_lost_time(self) -> bool:
        """Whether a guest may print it for no other reason than that it could not run.

        That goes for the reports of stalls (kernel/watchdog.c, kernel/rcu/tree_stall.h,
        kernel/hung_task.c), and for a warning without a frame of livepatching or of a module:
        timers and the scheduler warn when the clock has jumped (hrtimer_forward() on 7.2).
        """
        if self.category in _STALLS:
            return True
        return self.category is Category.WARNING and not _OURS.search(self.text)

    @property
    def text(self) -> str:
        """All of its lines so far, without time stamps."""
        return "\n".join(tuple(self._lines))


class _OpenSplat(Splat):
    """A splat whose lines are still coming."""

    def __init__(
        self,
        rule: Rule,
        groups: dict[str, str],
        first: LogLine,
        *,
        preface: Iterable[str],
        exempt: Iterable[Exemption],
    ) -> None:
        super().__init__(rule, groups, first)
        self._lines += preface
        self._exempt = tuple(exempt)
        self._last_us = first.us
        self._in_stack = False
        self._ended = False

    @property
    def may_be_exempt(self) -> bool:
        """Whether an exemption may still apply, so that it is not reported yet."""
        return bool(self._exempt)

    @property
    def has_whole_stack(self) -> bool:
        """Whether the last line was the end of its stack."""
        return self._lines[-1] == _STACK_END

    def add(self, line: LogLine) -> None:
        """Add its next line."""
        text = line.text
        self._lines.append(text)
        self._last_us = line.us
        if _TRACE_END.match(text):
            self._ended = True
        elif _STACK_BEGIN.match(text):
            self._in_stack = True
        if self._rule.fault and self._fault is None and (match := _RIP.search(text)):
            self._fault = match["function"] + (match["module"] or "")

    def takes(self, rule: Rule, groups: dict[str, str]) -> bool:
        """Return whether a line that could begin a splat is a part of this one."""
        if self._rule.id in rule.refines and not self._in_stack and not self._ended:
            self._rule, self._groups = rule, groups
            return True
        return not self._ended and bool({"*", rule.id} & self._rule.absorbs)

    def continues(self, line: LogLine) -> bool:
        """Return whether a line that begins no splat is a part of this one."""
        length, extent = len(self._lines), self._rule.extent
        if length >= _MAX_LINES or _CUT_HERE.match(line.text):
            return False
        if extent is Extent.FRAME:
            if _FRAME_END.match(line.text):
                self.add(line)
                self._ended = True
            return not self._ended
        if extent is Extent.TRACE and not self._ended:
            return True
        if extent is Extent.STACK and not self._in_stack and length < _MAX_WITHOUT_STACK:
            return not self._paused(line)
        return _BODY.match(line.text) is not None

    def decide(self) -> bool:
        """Return whether it is to be reported now: it was held back, and no exemption applies."""
        exempt, self._exempt = self._exempt, ()
        return bool(exempt) and not any(
            each.pattern.search(line) for each in exempt for line in self._lines
        )

    def _paused(self, line: LogLine) -> bool:
        last_us = self._last_us
        return line.us is not None and last_us is not None and line.us - last_us > _PAUSE_US


class SplatDetector:
    """Finds splats in a console's stream.

    A splat is reported at its first line, and grows afterwards. One that an exemption may apply to
    is reported when its stack is complete. ``dropped`` counts the records that the kernel says it
    could not print: what they held is not known, and a log with any is not clean.
    """

    def __init__(self, policy: Policy | None = None) -> None:
        self.dropped = 0
        self._policy = policy or default_policy()
        self._reader = ConsoleReader()
        self._stamped = False
        self._preface: list[str] = []
        self._open: _OpenSplat | None = None

    def feed(self, text: str) -> list[Splat]:
        """Take the next piece of the stream, split anywhere; return the splats found in it."""
        return self.take(self._reader.feed(text))

    def finish(self) -> list[Splat]:
        """End the stream; return the splats that were held back."""
        return self.take(self._reader.finish()) + self._close()

    def take(self, lines: Iterable[LogLine]) -> list[Splat]:
        """Take the next whole lines; return the splats found in them."""
        found: list[Splat] = []
        for line in lines:
            self.dropped += line.dropped
            if line.from_kernel:
                self._stamped = True
            elif self._stamped:
                continue  # a user program's: it says nothing about the kernel
            found += self._line(line)
        return found

    def _line(self, line: LogLine) -> list[Splat]:
        begun = self._match(line.text) if self._policy.any_of.match(line.text) else None
        if begun is not None and not (self._open and self._open.takes(*begun)):
            return self._close() + self._begin(*begun, line)
        if begun is None and not (self._open and self._open.continues(line)):
            found = self._close()
            self._prepare(line.text)
            return found
        return self._grow(line)

    def _match(self, text: str) -> tuple[Rule, dict[str, str]] | None:
        for rule in self._policy.rules:
            match = rule.pattern.match(text)
            if match:
                return rule, {
                    name: _plain(name, value) for name, value in match.groupdict("").items()
                }
        return None

    def _begin(self, rule: Rule, groups: dict[str, str], line: LogLine) -> list[Splat]:
        splat = self._open = _OpenSplat(
            rule,
            groups,
            line,
            preface=self._preface,
            exempt=(each for each in self._policy.exempt if each.rule == rule.id),
        )
        self._preface = []
        shown: list[Splat] = [] if splat.may_be_exempt else [splat]
        return shown + self._grow(line)

    def _grow(self, line: LogLine) -> list[Splat]:
        splat = self._open
        assert splat is not None
        splat.add(line)
        return [splat] if splat.has_whole_stack and splat.decide() else []

    def _prepare(self, text: str) -> None:
        """Keep the lines that may come before a splat's first: the frame, a warning's text."""
        if _FRAME.match(text):
            self._preface = [text]
        elif self._preface:
            self._preface.append(text)
            if len(self._preface) > _MAX_PREFACE:
                self._preface = []

    def _close(self) -> list[Splat]:
        splat, self._open = self._open, None
        return [splat] if splat and splat.decide() else []


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
