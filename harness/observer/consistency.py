# SPDX-License-Identifier: GPL-2.0-only
"""The consistency of live patching, judged on every entry into every version of every function.

A model of the kernel follows what the kernel itself stores, in the order in which it does: patch
states of tasks, and which livepatches are in force. Each entry into a body is then right or wrong:

- A task enters the version of its patch state, and no other (I1), so once it has switched it does
  not enter the version that it left (I2). An interrupt is judged by the task that it interrupts.
- A task does not switch while it is in a body that its new state does not allow, and at the end of
  a transition nobody is inside of one (I3).
- A module's text is not freed while a task is in it (I4).

The model does not believe what the kernel writes to func->transition, which may be what is wrong:
that it is written to says which livepatch a transition is of.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from harness.observer.consistency_points import Step
from harness.observer.shared_file import Kind
from harness.observer.versions import Body, Inside, Places, Verdict, Version, Violation

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.observer.consistency_points import ConsistencyPoints
    from harness.observer.shared_file import Event
    from harness.observer.versions import Key

_KEPT = 20
IMAGE = 0xFFFFFFFF80000000


class Model:
    """The model of one guest, of its modules and then of its events in their order."""

    def __init__(self, points: ConsistencyPoints) -> None:
        self.verdict = Verdict()
        self._points = points
        self._bodies: Places[Body] = Places()
        self._versions: Places[Version] = Places()
        self._unloads: list[tuple[int, str]] = []
        self._keys: set[Key] = set()
        self._stacks: dict[Key, list[Version]] = {}
        self._states: dict[int, int | None] = {}
        self._switched: dict[int, int] = {}
        self._open: dict[int, list[Inside]] = {}
        # Modules that a program in the guest has unloaded, as far as is known; between which events
        # text was freed by others; and when each of these modules was gone at the latest.
        self.lost_modules: frozenset[str] = frozenset()
        self._own_frees: list[tuple[int, int]] = []
        self._gone: dict[str, int] = {}
        # klp_funcs in the heap, by address; those of an atomic replace are not known until they are
        # patched, which for those of a target that is not loaded may be never.
        self._nops: dict[int, Version] = {}
        self._new_nops: list[int] = []
        self._begun: list[Key] = []
        self._of_patch: list[Version] = []
        self._pending: list[int] = []
        self._goal: int | None = None
        self._forced = False
        for each in points.originals:
            key = ("vmlinux", each.name)
            body = Body(key=key, parts=each.parts, module=None, is_left=each.is_left)
            self.add_body(0, each.body, body)

    def add_body(self, since: int, entry: int, body: Body) -> None:
        """Add a body, whose code behind the fentry begins at ``entry`` from that event on."""
        self._bodies.add(since, entry, body)

    def add_version(self, since: int, address: int, version: Version) -> None:
        """Add the klp_func at an address, from that event on."""
        self._versions.add(since, address, version)
        self._keys.add(version.key)

    def knows(self, number: int, address: int) -> bool:
        """Return whether it is known what the klp_func at an address is."""
        return self._version_at(number, address) is not None

    def body_of(self, number: int, function: int) -> tuple[int, Body] | None:
        """Return the body of the function that begins at an address, and where the body does."""
        for entry, body in self._bodies.all_at(number):
            if body.parts and body.parts[0][0] == function:
                return entry, body
        return None

    def add_unload(self, number: int, module: str) -> None:
        """Say that a module's text was freed before the event of that number."""
        self._unloads.append((number, module))

    def add_own_frees(self, since: int, until: int) -> None:
        """Say that text which is freed between these events is of a module that is known."""
        self._own_frees.append((since, until))

    def copy(self) -> Model:
        """Return a model of the same guest that goes on by itself."""
        return copy.deepcopy(self, {id(self._points): self._points})

    def functions_of(self, target: str, number: int) -> frozenset[int]:
        """Return where the klp_funcs of an object are that are known at that event."""
        return frozenset(
            address
            for address, version in self._versions.all_at(number)
            if version.key[0] == target
        )

    def judge(self, events: Iterable[Event], since: int = 0) -> Verdict:
        """Give the model events, the first of which has the number ``since``.

        Return what all that it was given so far shows.
        """
        unloads = sorted(each for each in self._unloads if each[0] >= since)
        for number, event in enumerate(events, since):
            while unloads and unloads[0][0] <= number:
                self._unloaded(*unloads.pop(0), event)
            self._feed(number, event)
            self.verdict.events = number + 1
        return self.verdict

    def _feed(self, number: int, event: Event) -> None:
        if event.kind == Kind.BODY:
            body = self._bodies.at(number, event.where)
            if body is not None and body.key in self._keys and self._is_there(body):
                self._enter(event, body)
        elif event.kind == Kind.RETURN:
            self._leave(event)
        elif event.kind == Kind.POINT:
            self._step(number, event, self._points.steps[event.where])
        elif event.where in self._points.state_stores:
            offset = self._points.offsets["task_struct"]["patch_state"]
            how = self._points.state_stores[event.where]
            self._state(event, event.data - offset, how)
        elif event.where in self._points.byte_stores:
            self._byte(number, event)

    def _step(self, number: int, event: Event, step: Step) -> None:
        if step is Step.INIT:
            self._pending, self._goal, self._forced = [], None, False
            self._new_nops.clear()
            self._states.clear()
            self._switched.clear()
            self._begun.clear()
            self._of_patch.clear()
            self.verdict.transitions += 1
        elif step is Step.REVERSE and self._goal is not None:
            self._goal = 1 - self._goal
            self._switched.clear()
        elif step is Step.CANCEL:
            self._goal = 0
            self._switched.clear()
        elif step is Step.FORCE:
            self._forced = True
        elif step is Step.DEATH:
            self._open.pop(event.task, None)
        elif step is Step.COMPLETE:
            self._complete(event)
        elif step is Step.FREE and not any(a <= number < b for a, b in self._own_frees):
            # By a program in the guest: it may be any of the modules that are gone at the end.
            for module in self.lost_modules:
                self._gone[module] = number

    def _is_there(self, body: Body) -> bool:
        """Whether a body's text is still that of its module; another may lie there since."""
        return body.module is None or body.since >= self._gone.get(body.module, -1)

    def _version_at(self, number: int, address: int) -> Version | None:
        found = self._versions.at(number, address)
        if found is None or found.since < self._gone.get(found.patch, -1):
            return None
        return found

    def _complete(self, event: Event) -> None:
        if self._goal is None:
            return
        for version in self._of_patch:
            version.enabled = self._goal == 1
        for task, inside in self._open.items():
            for each in inside:
                if each.excused or not self._is_leaving(each.body, self._goal):
                    continue
                if self._forced:
                    # The next livepatch of the function does not look for it.
                    each.excused = True
                    continue
                what = f"is inside {_named(each.body)} at the end of the transition"
                self._violated("I3", event, what, task=task)

    def _is_leaving(self, body: Body, state: int) -> bool:
        """Whether a body is of a function in transition, and not what that state allows."""
        return all(self._leaves(key, version, state) for key, version in body.roles)

    def _leaves(self, key: Key, version: Version | None, state: int) -> bool:
        stack = self._stacks.get(key)
        if not stack or not stack[-1].transition:
            return False
        return self._expected(key, state) is not version

    def _state(self, event: Event, task: int, how: str) -> None:
        if how == Step.INIT:
            self._pending.append(task)
        elif how == Step.COMPLETE:
            self._states.pop(task, None)
        elif how == "klp_copy_process":
            self._states[task] = self._states.get(event.task)
            self._open.pop(task, None)
        else:
            self._states[task] = self._goal
            self._switched[task] = event.clock
            if self._goal is None or self._forced:
                return
            for each in self._open.get(task, ()):
                if not each.excused and self._is_leaving(each.body, self._goal):
                    name = _named(each.body)
                    what = f"is switched to state {self._goal} by {how}() inside {name}"
                    self._violated("I3", event, what, task=task)

    def _byte(self, number: int, event: Event) -> None:
        """Follow a store to ``patched`` or ``transition``, if it is one."""
        offsets = self._points.offsets["klp_func"]
        stored = self._points.byte_stores[event.where]
        address = event.data - offsets["transition"]
        is_known = self._version_at(number, address) is not None
        if stored.function == Step.INIT and event.data < IMAGE and not is_known:
            # A patch that is disabled has none any more: these are new, whatever was there before.
            self._nops.pop(address, None)
            self._new_nops.append(address)
            self._begin(1)
            return
        version = None
        for name in ("patched", "transition"):
            address = event.data - offsets[name]
            version = self._version_at(number, address) or self._nops.get(address)
            if version is None and name == "patched" and address in self._new_nops:
                version = self._new_nop(address)
            if version is not None:
                break
        else:
            self.verdict.unknown_versions += stored.function == Step.INIT
            return
        if name == "patched":
            self._patched(version, stored.value)
            return
        # In klp_init_transition() it begins, whatever is written.
        begins = stored.value or stored.function == Step.INIT
        version.transition = begins
        if begins:
            self._begun.append(version.key)
            self._of_patch.append(version)
            self._begin(0 if version.enabled else 1)

    def _begin(self, goal: int) -> None:
        """Begin a transition to a state, unless it has begun."""
        if self._goal is None:
            self._goal = goal
            for task in self._pending:
                self._states[task] = 1 - goal

    def _patched(self, version: Version, value: bool) -> None:
        stack = self._stacks.setdefault(version.key, [])
        version.patched = value
        if value:
            stack.append(version)
        elif version in stack:
            stack.remove(version)

    def _new_nop(self, address: int) -> Version | None:
        """Return what the klp_func in the heap is that an atomic replace patches now.

        It is of a function that livepatches replace and this one does not. The kernel visits those
        by object, in the order of the replacing patch first (klp_for_each_object()); which one of
        an object it is makes no difference.
        """
        self._new_nops.remove(address)
        free = [
            key
            for key, stack in self._stacks.items()
            if stack and not stack[-1].nop and key not in self._begun
        ]
        visited = list(dict.fromkeys(key[0] for key in self._begun))
        free.sort(key=lambda key: visited.index(key[0]) if key[0] in visited else len(visited))
        if not free:
            self.verdict.unknown_versions += 1
            return None
        version = Version(key=free[0], patch="an atomic replace", nop=True, transition=True)
        self._nops[address] = version
        return version

    def _expected(self, key: Key, state: int | None) -> Version | None:
        stack = self._stacks.get(key)
        if not stack:
            return None
        top: Version | None = stack[-1]
        if stack[-1].transition and state == 0:
            top = stack[-2] if len(stack) > 1 else None
        return None if top is None or top.nop else top

    def _enter(self, event: Event, body: Body) -> None:
        self.verdict.entries[_named(body)] += 1
        if not event.task:
            self.verdict.unknown += 1
            return
        state = self._states.get(event.task)
        if not any(self._may_be(key, version, state) for key, version in body.roles):
            self._wrong_version(event, body, self._expected(body.key, state), state)
        if body.is_left:
            self._open.setdefault(event.task, []).append(Inside(body))

    def _may_be(self, key: Key, version: Version | None, state: int | None) -> bool:
        """Whether a task in that state may enter a version, as far as is known."""
        stack = self._stacks.get(key)
        undecided = bool(stack) and stack is not None and stack[-1].transition and state is None
        return undecided or self._expected(key, state) is version

    def _wrong_version(
        self, event: Event, body: Body, wanted: Version | None, state: int | None
    ) -> None:
        in_state = "outside of a transition" if state is None else f"in patch state {state}"
        instead = "where the original is in force"
        if wanted is not None:
            instead = f"where that of {wanted.patch} is in force"
        rule = "I1"
        if event.task in self._switched and state == self._goal:
            rule = "I2"
        what = f"enters {_named(body)} {in_state}, {instead}"
        switched = self._switched.get(event.task)
        self._violated(rule, event, what, ago=None if switched is None else event.clock - switched)

    def _leave(self, event: Event) -> None:
        inside = self._open.get(event.task)
        if not inside:
            return
        # A return of an outer body ends those in it.
        for place in range(len(inside) - 1, -1, -1):
            if inside[place].body.holds(event.where):
                del inside[place:]
                return

    def _unloaded(self, number: int, module: str, event: Event) -> None:
        for task, inside in self._open.items():
            for each in inside:
                if each.body.module == module:
                    what = f"is inside {_named(each.body)}, whose text is freed"
                    self._violated("I4", event, what, task=task)
        for inside in self._open.values():
            inside[:] = [each for each in inside if each.body.module != module]
        self._gone[module] = number

    def _violated(
        self, rule: str, event: Event, what: str, *, task: int | None = None, ago: int | None = None
    ) -> None:
        self.verdict.kinds[f"{rule}: {what}"] += 1
        if len(self.verdict.violations) < _KEPT:
            self.verdict.violations.append(
                Violation(
                    rule=rule,
                    task=event.task if task is None else task,
                    cpu=event.cpu,
                    clock=event.clock,
                    what=what,
                    ago=ago,
                )
            )


def _named(body: Body) -> str:
    version = "the original" if body.version is None else f"{body.version.patch}'s version"
    return f"{version} of {body.key[1]}()"
