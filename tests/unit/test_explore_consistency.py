# SPDX-License-Identifier: GPL-2.0-only
"""Trials under the observer's invariants, without a guest: events go on from those of the scene."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import HarnessError
from harness.observer.consistency_points import Step
from harness.observer.module_code import ModuleCode, ModuleFunction, ModuleVersion
from harness.observer.shared_file import Event, Head, Kind, SharedFile, count_events, make_head
from harness.tools.race.explore import consistency
from harness.tools.race.explore.consistency import Invariants, events_of, invariants_of
from harness.tools.race.explore.oracle import failure_of
from harness.tools.race.explore.results import FindingKind
from harness.tools.race.explore.seen import Seen
from harness.vm.elf.klp_structs import PatchedFunction
from tests.unit import test_consistency as known

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from harness.tools.race.explore.duel import Modules

HIGH = 0xFFFFFFFF00000000


FUNCTION = ModuleFunction(name="g", parts=(((".text", 0), 64),), body=5, is_left=True)
VERSION = ModuleVersion(
    place=(".data", 0),
    function=PatchedFunction(object=known.KEY[0], name=known.KEY[1], sympos=0),
    new=(".text", 0),
)
NEW = ModuleCode(functions=(FUNCTION,), versions=(VERSION,))
"""A livepatch of f()."""


def high(event: Event) -> Event:
    """Return an event as the plugin's file gives it, with an address of the kernel."""
    return event._replace(where=event.where | HIGH)


POINTS = known.points().model_copy(
    update={
        name: {address | HIGH: what for address, what in getattr(known.points(), name).items()}
        for name in ("steps", "state_stores", "byte_stores")
    }
)
FREED = Event(0, known.AT[Step.FREE], known.OTHER, 0, 0, Kind.POINT)


def of_scene() -> known.Story:
    """Return what a scene has reported: a transition is open, and one task was switched."""
    story = known.Story(points=POINTS)
    return story.begin(goal=1).switch(known.TASK)


def loading(story: known.Story, data: int) -> known.Story:
    """Have that livepatch be loaded, with its klp_func at ``data``, and one task be switched."""
    story.step(Step.INIT)
    for task in (known.TASK, known.OTHER):
        story.state(known.INIT_STATE, task)
    story.add(Kind.STORE, known.BEGINS, data + known.TRANSITION)
    return story.add(Kind.STORE, known.INSTALLED, data + known.PATCHED).switch(known.TASK)


def write(path: Path, events: Sequence[Event]) -> Path:
    """Write the file that QEMU's plugin leaves."""
    head, size = make_head(events=64)
    changed = Head.from_buffer_copy(head)
    changed.n_events = len(events)
    with path.open("wb") as file:
        file.write(bytes(changed))
        file.seek(changed.events_at)
        for clock, where, task, data, cpu, kind in events:
            for value, size_of in (
                *((clock, 8), (task, 8), (data, 8)),
                *((where & 0xFFFFFFFF, 4), (cpu, 2), (int(kind), 2)),
            ):
                file.write(value.to_bytes(size_of, "little"))
        file.truncate(size)
    return path


def memory(address: int, size: int) -> bytes:
    return (b"a-task" if size == 16 else (42).to_bytes(4, "little")).ljust(size, b"\0")


@pytest.fixture
def invariants() -> Invariants:
    story = of_scene()
    verdict = story.model.judge(map(high, story.events))
    assert verdict.holds
    return Invariants(POINTS, {}, story.model)


def judge(
    invariants: Invariants,
    path: Path,
    story: known.Story,
    *,
    until: int | None = None,
    steps: Sequence[str] = (),
) -> consistency.Violations | None:
    events = story.events[len(of_scene().events) :]
    return judged(invariants, events_of(write(path, events), 0, until), steps=steps)


def judged(
    invariants: Invariants,
    events: Sequence[Event],
    *,
    from_scene: bool = True,
    loaded: Modules | None = None,
    later: Modules | None = None,
    armed: int = 0,
    steps: Sequence[str] = (),
) -> consistency.Violations | None:
    return invariants.judge(
        events,
        from_scene=from_scene,
        loaded=loaded or {},
        later=later or {},
        armed=armed,
        steps=steps,
        memory=memory,
    )


def test_a_trial_goes_on_from_the_scene(invariants: Invariants, tmp_path: Path) -> None:
    """Who was switched before may not enter the original; each trial begins anew."""
    path = tmp_path / "guest.observed"
    fine = of_scene().call(known.PATCH).call(known.TARGET, known.OTHER)
    assert judge(invariants, path, fine) is None
    found = judge(invariants, path, of_scene().call(known.TARGET))
    assert found is not None
    assert found.kind.startswith("I2: enters the original of f() in patch state 1")
    assert "a-task (42)" in found.details[0]
    assert "instruction" not in found.details[0]
    assert judge(invariants, path, fine) is None


def test_what_comes_after_all_has_settled_is_not_judged(
    invariants: Invariants, tmp_path: Path
) -> None:
    """There the livepatches are disabled, with one CPU."""
    path = tmp_path / "guest.observed"
    story = of_scene().call(known.PATCH).call(known.TARGET)
    assert judge(invariants, path, story) is not None
    assert judge(invariants, path, story, until=2) is None
    assert count_events(path) == SharedFile(path).head.n_events == 4


def test_the_text_of_a_module_that_a_step_unloads(invariants: Invariants, tmp_path: Path) -> None:
    """A task may not be in it; with two unloads nobody knows whose text it is."""
    path = tmp_path / "guest.observed"
    story = of_scene().enter(known.PATCH)
    story.events.append(FREED)
    found = judge(invariants, path, story, steps=("rmmod klp_test",))
    assert found is not None
    assert found.kind.startswith("I4")
    steps = ("rmmod klp_test", "unload klp_other")
    assert judge(invariants, path, story, steps=steps) is None


def test_a_livepatch_whose_text_lies_where_an_init_function_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its versions count from when the kernel writes to its klp_func, and no earlier."""
    text, data = 0xFFFFFFFFA0008000, 0xFFFFFFFFA0009000
    monkeypatch.setattr(consistency, "read_module", lambda _: NEW)
    scene = of_scene().switch(known.OTHER).complete(goal=1)
    assert scene.model.judge(map(high, scene.events)).holds
    since = len(scene.events)
    assert scene.model.verdict.events == since
    invariants = Invariants(POINTS, {"klp_new": tmp_path}, scene.model)

    def entered(*tasks: int) -> consistency.Violations | None:
        story = known.Story(points=POINTS).enter(text, known.OTHER).leave(text, known.OTHER)
        loading(story, data)
        for task in tasks:
            story.call(text, task)
        loaded = {"klp_new": {".text": text, ".data": data}}
        return judged(invariants, [*map(high, story.events)], loaded=loaded)

    assert entered(known.TASK) is None
    found = entered(known.TASK, known.OTHER)
    assert found is not None
    assert found.kind.startswith("I1: enters klp_new's version of f() in patch state 0")


def test_a_module_of_b_lies_where_an_init_function_of_the_scene_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What A and B load is not there before they begin, whatever was written till then."""
    text, data = 0xFFFFFFFFA0008000, 0xFFFFFFFFA0009000
    monkeypatch.setattr(consistency, "read_module", lambda _: NEW)
    invariants = Invariants(POINTS, {"klp_new": tmp_path}, of_scene().model)
    story = loading(known.Story(points=POINTS), data).call(text, known.OTHER)
    armed = len(story.events)
    loading(story, data).call(text, known.TASK)
    events, new = [*map(high, story.events)], {"klp_new": {".text": text, ".data": data}}

    def found(**modules: Any) -> consistency.Violations | None:
        return judged(invariants, events, from_scene=False, **modules)

    assert found(later=new, armed=armed) is None
    assert found(later=new) is not None
    assert found(loaded=new, armed=armed) is not None


def test_a_later_trial_begins_before_anything_was_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What its scene has loaded lies elsewhere each time, and is known from then on."""
    text, data = 0xFFFFFFFFA0018000, 0xFFFFFFFFA0019000
    monkeypatch.setattr(consistency, "read_module", lambda _: NEW)
    story = loading(known.Story(points=POINTS), data)
    story.call(text, known.TASK).call(text, known.OTHER)
    events, loaded = [*map(high, story.events)], {"klp_new": {".text": text, ".data": data}}
    scene = of_scene()
    scene.model.judge(map(high, scene.events))
    later = Invariants(POINTS, {"klp_new": tmp_path}, scene.model)
    original = [*map(high, known.Story(points=POINTS).call(known.TARGET).events)]
    assert judged(later, original, from_scene=True) is not None
    assert judged(later, original, from_scene=False) is None
    found = judged(later, events, from_scene=False, loaded=loaded)
    assert found is not None
    assert found.kind.startswith("I1: enters klp_new's version of f() in patch state 0")
    assert judged(later, events[:-2], from_scene=False, loaded=loaded) is None
    path = write(tmp_path / "guest.observed", story.events)
    with pytest.raises(HarnessError, match="before anything is tried: I1"):
        invariants_of(path, POINTS, loaded, {"klp_new": tmp_path})


def test_events_of_one_trial(tmp_path: Path) -> None:
    """A guest's file has those of all its trials; without all of one, nothing is judged."""
    story = known.Story(points=POINTS).call(known.TARGET).call(known.PATCH)
    path = write(tmp_path / "guest.observed", story.events)
    assert events_of(path, 1, 3) == [*map(high, story.events[1:3])]
    assert events_of(path, 2, None) == [*map(high, story.events[2:])]
    many = known.Story(points=POINTS)
    for _ in range(33):
        many.call(known.TARGET)
    with pytest.raises(HarnessError, match="2 events of the guest were lost"):
        events_of(write(path, many.events), 0, None)


def test_a_violation_is_a_finding_of_its_own_kind() -> None:
    """It comes before what is left over, and after a splat."""
    seen = Seen(plan="", reached=True, b="done", ended=True, problems=("patch x stays",))
    wrong = failure_of(replace(seen, violation="I1: enters x", violations=("I1: t enters x",)))
    assert wrong is not None
    assert wrong.kind is FindingKind.VIOLATION
    assert wrong.message == "consistency is violated: I1: enters x"
    assert wrong.details == ("I1: t enters x",)
