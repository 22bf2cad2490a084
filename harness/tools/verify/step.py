# SPDX-License-Identifier: GPL-2.0-only
"""A step of a scene: a check while it runs, and how it can fail."""

from __future__ import annotations

from dataclasses import dataclass

from harness.errors import (
    ConsistencyViolated,
    GuestPanic,
    GuestReset,
    KernelSplat,
    KernelVerdict,
    ModuleRefused,
    TransitionTimeout,
)
from harness.tools.verify.verdict import not_run, passed, warned
from harness.vm.kernel.codes import Code

ADVICE = {
    Code.TRANSITION_TIMEOUT: "a task stays in a patched function: patch a caller further out, or "
    "make sure that the task wakes up",
    Code.SPLAT: "the trace names the function; console.log has all of it",
    Code.PANIC: "console.log has what was printed before",
    Code.LOAD_REFUSED: "the kernel log says why",
    Code.UNLOAD_REFUSED: "something still uses the module",
    Code.REPLACED_LEAVES: "the callbacks of a replaced patch are not called: the replacing "
    "patch has to undo what it did, or its own exit function has to",
}
"""What to do about a failure that has no hint of its own."""


class SceneEnded(Exception):
    """A step has failed and is noted, so its scene ends."""


class NotOfPatch(Exception):
    """What a step needs fails without the patch too: it is not run, and its scene ends."""


@dataclass(eq=False)
class Failed(Exception):
    """A step found something wrong; ``lines`` are worth reading in full."""

    code: Code
    detail: str
    advice: str | None = None
    lines: tuple[str, ...] = ()


class Step:
    """A check while it runs: it passes unless its body says otherwise."""

    def __init__(self, name: str) -> None:
        self.check = passed(name)

    def passed(self, detail: str) -> None:
        """Say what is as it should be."""
        self.check = passed(self.check.id, detail)

    def warn(
        self, code: Code, detail: str, advice: str | None = None, lines: tuple[str, ...] = ()
    ) -> None:
        """Make it a warning."""
        self.check = warned(self.check.id, code, detail, advice, lines)

    def skip(self, why: str) -> None:
        """Say why it could not be run."""
        self.check = not_run(self.check.id, why)


def code_of(error: KernelVerdict) -> Code:
    """Return the code of a failure of the kernel."""
    match error:
        case ModuleRefused():
            return Code.LOAD_REFUSED if error.action == "load" else Code.UNLOAD_REFUSED
        case TransitionTimeout():
            return Code.TRANSITION_TIMEOUT
        case KernelSplat():
            return Code.SPLAT
        case ConsistencyViolated():
            return Code.INCONSISTENT
        case GuestPanic() | GuestReset():
            return Code.PANIC
        case _:
            return Code.HANG
