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
COLD_OBJECT = "klp_target_cold"
VMLINUX = "vmlinux"
ORIGINAL = "original"
# The gate that nobody sleeps in: a call through it shows which body runs.
CALLED_GATE = 4

SLEEPS: Mapping[str, tuple[str, tuple[int, ...]]] = MappingProxyType(
    {"gate": ("klp_gate_wait", (0, 1, 2)), "cold": ("klp_cold_outer", (5,))}
)
"""Where tasks can sleep: the function in which they are then, and the gates that hold them."""

TARGETS: Mapping[str, str] = MappingProxyType(
    {"mod": "klp_target_mod", "setup": "klp_target_setup"}
)
"""The modules that are loaded and unloaded. Those in which tasks sleep are always loaded."""

# Of an __init function. ftrace has it only while the target is being loaded.
INIT_FUNCTION = "klp_setup_text"

_OfAPatch = Literal["load", "disable", "enable"]
_OfAPlace = Literal["enter"]
_OfATarget = Literal["target", "untarget"]
_Alone = Literal["reverse", "force", "leave", "fork", "exit", "storm"]
Verb = _OfAPatch | _OfAPlace | _OfATarget | _Alone
_OF_A_PATCH: tuple[_OfAPatch, ...] = get_args(_OfAPatch)
_OF_A_TARGET: tuple[_OfATarget, ...] = get_args(_OfATarget)
_ALONE: tuple[_Alone, ...] = get_args(_Alone)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A sample livepatch: its module, its one object, and the functions that it patches there.

    ``parameters`` are those of the module. One that ``is_alone`` has no parameter ``replace``.
    """

    module: str
    object: str
    functions: tuple[str, ...]
    parameters: Mapping[str, str] = field(default_factory=dict)
    is_alone: bool = False


_GATE_FUNCTIONS = ("klp_gate_wait", "klp_gate_wait_second", "klp_gate_wait_interruptible")
PATCHES: Mapping[str, Sample] = MappingProxyType(
    {
        "gate": Sample(
            module="klp_test_gate",
            object=GATE_OBJECT,
            functions=_GATE_FUNCTIONS,
        ),
        "over": Sample(
            module="klp_test_gate_callbacks", object=GATE_OBJECT, functions=_GATE_FUNCTIONS[:1]
        ),
        "third": Sample(module="klp_test_gate_b", object=GATE_OBJECT, functions=_GATE_FUNCTIONS),
        "cold": Sample(
            module="klp_test_cold",
            object=COLD_OBJECT,
            functions=("klp_cold_outer", "klp_cold_inner"),
            is_alone=True,
        ),
        "a": Sample(module="klp_test_cmdline_a", object=VMLINUX, functions=("cmdline_proc_show",)),
        "b": Sample(module="klp_test_cmdline_b", object=VMLINUX, functions=("cmdline_proc_show",)),
        "fg": Sample(
            module="klp_test_target_fg",
            object=TARGETS["mod"],
            functions=("klp_target_f", "klp_target_g"),
        ),
        "setup": Sample(
            module="klp_test_symbol",
            object=TARGETS["setup"],
            functions=(INIT_FUNCTION,),
            parameters={"object": TARGETS["setup"], "function": INIT_FUNCTION},
            is_alone=True,
        ),
    }
)


@dataclass(frozen=True)
class Step:
    """One step of a sequence.

    ``what`` is a key of PATCHES, SLEEPS or TARGETS where the verb is about one.
    """

    verb: Verb
    what: str = ""
    replace: bool = False

    def __str__(self) -> str:
        return " ".join(word for word in (self.verb, self.what, "replace" * self.replace) if word)


@dataclass(frozen=True)
class Sleeper:
    """A task that sleeps: in which function, and in whose body of it."""

    function: str
    body: str


def parse_steps(text: str) -> tuple[Step, ...]:
    """Return the steps of a text such as ``enter; load gate; reverse``; raises UsageError."""
    return tuple(_parse(words) for part in text.split(";") if (words := part.split()))


def _parse(words: list[str]) -> Step:
    verb, *rest = words
    for known in _ALONE:
        if verb == known and not rest:
            return Step(known)
    for of_target in _OF_A_TARGET:
        if verb == of_target and len(rest) == 1 and rest[0] in TARGETS:
            return Step(of_target, rest[0])
    if verb == "enter" and len(rest) == 1 and rest[0] in SLEEPS:
        return Step("enter", rest[0])
    for of_patch in _OF_A_PATCH:
        replace = of_patch == "load" and rest[1:] == ["replace"]
        if verb == of_patch and rest and rest[0] in PATCHES and (len(rest) == 1 or replace):
            if replace and PATCHES[rest[0]].is_alone:
                raise UsageError(f"{rest[0]} has no parameter `replace`")
            return Step(of_patch, rest[0], replace)
    raise UsageError(
        f"{' '.join(words)!r} is no step of a sequence",
        hint=f"steps: {', '.join(_ALONE)}; {', '.join(_OF_A_PATCH)} with one of "
        f"{', '.join(PATCHES)}, load also with replace; enter with one of {', '.join(SLEEPS)}; "
        f"{', '.join(_OF_A_TARGET)} with one of {', '.join(TARGETS)}",
    )


@dataclass
class Model:
    """The state after some steps.

    ``stack`` are the patches from the oldest, with the one in transition; ``sleepers`` are by the
    number of their gate. ``targets`` are those that are loaded. ``stuck`` patches were removed by
    force, and their modules stay loaded.
    """

    stack: list[str] = field(default_factory=list)
    replacing: set[str] = field(default_factory=set)
    transition: str | None = None
    patching: bool = False
    sleepers: dict[int, Sleeper] = field(default_factory=dict)
    targets: set[str] = field(default_factory=set)
    stuck: set[str] = field(default_factory=set)
    children: int = 0
    storm: bool = False

    # -- what steps do

    def can(self, step: Step) -> bool:
        """Return whether the step has a meaning now; one without is left out."""
        match step.verb:
            case "load":
                # The kernel refuses a patch of an __init function that has been freed.
                has_run = step.what == "setup" and "setup" in self.targets
                return step.what not in {*self.stack, *self.stuck} and not has_run
            case "disable" | "enable":
                return step.what in self.stack
            case "reverse":
                return self.transition is not None
            case "force":
                return bool(self.stack)
            case "enter":
                return self.free_gate(step.what) is not None
            case "leave":
                return bool(self.sleepers)
            case "target" | "untarget":
                return (step.what in self.targets) is (step.verb == "untarget")
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
                if self.enabled(step.what) is (step.verb == "enable"):
                    return errno.EINVAL
                return 0 if self.transition in (None, step.what) else errno.EBUSY
            case "force":
                return errno.EINVAL if self.transition is None else 0
            case _:
                return 0

    def take(self, step: Step) -> None:
        """Take a step that is not refused, and settle."""
        match step.verb:
            case "load":
                self.stack.append(step.what)
                if step.replace:
                    self.replacing.add(step.what)
                self.transition, self.patching = step.what, True
            case "disable" | "enable":
                self.transition, self.patching = step.what, step.verb == "enable"
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
                gate = self.free_gate(step.what)
                assert gate is not None
                function, _ = SLEEPS[step.what]
                self.sleepers[gate] = Sleeper(function, self.body_of(function))
            case "leave":
                del self.sleepers[self.oldest_sleeper()]
            case "target":
                self.targets.add(step.what)
            case "untarget":
                self.targets.remove(step.what)
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
        return frozenset(
            gate
            for gate, sleeper in self.sleepers.items()
            if sleeper.body == self._body_that_is_left(sleeper.function)
        )

    def _body_that_is_left(self, function: str) -> str | None:
        """Return whose body of a function the transition leaves; None: it is not about that."""
        patch = self.transition
        if patch is None:
            return None
        below = [
            other
            for other in self.stack[: self.stack.index(patch)]
            if function in PATCHES[other].functions
        ]
        if function in PATCHES[patch].functions:
            own = patch
        elif patch in self.replacing and below:
            # A replacing patch has nops for what the others patch: their bodies are the originals.
            own = ORIGINAL
        else:
            return None
        if not self.patching:
            return own
        return below[-1] if below else ORIGINAL

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
            if function != INIT_FUNCTION and self.is_loaded(PATCHES[patch].object)
        )

    def is_loaded(self, name: str) -> bool:
        """Return whether an object is there to be patched."""
        return all(name != TARGETS[target] or target in self.targets for target in TARGETS)

    def free_gate(self, where: str) -> int | None:
        """Return a gate there in which nobody sleeps; None when there is no more."""
        _, gates = SLEEPS[where]
        return next((gate for gate in gates if gate not in self.sleepers), None)

    def oldest_sleeper(self) -> int:
        """Return the gate of the task that has slept longest."""
        return next(iter(self.sleepers))
