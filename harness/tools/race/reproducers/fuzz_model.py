# SPDX-License-Identifier: GPL-2.0-only
"""The state that livepatching has after each step of a sequence: the fuzzer's model. Pure.

After each step the kernel is given time to settle: a transition that nobody blocks has ended, and
one that somebody blocks has every other task switched. So the model knows no time. The rules are
those of kernel/livepatch/core.c and transition.c from 6.1 on.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, get_args

from harness.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

GATE_OBJECT = "klp_target_gate"
TARGET = "klp_target_mod"
VMLINUX = "vmlinux"
ORIGINAL = "original"
SLEEPERS = 3
# The gate that nobody sleeps in: a call through it shows which body runs.
CALLED_GATE = 4
GATE_FUNCTION = "klp_gate_wait"

_OfAPatch = Literal["load", "disable", "enable"]
_Alone = Literal[
    "reverse", "force", "enter", "leave", "target", "untarget", "fork", "exit", "storm"
]
Verb = _OfAPatch | _Alone
_OF_A_PATCH: tuple[_OfAPatch, ...] = get_args(_OfAPatch)
_ALONE: tuple[_Alone, ...] = get_args(_Alone)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A sample livepatch: its module, its one object, and the functions that it patches there."""

    module: str
    object: str
    functions: tuple[str, ...]


PATCHES: Mapping[str, Sample] = MappingProxyType(
    {
        "gate": Sample(
            module="klp_test_gate",
            object=GATE_OBJECT,
            functions=(GATE_FUNCTION, "klp_gate_wait_second", "klp_gate_wait_interruptible"),
        ),
        "a": Sample(module="klp_test_cmdline_a", object=VMLINUX, functions=("cmdline_proc_show",)),
        "b": Sample(module="klp_test_cmdline_b", object=VMLINUX, functions=("cmdline_proc_show",)),
        "fg": Sample(
            module="klp_test_target_fg",
            object=TARGET,
            functions=("klp_target_f", "klp_target_g"),
        ),
    }
)


@dataclass(frozen=True)
class Step:
    """One step of a sequence; ``patch`` is a key of PATCHES where the verb is about one."""

    verb: Verb
    patch: str = ""
    replace: bool = False

    def __str__(self) -> str:
        return " ".join(word for word in (self.verb, self.patch, "replace" * self.replace) if word)


def parse_steps(text: str) -> tuple[Step, ...]:
    """Return the steps of a text such as ``enter; load gate; reverse``; raises UsageError."""
    return tuple(_parse(words) for part in text.split(";") if (words := part.split()))


def _parse(words: list[str]) -> Step:
    verb, *rest = words
    for known in _ALONE:
        if verb == known and not rest:
            return Step(known)
    for of_patch in _OF_A_PATCH:
        replace = of_patch == "load" and rest[1:] == ["replace"]
        if verb == of_patch and rest and rest[0] in PATCHES and (len(rest) == 1 or replace):
            return Step(of_patch, rest[0], replace)
    raise UsageError(
        f"{' '.join(words)!r} is no step of a sequence",
        hint=f"steps: {', '.join(_ALONE)}; {', '.join(_OF_A_PATCH)} with one of "
        f"{', '.join(PATCHES)}; load also with replace",
    )


@dataclass
class Model:
    """The state after some steps.

    ``stack`` are the patches from the oldest, with the one in transition; ``sleepers`` are the
    bodies in which tasks sleep, by the number of their gate. ``stuck`` patches were removed by
    force, and their modules stay loaded.
    """

    stack: list[str] = field(default_factory=list)
    replacing: set[str] = field(default_factory=set)
    transition: str | None = None
    patching: bool = False
    sleepers: dict[int, str] = field(default_factory=dict)
    target: bool = False
    stuck: set[str] = field(default_factory=set)
    children: int = 0
    storm: bool = False

    # -- what steps do

    def can(self, step: Step) -> bool:
        """Return whether the step has a meaning now; one without is left out."""
        match step.verb:
            case "load":
                return step.patch not in self.stack and step.patch not in self.stuck
            case "disable" | "enable":
                return step.patch in self.stack
            case "reverse":
                return self.transition is not None
            case "force":
                return bool(self.stack)
            case "enter":
                return len(self.sleepers) < SLEEPERS
            case "leave":
                return bool(self.sleepers)
            case "target" | "untarget":
                return self.target is (step.verb == "untarget")
            case "exit":
                return self.children > 0
            case "storm":
                return not self.storm
            case "fork":
                return True

    def refusal(self, step: Step) -> int:
        """Return the errno with which the kernel refuses the step; 0: it does not."""
        match step.verb:
            case "load":
                return errno.EBUSY if self.transition is not None else 0
            case "disable" | "enable":
                if self.enabled(step.patch) is (step.verb == "enable"):
                    return errno.EINVAL
                return 0 if self.transition in (None, step.patch) else errno.EBUSY
            case "force":
                return errno.EINVAL if self.transition is None else 0
            case _:
                return 0

    def take(self, step: Step) -> None:
        """Take a step that is not refused, and settle."""
        match step.verb:
            case "load":
                self.stack.append(step.patch)
                if step.replace:
                    self.replacing.add(step.patch)
                self.transition, self.patching = step.patch, True
            case "disable" | "enable":
                self.transition, self.patching = step.patch, step.verb == "enable"
            case "reverse":
                self.patching = not self.patching
            case "force":
                self._end(forced=True)
            case _:
                self._take_aside(step)
        if self.transition is not None and not self.blockers():
            self._end(forced=False)

    def _take_aside(self, step: Step) -> None:
        """Take a step that is about no livepatch."""
        match step.verb:
            case "enter":
                self.sleepers[self.free_gate()] = self.body_of(GATE_FUNCTION)
            case "leave":
                del self.sleepers[self.oldest_sleeper()]
            case "target" | "untarget":
                self.target = step.verb == "target"
            case "fork":
                self.children += 1
            case "exit":
                self.children -= 1
            case "storm":
                self.storm = True

    def _end(self, *, forced: bool) -> None:
        """End the transition. What is removed under force keeps its module (c99a2be7, 29573083)."""
        assert self.transition is not None
        if not self.patching:
            gone = {self.transition}
        elif self.transition in self.replacing:
            gone = set(self.stack) - {self.transition}
        else:
            gone = set()
        self.stack = [patch for patch in self.stack if patch not in gone]
        # Its nops are freed: from now on it is a patch like any other.
        self.replacing -= gone | {self.transition}
        if forced:
            self.stuck |= gone
        self.transition = None

    # -- the state to expect

    def enabled(self, patch: str) -> bool:
        """Return the value of ``enabled`` of a patch in the stack."""
        return patch != self.transition or self.patching

    def blockers(self) -> frozenset[int]:
        """Return the gates whose sleepers block the transition (klp_check_stack_func())."""
        patch = self.transition
        if patch is None:
            return frozenset()
        below = [other for other in self.stack if other != patch and other == "gate"]
        # A replacing patch has nops for what the others patch: their bodies are the originals.
        nops = patch in self.replacing and bool(below)
        if patch != "gate" and not nops:
            return frozenset()
        if self.patching:
            waits_for = "gate" if below else ORIGINAL
        else:
            waits_for = "gate" if patch == "gate" else ORIGINAL
        return frozenset(gate for gate, body in self.sleepers.items() if body == waits_for)

    def body_of(self, function: str) -> str:
        """Return whose body a switched task calls: a patch's, or the original."""
        standing = [patch for patch in self.stack if self.enabled(patch)]
        if self.transition is not None and self.patching and self.transition in self.replacing:
            standing = [self.transition]
        owners = [patch for patch in standing if function in PATCHES[patch].functions]
        return owners[-1] if owners else ORIGINAL

    def hooked(self) -> frozenset[str]:
        """Return the functions that have hooks of ftrace."""
        return frozenset(
            function
            for patch in self.stack
            for function in PATCHES[patch].functions
            if self.is_loaded(PATCHES[patch].object)
        )

    def is_loaded(self, name: str) -> bool:
        """Return whether an object is there to be patched."""
        return name != TARGET or self.target

    def free_gate(self) -> int:
        """Return a gate in which nobody sleeps."""
        return next(gate for gate in range(SLEEPERS) if gate not in self.sleepers)

    def oldest_sleeper(self) -> int:
        """Return the gate of the task that has slept longest."""
        return next(iter(self.sleepers))
