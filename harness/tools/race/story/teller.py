# SPDX-License-Identifier: GPL-2.0-only
"""What the events of a replay show, line by line: who switched when, who ran which version. Pure.

The model of consistency follows the events, so each line knows the patch state of its task.
"""

from __future__ import annotations

from collections import defaultdict, deque
from typing import TYPE_CHECKING

from harness.errors import HarnessError
from harness.observer.consistency import Model
from harness.observer.consistency_points import FENTRY_BYTES, Step
from harness.observer.shared_file import Kind
from harness.observer.versions import Body, Version
from harness.tools.race.results import StoryKind, StoryLine
from harness.tools.race.story.facts import (
    ModuleFreed,
    ModuleFunction,
    ModuleLoaded,
    PatchEnabled,
    TaskBorn,
    TaskNamed,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from harness.observer.consistency_points import ConsistencyPoints
    from harness.observer.shared_file import Event
    from harness.tools.race.story.facts import Fact, Told

ORIGINAL = "original"
_ENDBR_BYTES = 4
_IMAGE = 0xFFFFFFFF80000000
_IDLE = "swapper/0 (0)"
_FEW = 4
_STEPS = {
    Step.REVERSE: "reverses the transition",
    Step.CANCEL: "cancels the transition",
    Step.FORCE: "forces the transition",
    Step.COMPLETE: "completes the transition",
}


class Teller(Model):
    """Tells the story of one replay.

    ``told`` is what was read at its stops, in their order, ``splats`` says where the kernel reports
    a failure and how that is called, ``attempts`` where it tries to switch all tasks.
    """

    def __init__(
        self,
        points: ConsistencyPoints,
        told: Iterable[Told],
        *,
        splats: Mapping[int, str],
        attempts: Collection[int],
    ) -> None:
        super().__init__(points)
        self.lines: list[StoryLine] = []
        self._told: defaultdict[int, deque[Fact]] = defaultdict(deque)
        for each in told:
            self._told[each.address].append(each.fact)
        self._splats = splats
        self._attempts = attempts
        self._names: dict[int, str] = {}
        self._comms: dict[int, tuple[str, int]] = {}
        self._functions: dict[int, ModuleFunction] = {}
        self._patching: str | None = None
        self._attempt = 0
        self._actors: set[int] = set()
        self._first: int | None = None

    def tell(self, events: Iterable[Event]) -> list[StoryLine]:
        """Return the story. Raises HarnessError when these are not the events of that replay."""
        for number, event in enumerate(events):
            if event.where in self._told:
                facts = self._told[event.where]
                if not facts:
                    break
                self._fact(number, event, facts.popleft())
            elif event.where in self._splats:
                self._line(event, StoryKind.SPLAT, self._splats[event.where], marked=True)
            elif event.where in self._attempts and event.kind == Kind.POINT:
                self._tries(event)
            else:
                self._feed(number, event)
        else:
            if not any(self._told.values()):
                return grouped(self.lines)
        raise HarnessError(
            "the replay under the plugin is not the one that was read: their stops differ"
        )

    def _line(self, event: Event, kind: StoryKind, text: str, **more: object) -> None:
        if self._first is None:
            self._first = event.clock
        fields = {
            "at": event.clock - self._first,
            "kind": kind,
            "task": self._name(event.task),
            "text": text,
            "state": self._states.get(event.task),
            **more,
        }
        self.lines.append(StoryLine.model_validate(fields))

    def _name(self, task: int) -> str:
        return self._names.get(task, _IDLE if task >= _IMAGE else f"the task at {task:#x}")

    def _fact(self, number: int, event: Event, fact: Fact) -> None:
        if isinstance(fact, TaskBorn):
            self._comms[fact.task] = (fact.comm, fact.pid)
            self._names[fact.task] = f"{fact.comm} ({fact.pid})"
            state = self._states.get(fact.task)
            if state is not None:
                text = f"forks {self._name(fact.task)}, which has patch state {state}"
                child = (self._name(fact.task),)
                self._line(event, StoryKind.FORK, text, switched=child, to=state)
        elif isinstance(fact, TaskNamed):
            _, pid = self._comms.get(fact.task, ("", 0))
            self._comms[fact.task] = (fact.comm, pid)
            self._names[fact.task] = f"{fact.comm} ({pid})"
        elif isinstance(fact, ModuleLoaded):
            self._line(event, StoryKind.MODULE, f"loads the module {fact.name}")
            for function in fact.functions:
                self._functions[function.start] = function
                self._add(number, function, (fact.name, function.name), fact.name, None)
        elif isinstance(fact, PatchEnabled):
            self._enable(number, event, fact)
        elif isinstance(fact, ModuleFreed):
            self._line(event, StoryKind.MODULE, f"frees the text of the module {fact.name}")

    def _enable(self, number: int, event: Event, fact: PatchEnabled) -> None:
        names = [f"{each.name}()" for each in fact.functions]
        how = "enables the livepatch" if not fact.replaces_all else "replaces all livepatches by"
        self._line(event, StoryKind.PATCH, f"{how} {fact.name} of {few(names) or 'no function'}")
        for each in fact.functions:
            version = Version(key=(each.object, each.name), patch=fact.name)
            self.add_version(number, each.place, version)
            new = self._functions.get(each.new)
            if new is not None:
                self._add(number, new, version.key, fact.name, version)

    def _add(
        self,
        number: int,
        function: ModuleFunction,
        key: tuple[str, str],
        module: str,
        version: Version | None,
    ) -> None:
        # Whether a function is left by a jump is not known, so nobody is said to be inside of one.
        body = Body(
            key=key,
            parts=((function.start, function.end),),
            module=module,
            version=version,
            is_left=False,
        )
        for before in (0, _ENDBR_BYTES):
            self.add_body(number, function.start + before + FENTRY_BYTES, body)

    def _tries(self, event: Event) -> None:
        self._attempt += 1
        left = [
            self._name(task)
            for task, state in self._states.items()
            if self._goal is not None and state == 1 - self._goal
        ]
        if self._attempt == 1:
            self._line(event, StoryKind.ATTEMPT, "tries to switch all tasks")
        else:
            text = f"tries once more (attempt {self._attempt}); held by {few(left) or 'no task'}"
            self._line(event, StoryKind.ATTEMPT, text, marked=bool(left))

    def _step(self, number: int, event: Event, step: Step) -> None:
        if step is Step.DEATH:
            state = self._states.pop(event.task, None)
            if event.task in self._actors or state is not None:
                self._line(event, StoryKind.EXIT, "exits", state=state)
            self._actors.discard(event.task)
        elif step is Step.INIT:
            self._attempt = 0
        super()._step(number, event, step)
        if step in _STEPS:
            self._line(event, StoryKind.TRANSITION, f"{_STEPS[step]} of {self._patching}")

    def _byte(self, number: int, event: Event) -> None:
        before = self._goal
        super()._byte(number, event)
        if before is None and self._goal is not None:
            offset = self._points.offsets["klp_func"]["transition"]
            version = self._versions.at(number, event.data - offset)
            self._patching = version.patch if version is not None else "a livepatch"
            what = "patching, state 0 to 1" if self._goal else "unpatching, state 1 to 0"
            text = f"starts the transition of {self._patching}: {what}"
            # A task that has left all lists gets no state.
            tasks = tuple(self._name(task) for task in self._pending)
            self._line(event, StoryKind.TRANSITION, text, switched=tasks, to=1 - self._goal)

    def _state(self, event: Event, task: int, how: str) -> None:
        before = self._states.get(task)
        super()._state(event, task, how)
        after = self._states.get(task)
        if how in (Step.INIT, Step.COMPLETE, "klp_copy_process") or after == before:
            return
        own = task == event.task
        text = f"switches itself to {after}" if own else f"switches {self._name(task)} to {after}"
        self._line(
            event, StoryKind.SWITCH, text, to=after, switched=(self._name(task),), function=how
        )

    def _enter(self, event: Event, body: Body) -> None:
        self._actors.add(event.task)
        version = ORIGINAL if body.version is None else body.version.patch
        of = "the original" if body.version is None else f"{version}'s version"
        self._line(
            event,
            StoryKind.CALL,
            f"runs {of} of {body.key[1]}()",
            function=body.key[1],
            version=version,
        )
        super()._enter(event, body)

    def _violated(
        self, rule: str, event: Event, what: str, *, task: int | None = None, ago: int | None = None
    ) -> None:
        super()._violated(rule, event, what, task=task, ago=ago)
        who = event.task if task is None else task
        text = f"violates {rule}: {what}"
        self._line(event, StoryKind.VIOLATION, text, task=self._name(who), marked=True)


def few(names: Sequence[str]) -> str:
    """Return the first names of a list, and how many more there are."""
    more = len(names) - _FEW
    return ", ".join(names[:_FEW]) + (f" and {more} more" if more > 0 else "")


def grouped(lines: Iterable[StoryLine]) -> list[StoryLine]:
    """Return the lines with those in a row put together that are one attempt's, or the same."""
    found: list[StoryLine] = []
    for line in lines:
        last = found[-1] if found else None
        if last is not None and last.kind is line.kind and last.task == line.task:
            if line.kind is StoryKind.SWITCH and last.function == line.function:
                names = (*last.switched, *line.switched)
                if line.switched != (line.task,):
                    text = f"switches {len(names)} tasks to {line.to}: {few(names)}"
                    found[-1] = last.model_copy(update={"text": text, "switched": names})
                    continue
            elif line.kind is StoryKind.CALL and last.text == line.text:
                found[-1] = last.model_copy(update={"times": last.times + 1})
                continue
        found.append(line)
    return found
