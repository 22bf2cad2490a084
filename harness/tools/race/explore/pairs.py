# SPDX-License-Identifier: GPL-2.0-only
"""Pairs of actions A-B, each from a state of the guest, and which of them are sensible."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

from harness.errors import UsageError
from harness.inputs import shown
from harness.tools.race.explore.actions import (
    ACTIONS,
    EXIT,
    GATE,
    GATE_MODULE,
    HELD_OTHER,
    HELD_STATES,
    PATCHES,
    TARGET,
    Action,
    Kind,
    StateName,
    Subject,
    insmod,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_SEPARATOR, _STATE, _ANY = "-", "@", "any"
# Which subject counts when the two actions have different ones.
_PRECEDENCE = (EXIT, TARGET)
_CHANGES = frozenset({Kind.CHANGE, Kind.TARGET})
# These differ from another action in little, or need more CPUs: they are tried when they are named.
_ONLY_NAMED = frozenset(
    {"leader", "vfork", "kthread", "end", "refused", "read", "release", "supersede", "cpu"}
)
_ONCE = frozenset({"fork", "exec", "exit", "target", "untarget", "call", "finish"})


@dataclass(frozen=True)
class State:
    """A state of the guest that is prepared once, for all pairs that begin there.

    ``more`` are steps that actions need to have been done.
    """

    name: StateName
    subject: Subject
    modules: tuple[str, ...] = ()
    more: tuple[str, ...] = ()

    def __str__(self) -> str:
        more = "".join(f", {each}" for each in (*self.modules, *self.more))
        return f"{self.name.value} ({self.subject.patch}{more})"

    def steps(self) -> tuple[str, ...]:
        """Return the steps by which klp-duel makes it (guest-programs/duel_prologue.h).

        What a sleeper holds is loaded on B's CPU, so that the kernel's retries are not held with A.
        """
        subject, name = self.subject, self.name
        steps = [insmod(each) for each in dict.fromkeys((GATE_MODULE, *self.modules))]
        steps += self.more
        patches = {
            StateName.IDLE: (),
            StateName.PATCHED: (subject.patch,),
            StateName.STACKED: (subject.patch, subject.other),
            StateName.OPEN: (subject.patch,) if subject.patch != subject.held else (),
        }.get(name, (subject.patch, subject.held))
        for patch in dict.fromkeys(patches):
            steps += [insmod(patch), "settled"]
        if name in HELD_STATES:
            held = {
                StateName.OPEN: insmod(subject.held),
                StateName.CLOSING: f"write {PATCHES}/{subject.held}/enabled 0",
                StateName.REPLACING: insmod(HELD_OTHER, "replace=1"),
            }
            steps += ["sleeper", held[name]]
        return tuple(steps)


@dataclass(frozen=True)
class Pair:
    """A is held, and B acts meanwhile; both begin in a state."""

    a: Action
    b: Action
    state: State

    def __str__(self) -> str:
        text = f"{self.a.name}{_SEPARATOR}{self.b.name}"
        default = _default_state(self.a, self.b)
        return text if self.state.name is default else f"{text}{_STATE}{self.state.name.value}"

    @property
    def cpus(self) -> int:
        """How many CPUs the guest needs."""
        return max(self.a.cpus, self.b.cpus)

    @property
    def forces(self) -> bool:
        """Whether one of the two ends a transition by force."""
        return self.a.forces or self.b.forces

    def steps(self, action: Action) -> tuple[str, ...]:
        """Return the steps of one of its actions in this state."""
        subject, name = self.state.subject, self.state.name
        fresh = subject.patch if name is StateName.IDLE else subject.other
        held = HELD_OTHER if name is StateName.REPLACING else subject.held
        names = {"patch": subject.patch, "other": subject.other, "fresh": fresh, "held": held}
        if name in HELD_STATES and subject is GATE:
            names["patch"] = subject.held
        return tuple(step.format_map(names) for step in action.steps)

    def after(self) -> tuple[str, ...]:
        """Return what is done when both have ended, before all is unloaded."""
        steps = [step for action in dict.fromkeys((self.a, self.b)) for step in action.after]
        if self.state.name in HELD_STATES:
            steps.append("write /dev/klp_gate open 0")
        return tuple(steps)


def find_pairs(names: Sequence[str]) -> tuple[Pair, ...]:
    """Return the pairs of these names, A-B or A-B@STATE; the sensible ones without a name.

    A-any and any-B stand for all sensible pairs of that action. Raises UsageError.
    """
    if not names:
        # By states: each takes memory until its last pair has ended.
        return tuple(sorted(_sensible(), key=_by_state))
    found: dict[str, Pair] = {}
    for name in names:
        for pair in _named(name):
            found.setdefault(str(pair), pair)
    return tuple(found.values())


def _by_state(pair: Pair) -> tuple[int, str, tuple[str, ...], tuple[str, ...]]:
    state = pair.state
    return tuple(StateName).index(state.name), state.subject.name, state.modules, state.more


def _named(name: str) -> tuple[Pair, ...]:
    both, _, state = name.partition(_STATE)
    a, separator, b = both.partition(_SEPARATOR)
    a, b = ("" if each == _ANY else each for each in (a, b))
    if not separator or not (a or b):
        raise UsageError(f"{shown(name)} is no pair", hint="a pair is A-B, such as exit-disable")
    for each in (a, b):
        if each and each not in ACTIONS:
            raise UsageError(
                f"there is no action {shown(each)}", hint=f"known: {', '.join(ACTIONS)}"
            )
    if state and state not in tuple(StateName):
        raise UsageError(f"there is no state {shown(state)}", hint=f"known: {', '.join(StateName)}")
    if not a or not b:
        return tuple(
            pair
            for pair in _sensible(all_actions=True)
            if (pair.a.name == a or pair.b.name == b)
            and (not state or pair.state.name.value == state)
        )
    return (_pair(ACTIONS[a], ACTIONS[b], StateName(state) if state else None),)


def _pair(a: Action, b: Action, wanted: StateName | None) -> Pair:
    name = wanted or _default_state(a, b)
    text = f"{a.name}{_SEPARATOR}{b.name}"
    if b.only_a:
        raise UsageError(f"{text} cannot start: {b.name} is for A alone")
    if name is None:
        raise UsageError(f"{text} cannot start: no state has both, {a.does} and {b.does}")
    for action in (a, b):
        if name not in action.states:
            known = ", ".join(each.value for each in StateName if each in action.states)
            raise UsageError(
                f"{text} cannot start from {name.value}: {action.name} starts from {known}"
            )
    needs = tuple(dict.fromkeys((*a.needs, *b.needs)))
    scene = tuple(dict.fromkeys((*a.scene, *b.scene)))
    return Pair(a, b, State(name, _subject(a, b), needs, scene))


def _default_state(a: Action, b: Action) -> StateName | None:
    """Return the first state, in their order, in which both can begin."""
    return next((each for each in StateName if each in a.states & b.states), None)


def _subject(a: Action, b: Action) -> Subject:
    own = {each.subject for each in (a, b) if each.subject is not None}
    for subject in _PRECEDENCE:
        if subject in own:
            return subject
    return own.pop() if own else GATE


def _sensible(*, all_actions: bool = False) -> Iterator[Pair]:
    """Yield the pairs of which one changes what the other one uses."""
    for a, b in product(ACTIONS.values(), repeat=2):
        if b.only_a or a.only_with or b.only_with not in (None, a.name) or not _meet(a, b):
            continue
        if not all_actions and {a.name, b.name} & _ONLY_NAMED:
            continue
        if a is b and a.name in _ONCE:
            continue
        for name in StateName:
            if name in a.states & b.states and _is_of_use(a, b, name):
                yield _pair(a, b, name)


def _meet(a: Action, b: Action) -> bool:
    kinds = {a.kind, b.kind}
    if Kind.SHADOW in kinds:
        return kinds == {Kind.SHADOW}
    own = {each.subject for each in (a, b)} - {None}
    if len(own) > 1:
        return False
    if kinds == {Kind.TARGET}:
        return False
    return bool(kinds & {Kind.CHANGE})


def _is_of_use(a: Action, b: Action, name: StateName) -> bool:
    """Return whether a pair shows something in a state that it does not show in another one."""
    if name is StateName.STACKED:
        return {a.kind, b.kind} <= _CHANGES
    if name is StateName.REPLACING:
        return "fork" not in (a.name, b.name) or "force" in (a.name, b.name)
    return True
