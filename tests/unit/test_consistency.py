# SPDX-License-Identifier: GPL-2.0-only
"""The model of consistency: what it accepts, and each violation that it reports."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from harness.observer.consistency import Model
from harness.observer.consistency_points import ByteStore, ConsistencyPoints, Step, body_of, exits
from harness.observer.image import Instruction
from harness.observer.module_code import ModuleCode, ModuleFunction, ModuleVersion, add_module
from harness.observer.shared_file import Event, Kind
from harness.observer.versions import Body, Verdict, Version
from harness.observer.violation_text import in_words
from harness.vm.elf.klp_structs import PatchedFunction

TARGET, PATCH = 0xFFFFFFFFA0001000, 0xFFFFFFFFA0002000
FUNC = 0xFFFFFFFFA0003000
TASK, OTHER = 0xFFFF888001000000, 0xFFFF888002000000
STATE, PATCHED, TRANSITION = 0x800, 0x91, 0x92
STEPS = {10 + number: step for number, step in enumerate(Step)}
AT = {step: address for address, step in STEPS.items()}
INIT_STATE, SWITCH_STATE, FORK_STATE, END_STATE = 30, 31, 32, 33
BEGINS, ENDS, INSTALLED, REMOVED = 40, 41, 42, 43
KEY = ("klp_target", "f")


def points() -> ConsistencyPoints:
    return ConsistencyPoints(
        offsets={
            "task_struct": {"patch_state": STATE, "pid": 0, "comm": 0},
            "klp_func": {"patched": PATCHED, "transition": TRANSITION},
        },
        switch=1,
        steps=STEPS,
        state_stores={
            INIT_STATE: "klp_init_transition",
            SWITCH_STATE: "klp_try_switch_task",
            FORK_STATE: "klp_copy_process",
            END_STATE: "klp_complete_transition",
        },
        byte_stores={
            BEGINS: ByteStore(value=True, function="klp_init_transition"),
            ENDS: ByteStore(value=False, function="klp_complete_transition"),
            INSTALLED: ByteStore(value=True, function="klp_patch_object"),
            REMOVED: ByteStore(value=False, function="klp_unpatch_func"),
        },
        originals=(),
        return_thunk=0,
        hooks=(),
    )


@dataclass
class Story:
    """Events of a guest with the original of f() and one livepatch of it."""

    events: list[Event] = field(default_factory=list)
    points: ConsistencyPoints = field(default_factory=points)

    def __post_init__(self) -> None:
        self.model = Model(self.points)
        self.version = Version(key=KEY, patch="klp_test")
        self.model.add_version(0, FUNC, self.version)
        original = Body(key=KEY, parts=((TARGET, TARGET + 64),), module="klp_target")
        new = Body(key=KEY, parts=((PATCH, PATCH + 64),), module="klp_test", version=self.version)
        self.model.add_body(0, TARGET + 5, original)
        self.model.add_body(0, PATCH + 5, new)

    def add(self, kind: Kind, where: int, data: int = 0, task: int = TASK) -> Story:
        self.events.append(Event(100 * len(self.events), where, task, data, 1, kind))
        return self

    def step(self, step: Step, task: int = OTHER) -> Story:
        return self.add(Kind.POINT, AT[step], task=task)

    def state(self, store: int, task: int) -> Story:
        return self.add(Kind.STORE, store, task + STATE, task=OTHER)

    def begin(self, *, goal: int) -> Story:
        """klp_init_transition(), and klp_patch_object() when it is to be enabled."""
        self.step(Step.INIT)
        for task in (TASK, OTHER):
            self.state(INIT_STATE, task)
        self.add(Kind.STORE, BEGINS, FUNC + TRANSITION)
        return self.add(Kind.STORE, INSTALLED, FUNC + PATCHED) if goal else self

    def switch(self, *tasks: int) -> Story:
        for task in tasks:
            self.state(SWITCH_STATE, task)
        return self

    def complete(self, *, goal: int) -> Story:
        self.step(Step.COMPLETE)
        if not goal:
            self.add(Kind.STORE, REMOVED, FUNC + PATCHED)
        self.add(Kind.STORE, ENDS, FUNC + TRANSITION)
        for task in (TASK, OTHER):
            self.state(END_STATE, task)
        return self

    def enter(self, place: int, task: int = TASK) -> Story:
        return self.add(Kind.BODY, place + 5, task=task)

    def leave(self, place: int, task: int = TASK) -> Story:
        return self.add(Kind.RETURN, place + 20, task=task)

    def call(self, place: int, task: int = TASK) -> Story:
        return self.enter(place, task).leave(place, task)

    def verdict(self) -> Verdict:
        return self.model.judge(self.events)


def enabled() -> Story:
    """A livepatch whose transition has ended."""
    return Story().begin(goal=1).switch(TASK, OTHER).complete(goal=1)


def test_a_whole_life_holds() -> None:
    """Each task enters the version of its state, while it is patched and while it is unpatched."""
    story = Story().call(TARGET).begin(goal=1).call(TARGET).switch(TASK).call(PATCH)
    story.call(TARGET, OTHER).switch(OTHER).complete(goal=1).call(PATCH).call(PATCH, OTHER)
    story.begin(goal=0).call(PATCH).switch(TASK).call(TARGET).call(PATCH, OTHER)
    verdict = story.switch(OTHER).complete(goal=0).call(TARGET).verdict()
    assert verdict.holds
    assert verdict.transitions == 2
    assert sum(verdict.entries.values()) == 10


def test_the_new_version_before_the_switch() -> None:
    """A task in patch state 0 has to enter the original."""
    verdict = Story().begin(goal=1).call(PATCH).verdict()
    assert dict(verdict.kinds) == {
        "I1: enters klp_test's version of f() in patch state 0, where the original is in force": 1
    }


def test_the_old_version_after_the_switch() -> None:
    """Once switched, a task does not go back; how long ago it was is counted."""
    verdict = Story().begin(goal=1).switch(TASK).call(TARGET).verdict()
    (violation,) = verdict.violations
    assert (violation.rule, violation.task, violation.ago) == ("I2", TASK, 100)
    (line,) = in_words(verdict, lambda task: "cat (7)")
    assert line == (
        "I2: cat (7) enters the original of f() in patch state 1, where that of klp_test is in "
        "force, 100 instructions after it was switched; on CPU 1, at instruction 600"
    )


def test_the_old_version_when_there_is_no_transition() -> None:
    """Outside of a transition the newest livepatch is in force for all."""
    verdict = enabled().call(TARGET).verdict()
    assert list(verdict.kinds) == [
        "I1: enters the original of f() outside of a transition, where that of klp_test is in force"
    ]


def test_a_body_of_two_functions() -> None:
    """Which of them is called cannot be seen: it is wrong where it is wrong for both."""
    other = ("klp_later", "g")
    code = ModuleCode(
        functions=(ModuleFunction(name="new", parts=(((".text", 0), 64),), body=5, is_left=True),),
        versions=tuple(
            ModuleVersion(place=(".data", at), function=function, new=(".text", 0))
            for at, function in (
                (0x800, PatchedFunction(object=other[0], name=other[1], sympos=0)),
                (0, PatchedFunction(object=KEY[0], name=KEY[1], sympos=0)),
            )
        ),
    )

    def story() -> Story:
        made = Story()
        made.model = Model(made.points)
        made.model.add_body(0, TARGET + 5, Body(key=KEY, parts=((TARGET, TARGET + 64),), module=""))
        add_module(made.model, "klp_test", code, {".text": PATCH, ".data": FUNC}, 0)
        return made

    right = story().begin(goal=1).call(TARGET).switch(TASK).call(PATCH).switch(OTHER)
    assert right.complete(goal=1).call(PATCH).verdict().holds
    early = story().begin(goal=1).call(PATCH).verdict()
    assert [each.rule for each in early.violations] == ["I1"]


def test_a_task_that_is_switched_inside() -> None:
    """It stands in what its new state does not allow."""
    verdict = Story().enter(TARGET).begin(goal=1).switch(TASK).verdict()
    assert list(verdict.kinds) == [
        "I3: is switched to state 1 by klp_try_switch_task() inside the original of f()"
    ]
    assert Story().call(TARGET).begin(goal=1).switch(TASK).verdict().holds


def test_a_task_inside_at_the_end() -> None:
    """Whether the kernel had it on its list or not."""
    story = Story().enter(TARGET).begin(goal=1).switch(OTHER).complete(goal=1)
    assert list(story.verdict().kinds) == [
        "I3: is inside the original of f() at the end of the transition"
    ]


def test_a_dead_task_is_nowhere() -> None:
    """It died in a body, and does not return."""
    story = Story().enter(TARGET).begin(goal=1).step(Step.DEATH, TASK).switch(OTHER)
    assert story.complete(goal=1).verdict().holds


def test_a_forced_transition_ends_as_it_ends() -> None:
    """force says that tasks may be inside."""
    story = Story().enter(TARGET).begin(goal=1).step(Step.FORCE).switch(TASK, OTHER)
    assert story.complete(goal=1).verdict().holds


def test_text_that_is_freed_under_a_task() -> None:
    """A module that is unloaded while somebody is in its function."""
    story = enabled().enter(PATCH)
    story.model.add_unload(len(story.events), "klp_test")
    verdict = story.step(Step.DEATH).verdict()
    assert list(verdict.kinds) == ["I4: is inside klp_test's version of f(), whose text is freed"]


def test_a_reversed_transition() -> None:
    """Those that have switched switch back, and enter the version that they had."""
    story = Story().begin(goal=1).switch(TASK).call(PATCH).step(Step.REVERSE).call(PATCH)
    story.switch(TASK).call(TARGET)
    assert story.verdict().holds
    assert not story.call(PATCH).verdict().holds


def test_a_child_has_the_state_of_its_parent() -> None:
    """klp_copy_process() stores it; what was at its address before is forgotten."""
    child = TASK + 0x10000
    story = Story().begin(goal=1).switch(TASK).enter(TARGET, child)
    story.add(Kind.STORE, FORK_STATE, child + STATE, task=TASK).call(PATCH, child)
    assert [each.split(":")[0] for each in story.verdict().kinds] == []


def test_an_atomic_replace_restores_the_original() -> None:
    """Its klp_func is in the heap, and is of a function that it does not replace."""
    nop = 0xFFFF888003000000
    story = enabled()
    story.step(Step.INIT)
    for task in (TASK, OTHER):
        story.state(INIT_STATE, task)
    story.add(Kind.STORE, BEGINS, nop + TRANSITION)
    story.add(Kind.STORE, INSTALLED, nop + PATCHED)
    story.call(PATCH).switch(TASK).call(TARGET)
    assert story.verdict().holds
    assert not story.call(PATCH).verdict().holds


def test_a_target_that_comes_while_its_patch_is_disabled() -> None:
    """The functions were not patched when the transition began: nothing else shows its goal."""
    story = Story().begin(goal=1).switch(TASK, OTHER).complete(goal=1)
    story.add(Kind.STORE, REMOVED, FUNC + PATCHED).begin(goal=0)
    story.add(Kind.STORE, INSTALLED, FUNC + PATCHED).call(PATCH).switch(TASK).call(TARGET)
    story.call(PATCH, OTHER)
    assert story.verdict().holds
    assert not story.call(PATCH).verdict().holds


def test_a_target_that_comes_again_during_the_replace() -> None:
    """What restores its functions is unpatched with it, and patched again when it comes."""
    nop = 0xFFFF888003000000
    story = enabled()
    story.step(Step.INIT)
    for task in (TASK, OTHER):
        story.state(INIT_STATE, task)
    story.add(Kind.STORE, BEGINS, nop + TRANSITION)
    story.add(Kind.STORE, INSTALLED, nop + PATCHED)
    for _ in range(2):
        for stored in (REMOVED, INSTALLED):
            story.add(Kind.STORE, stored, FUNC + PATCHED)
            story.add(Kind.STORE, stored, nop + PATCHED)
        story.call(PATCH, OTHER)
    story.switch(TASK).call(TARGET).call(PATCH, OTHER)
    assert story.verdict().holds
    assert not story.call(PATCH).verdict().holds


def test_a_target_that_comes_first_during_the_replace() -> None:
    """Nothing shows which function a klp_func in the heap is for before it is patched."""
    gone, nop, other = 0xFFFF888003000100, 0xFFFF888003000000, ("vmlinux", "h")
    second = Version(key=other, patch="klp_other")
    story = Story()
    story.model.add_version(0, FUNC + 0x200, second)
    story.begin(goal=1).add(Kind.STORE, REMOVED, FUNC + PATCHED)
    story.add(Kind.STORE, INSTALLED, FUNC + 0x200 + PATCHED).switch(TASK, OTHER)
    story.complete(goal=1).step(Step.INIT)
    for task in (TASK, OTHER):
        story.state(INIT_STATE, task)
    for each in (gone, nop):
        story.add(Kind.STORE, BEGINS, each + TRANSITION)
    story.add(Kind.STORE, INSTALLED, nop + PATCHED).switch(TASK).call(TARGET)
    story.add(Kind.STORE, INSTALLED, FUNC + PATCHED)
    story.add(Kind.STORE, INSTALLED, gone + PATCHED).call(TARGET).call(PATCH, OTHER)
    verdict = story.verdict()
    assert verdict.holds, verdict.kinds
    assert verdict.unknown_versions == 0


def test_klp_funcs_in_the_heap_are_used_again() -> None:
    """Two livepatches replace each other: each has a klp_func for what the other replaces."""
    nop, other = 0xFFFF888003000000, ("klp_target", "g")
    second = Version(key=other, patch="klp_other")
    story = enabled()
    story.model.add_version(0, FUNC + 0x200, second)
    story.step(Step.INIT)
    for task in (TASK, OTHER):
        story.state(INIT_STATE, task)
    story.add(Kind.STORE, BEGINS, FUNC + 0x200 + TRANSITION)
    story.add(Kind.STORE, BEGINS, nop + TRANSITION)
    story.add(Kind.STORE, INSTALLED, FUNC + 0x200 + PATCHED)
    story.add(Kind.STORE, INSTALLED, nop + PATCHED)
    story.switch(TASK, OTHER).step(Step.COMPLETE)
    # klp_unpatch_replaced_patches(), then klp_discard_nops()
    story.add(Kind.STORE, REMOVED, FUNC + PATCHED)
    story.add(Kind.STORE, REMOVED, nop + PATCHED)
    story.add(Kind.STORE, ENDS, FUNC + 0x200 + TRANSITION)
    for task in (TASK, OTHER):
        story.state(END_STATE, task)
    # The first one, loaded anew, replaces the second, and its klp_func lies where that one's did.
    again = Version(key=KEY, patch="klp_test")
    story.model.add_version(len(story.events), FUNC, again)
    new = Body(key=KEY, parts=((PATCH, PATCH + 64),), module="klp_test", version=again)
    story.model.add_body(len(story.events), PATCH + 5, new)
    story.step(Step.INIT)
    for task in (TASK, OTHER):
        story.state(INIT_STATE, task)
    story.add(Kind.STORE, BEGINS, FUNC + TRANSITION)
    story.add(Kind.STORE, BEGINS, nop + TRANSITION)
    story.add(Kind.STORE, INSTALLED, FUNC + PATCHED)
    story.add(Kind.STORE, INSTALLED, nop + PATCHED)
    story.call(TARGET).switch(TASK).call(PATCH)
    assert story.verdict().holds


def test_an_address_that_is_used_again() -> None:
    """What is loaded later is not what was entered before."""
    story = enabled().call(PATCH)
    again = Body(key=("other", "g"), parts=((PATCH, PATCH + 64),), module="other")
    story.model.add_body(len(story.events), PATCH + 5, again)
    verdict = story.call(PATCH).verdict()
    assert verdict.holds
    assert sum(verdict.entries.values()) == 1


def test_what_is_entered_by_nobody_known_is_counted() -> None:
    """Before the first switch of tasks on a CPU it is not known who runs."""
    verdict = Story().call(TARGET, task=0).verdict()
    assert verdict.holds
    assert verdict.unknown == 1


@pytest.mark.parametrize(
    ("first", "body"),
    [
        ([b"\x0f\x1f\x44\x00\x00"], 5),
        ([b"\xe8\x01\x02\x03\x04"], 5),
        ([b"\xf3\x0f\x1e\xfa", b"\x0f\x1f\x44\x00\x00"], 9),
        ([b"\x55", b"\x0f\x1f\x44\x00\x00"], None),
    ],
)
def test_where_a_body_begins(first: list[bytes], body: int | None) -> None:
    """Behind the fentry, with or without endbr64 before it."""
    assert body_of(0, first) == body


@pytest.mark.parametrize(
    ("text", "found", "is_all"),
    [
        ("ret", [0x10], True),
        ("jmp    900 <__x86_return_thunk>", [0x10], True),
        ("jmp    500 <g>", [0x10], True),
        ("jne    500 <g>", [], False),
        ("jmp    *%rax", [], False),
        ("jne    18 <f+0x8>", [], True),
        ("call   500 <g>", [], True),
    ],
)
def test_how_a_function_is_left(text: str, found: list[int], is_all: bool) -> None:
    """Returns and jumps to other functions; some jumps only may leave it."""
    assert exits([Instruction(0x10, b"", text)], [(0x10, 0x20)], 0x900) == (found, is_all)


def test_what_a_forced_transition_left_is_excused() -> None:
    """The next livepatch looks for the version before it, and not for the one before that.

    Its text must not be freed all the same.
    """
    second = Version(key=KEY, patch="klp_other")
    story = Story().enter(TARGET)
    story.model.add_version(0, FUNC + 0x200, second)
    story.begin(goal=1).step(Step.FORCE).switch(TASK, OTHER).complete(goal=1)
    story.step(Step.INIT)
    for task in (TASK, OTHER):
        story.state(INIT_STATE, task)
    story.add(Kind.STORE, BEGINS, FUNC + 0x200 + TRANSITION)
    story.add(Kind.STORE, INSTALLED, FUNC + 0x200 + PATCHED)
    story.switch(TASK, OTHER).step(Step.COMPLETE)
    story.model.add_unload(len(story.events), "klp_target")
    verdict = story.call(TARGET).verdict()
    assert [kind[:2] for kind in verdict.kinds] == ["I4"]


def test_text_of_an_unloaded_module_is_nobodys() -> None:
    """A program in the guest may load another module there."""
    story = enabled().call(PATCH)
    story.model.add_unload(len(story.events), "klp_target")
    assert story.call(TARGET).verdict().holds


@pytest.mark.parametrize(("is_own", "kinds"), [(False, 0), (True, 1)])
def test_a_module_that_a_program_in_the_guest_unloads(is_own: bool, kinds: int) -> None:
    """When it is gone at the end, nothing is known of it from the first free of others on."""
    story = enabled()
    story.model.lost_modules = frozenset({"klp_target"})
    if is_own:
        story.model.add_own_frees(len(story.events), len(story.events) + 1)
    assert len(story.step(Step.FREE).call(TARGET).verdict().kinds) == kinds
