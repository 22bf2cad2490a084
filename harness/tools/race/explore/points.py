# SPDX-License-Identifier: GPL-2.0-only
"""How a point of the kernel's code is written, at which a CPU is held.

klp_init_transition                 the first instruction of a function
call of klp_copy_process in copy_process
klp_try_switch_task+0x4c            an instruction; holds for one build of the kernel
sched_fork#2                        the second time that A passes it
klp_complete_transition@any         in whatever task on A's CPU, such as a worker
klp_try_switch_task+0x4c@watched    inside of that access, while KCSAN watches it
sched_fork -> klp_start_transition  B is held too, at the second point, and A goes on alone
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from harness.errors import UsageError
from harness.inputs import shown

_NAME = r"[A-Za-z_][\w.]*"
_POINT = re.compile(
    rf"(?:call of (?P<callee>{_NAME}) in |(?P<returns>return) of )?(?P<function>{_NAME})"
    r"(?:\+(?P<offset>0x[0-9a-f]+))?(?:#(?P<nth>[1-9]\d{0,5}))?(?P<off>@off)?(?P<any>@any)?"
    r"(?P<watched>@watched)?"
)
_ARROW = "->"


@dataclass(frozen=True, kw_only=True)
class Point:
    """A place in the kernel's code, and which of A's passages of it is meant.

    ``callee``: the place is where ``function`` calls that one. ``returns``: it is where it returns.
    ``by_any``: not only A's own task counts, but each on its CPU. ``off``: A is scheduled out
    there, where it is otherwise held on its CPU. ``watched``: it is held a little later, inside of
    the access to memory that begins there, while KCSAN watches that.
    """

    function: str
    callee: str | None = None
    offset: int = 0
    nth: int = 1
    by_any: bool = False
    returns: bool = False
    off: bool = False
    watched: bool = False

    @property
    def place(self) -> Point:
        """The place alone."""
        return replace(self, nth=1, by_any=False, off=False, watched=False)

    @property
    def is_entry(self) -> bool:
        """Whether it is the first instruction of a function."""
        return self.callee is None and not self.offset and not self.returns

    def __str__(self) -> str:
        text = f"call of {self.callee} in " if self.callee is not None else ""
        text += "return of " if self.returns else ""
        text += self.function
        text += f"+{self.offset:#x}" if self.offset else ""
        text += f"#{self.nth}" if self.nth > 1 else ""
        text += "@off" if self.off else ""
        text += "@any" if self.by_any else ""
        return text + ("@watched" if self.watched else "")


@dataclass(frozen=True, kw_only=True)
class Hold:
    """A is held at ``a`` while B acts; with ``b``, B is held there in its turn, and A goes on."""

    a: Point
    b: Point | None = None

    @property
    def alone(self) -> Hold:
        """The same without a hold of B."""
        return Hold(a=self.a)

    @property
    def bound(self) -> int:
        """How many CPUs are held in it."""
        return 1 if self.b is None else 2

    def __str__(self) -> str:
        return str(self.a) if self.b is None else f"{self.a} {_ARROW} {self.b}"


def parse_hold(text: str) -> Hold:
    """Return what a text says; raises UsageError for one that says nothing."""
    first, arrow, second = text.partition(_ARROW)
    a, b = _point(first, text), _point(second, text) if arrow else None
    if b is not None and b != replace(b.place, nth=b.nth):
        raise UsageError(f"{shown(text)}: where B is held has no @off, @any or @watched")
    return Hold(a=a, b=b)


def _point(part: str, text: str) -> Point:
    found = _POINT.fullmatch(part.strip())
    if found is None or (found["offset"] and (found["callee"] or found["returns"])):
        raise UsageError(
            f"{shown(text)} is no point",
            hint="points are written FUNCTION, FUNCTION+0x1c, or 'call of X in FUNCTION', "
            "with #2 for the second passage and ' -> POINT' for B",
        )
    return Point(
        function=found["function"],
        callee=found["callee"],
        offset=int(found["offset"] or "0", 16),
        nth=int(found["nth"] or 1),
        by_any=found["any"] is not None,
        returns=found["returns"] is not None,
        off=found["off"] is not None,
        watched=found["watched"] is not None,
    )
