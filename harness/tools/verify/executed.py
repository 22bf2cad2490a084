# SPDX-License-Identifier: GPL-2.0-only
"""How often the old and the new body of each patched function ran, counted by the function tracer.

A tracer of its own (an instance of tracefs) counts old bodies only where the patch is not loaded,
and new bodies, which are functions of the module, while it is. So no second hook is ever on a
function that the patch redirects: the scenes test the redirection as it is without a tracer.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

from harness.tools.verify.new_bodies import new_bodies
from harness.tools.verify.script import When

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from harness.tools.verify.case import Case
    from harness.vm.guest.machine import Machine

# Each name is written by itself, and ftrace then looks through all functions for it.
_MOST_FUNCTIONS = 32
_SCRIPT_S = 15.0
# A filter that names nothing would trace all functions of the kernel.
_START = """
t=/sys/kernel/tracing/instances/klp_executed
[ -d $t ] || { mkdir $t && echo 512 >$t/buffer_size_kb; } || exit 1
echo 0 >$t/tracing_on
echo nop >$t/current_tracer
echo >$t/set_ftrace_filter
while read -r name; do
    echo "$name" >>$t/set_ftrace_filter || echo "untraced $name"
done 2>/dev/null
echo >$t/trace
grep -qv '^#' $t/set_ftrace_filter || exit 0
echo function >$t/current_tracer && echo 1 >$t/tracing_on
"""
# "   klp-calls-93   [000] .....    15.1: cmdline_proc_show <-seq_read_iter"
_STOP = r"""
t=/sys/kernel/tracing/instances/klp_executed
echo 0 >$t/tracing_on
cat $t/per_cpu/cpu*/stats
sed -n 's/^[^#].*: \([^ ]*\) <-.*/called \1/p' $t/trace | sort | uniq -c
echo nop >$t/current_tracer
echo >$t/set_ftrace_filter
"""
_STATS = re.compile(r"^(entries|overrun): (\d+)$", re.MULTILINE)
_CALLED = re.compile(r"^\s*(\d+) called (\S+)$", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Execution:
    """How often the bodies of a function ``object:name`` ran during something in a scene.

    None: not counted there, or not known. ``exact``: else it is a share of what the tracer saw.
    """

    scene: str
    during: str
    function: str
    old: int | None = None
    new: int | None = None
    exact: bool = True


@dataclass(frozen=True, kw_only=True)
class Counts:
    """How often each function of a filter was called; None: it is not known."""

    calls: Mapping[str, int | None] = field(default_factory=dict)
    exact: bool = True


class Executed:
    """Counts in the guest of one scene, and keeps what was counted."""

    def __init__(self, machine: Machine, case: Case, scene: str) -> None:
        self._machine = machine
        self._case = case
        self._scene = scene
        self._counting = False
        self.counts: list[Execution] = []

    @contextlib.contextmanager
    def during(self, what: str, when: When) -> Iterator[None]:
        """Count while the body runs; within another count, nothing of its own."""
        functions = self._functions()
        if self._counting or not functions:
            yield
            return
        is_new = when is When.DURING
        # What the tracer calls a function, and what it stands for.
        names = {
            name: patched
            for patched, bodies in functions.items()
            for name in (bodies if is_new else (patched[1],))
        }
        owners = {
            name: self._case.name if is_new else patched[0] for name, patched in names.items()
        }
        untraced = self._start(owners)
        self._counting = True
        try:
            yield
        finally:
            self._counting = False
        counts = self._stop(tuple(names))
        for patched, bodies in functions.items():
            own = [counts.calls.get(name) for name in (bodies if is_new else (patched[1],))]
            known = [number for number in own if number is not None]
            is_known = bool(known) and (not untraced & set(bodies if is_new else (patched[1],)))
            number = sum(known) if is_known else None
            self.counts.append(
                Execution(
                    scene=self._scene,
                    during=what,
                    function=":".join(patched),
                    old=None if is_new else number,
                    new=number if is_new else None,
                    exact=counts.exact,
                )
            )

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Count nothing while the body runs, which counts by itself or measures memory."""
        before, self._counting = self._counting, True
        try:
            yield
        finally:
            self._counting = before

    def never_ran(self, what: str) -> tuple[str, ...]:
        """Return the functions that were counted during something, when no new body ran at all."""
        found = [each for each in self.counts if each.during == what]
        if not found or any(each.new is None or each.new for each in found):
            return ()
        return tuple(dict.fromkeys(each.function.partition(":")[2] for each in found))

    def add(self, during: str, calls: Mapping[str, int]) -> None:
        """Note what another tracer has counted of new bodies, by ``object:function``."""
        self.counts += [
            Execution(scene=self._scene, during=during, function=function, new=number, exact=False)
            for function, number in calls.items()
        ]

    def _functions(self) -> Mapping[tuple[str, str], tuple[str, ...]]:
        """Return the functions that can be counted: those of what is loaded, if they are few."""
        case = self._case
        if case.info.patch is None or len(case.info.patch.functions) > _MOST_FUNCTIONS:
            return {}
        loaded = {"vmlinux", *(target.name for target in case.loadable)}
        found = bodies_of(case.request.module)
        return {key: names for key, names in found.items() if key[0] in loaded}

    def _start(self, owners: Mapping[str, str]) -> set[str]:
        """Begin to count; return the names that the tracer does not know."""
        words = {
            name if owner == "vmlinux" else f"{name}:mod:{owner}": name
            for name, owner in owners.items()
        }
        text = self._run(_START, "".join(f"{word}\n" for word in words))
        if text is None:
            return set(owners)
        refused = [line.removeprefix("untraced ") for line in text.splitlines()]
        return {words[word] for word in refused if word in words}

    def _stop(self, names: Sequence[str]) -> Counts:
        text = self._run(_STOP)
        return read_counts(text, names) if text is not None else Counts()

    def _run(self, script: str, names: str = "") -> str | None:
        """Return what a script of the tracer prints; None when it failed, or did not end in time.

        A guest under load may not do it in time, and that is no fault of the patch.
        """
        try:
            ran = self._machine.run(
                ["sh", "-c", script], stdin=names, deadline=self._machine.scaled(_SCRIPT_S)
            )
        except TimeoutError:
            return None
        return ran.stdout if ran.ok else None


def read_counts(text: str, names: Sequence[str]) -> Counts:
    """Return the calls of functions by the tracer's statistics and its buffer.

    Events that were overwritten count by share, and a function that has none left is not known. So
    is one without an event where the tracer names a function that was not asked for: that may be
    its other name.
    """
    kept = sum(int(number) for name, number in _STATS.findall(text) if name == "entries")
    lost = sum(int(number) for name, number in _STATS.findall(text) if name == "overrun")
    seen = {name: int(number) for number, name in _CALLED.findall(text)}
    share = (kept + lost) / kept if kept else 1.0
    is_known = not lost and not seen.keys() - set(names)
    return Counts(
        calls={
            name: round(seen[name] * share) if name in seen else (0 if is_known else None)
            for name in names
        },
        exact=not lost,
    )


def bodies_of(path: Path) -> Mapping[tuple[str, str], tuple[str, ...]]:
    """Return what `new_bodies` does; a file that has not changed is read once."""
    status = path.stat()
    return _bodies_of(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=64)
def _bodies_of(path: Path, _time_ns: int, _size: int) -> Mapping[tuple[str, str], tuple[str, ...]]:
    return new_bodies(path)
