# SPDX-License-Identifier: GPL-2.0-only
"""verify without a guest: leaks, looks, verdicts, scenes, the battery."""

from __future__ import annotations

import threading
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import (
    GuestHang,
    GuestPanic,
    HarnessError,
    KernelSplat,
    LostGuest,
    ModuleRefused,
    TransitionTimeout,
    UsageError,
)
from harness.tools.verify.battery import Battery, Plot, not_reached
from harness.tools.verify.request import VerifyRequest
from harness.tools.verify.scene import Failed, Notes, Scene, SceneEnded, code_of
from harness.tools.verify.scenes.cycles import _when_to_count
from harness.tools.verify.scenes.guest_state import Look, parse_hooks
from harness.tools.verify.scenes.leaks import Count, find_growth, read_slabinfo
from harness.tools.verify.script import Said, expect_before
from harness.tools.verify.verdict import Check, CheckResult, Code, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

# -- leaks


def counts(*values: int, name: str = "kmalloc-64", kind: str = "objects") -> list[Count]:
    return [
        Count(
            cycles=5 + 10 * number,
            objects={name: value} if kind == "objects" else {},
            things={name: value} if kind == "things" else {},
        )
        for number, value in enumerate(values)
    ]


def test_one_object_in_each_cycle_is_a_leak() -> None:
    (growth,) = find_growth(counts(100, 110, 120, 130, 140))
    assert str(growth) == "kmalloc-64: 100 to 140, 1.0 in each cycle"


@pytest.mark.parametrize(
    "values",
    [
        (100, 140, 140, 140, 140),  # a step, once
        (100, 103, 106, 109, 112),  # less than one for each cycle
        (100, 130, 90, 140, 150),  # up and down
        (100, 100, 100, 100, 100),
    ],
)
def test_steps_and_noise_are_no_leak(values: tuple[int, ...]) -> None:
    assert find_growth(counts(*values)) == ()


def test_a_thread_in_each_cycle_is_a_leak() -> None:
    assert find_growth(counts(50, 60, 70, name="kernel threads", kind="things"))


def test_two_counts_say_nothing() -> None:
    assert find_growth(counts(100, 200)) == ()


def test_slabinfo_is_read() -> None:
    text = (
        "slabinfo - version: 2.1\n# name <active_objs> <num_objs> ...\n"
        "kmalloc-64 128 192 64 64 1 : tunables 0 0 0 : slabdata 3 3 0\n"
    )
    assert read_slabinfo(text) == {"kmalloc-64": 128}


def test_counts_lie_evenly_and_the_last_is_at_the_end() -> None:
    assert sorted(_when_to_count(50)) == [5, 8, 11, 16, 27, 38, 50]
    assert sorted(_when_to_count(12)) == [4, 6, 8, 10, 12]
    assert max(_when_to_count(7)) == 7


# -- looks


def test_hooks_that_lead_elsewhere_are_told_from_others() -> None:
    """Flags and modules as kernel/trace/ftrace.c, t_show(), prints them."""
    lines = [
        "cmdline_proc_show (1) R I     \ttramp: 0xffffffffc0203000 (klp_ftrace_handler+0x0/0x1a0)",
        "klp_target_f [klp_target_mod] (1) R I \ttramp: 0xffffffffc0203000 (IRQ I)",
        "schedule (1)           \ttramp: 0xffffffffc0201000 (function_trace_call+0x0/0x1)",
        "version_proc_show (2) R   D \tdirect I",
    ]
    assert parse_hooks(lines) == {"vmlinux:cmdline_proc_show", "klp_target_mod:klp_target_f"}


def seen(**changes: frozenset[str]) -> Look:
    nothing: frozenset[str] = frozenset()
    fields = dict.fromkeys(("modules", "hooks", "threads", "entries", "patches"), nothing)
    return Look(**{**fields, **changes})


def test_what_is_left_is_named() -> None:
    before = seen(threads=frozenset({"kthreadd"}))
    after = seen(threads=frozenset({"kthreadd", "leaked"}), entries=frozenset({"/proc/leaked"}))
    assert after.beyond(before) == ("kernel thread leaked is left", "entry /proc/leaked is left")
    assert before.beyond(after)[0] == "kernel thread leaked has gone"
    assert before.beyond(before) == ()


# -- verdicts


def check(outcome: CheckResult, name: str = "load", code: Code = Code.OK) -> Check:
    return Check(id=name, outcome=outcome, code=code)


@pytest.mark.parametrize(
    ("outcomes", "verdict"),
    [
        ((CheckResult.PASSED, CheckResult.NOT_RUN), CheckResult.PASSED),
        ((CheckResult.PASSED, CheckResult.WARNED), CheckResult.WARNED),
        ((CheckResult.WARNED, CheckResult.FAILED, CheckResult.PASSED), CheckResult.FAILED),
    ],
)
def test_the_worst_check_is_the_verdict(
    outcomes: tuple[CheckResult, ...], verdict: CheckResult
) -> None:
    assert Verdict(module="m", checks=tuple(map(check, outcomes))).outcome is verdict


def test_codes_are_those_of_what_failed() -> None:
    verdict = Verdict(
        module="m",
        checks=(
            check(CheckResult.FAILED, "leaks", Code.LEAK),
            check(CheckResult.WARNED, "stacks", Code.ALWAYS_ON_STACK),
        ),
    )
    assert verdict.codes == {Code.LEAK}
    assert verdict.check("leaks").code is Code.LEAK
    with pytest.raises(KeyError):
        verdict.check("none")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ModuleRefused("m", 22), Code.LOAD_REFUSED),
        (ModuleRefused("m", 16, action="unload"), Code.UNLOAD_REFUSED),
        (TransitionTimeout("late"), Code.TRANSITION_TIMEOUT),
        (KernelSplat("oops"), Code.SPLAT),
        (GuestPanic("panic"), Code.PANIC),
        (GuestHang("hang"), Code.HANG),
    ],
)
def test_each_way_to_fail_has_a_code(error: Any, code: Code) -> None:
    assert code_of(error) is code


# -- scenes


class Quiet:
    """A guest that nothing is asked of."""

    folder = Path("guest")
    time_scale = 2.0

    def tasks(self) -> Any:
        raise LostGuest("not asked for")


class Asked:
    """A case of which only the name and the request are looked at."""

    name = "klp_fix"
    request = VerifyRequest(module=Path("klp_fix.ko"))


def scene(notes: Notes, stop: threading.Event | None = None) -> Scene:
    return Scene(
        "idle",
        Quiet(),  # type: ignore[arg-type]
        Asked(),  # type: ignore[arg-type]
        notes,
        stop=stop or threading.Event(),
        another_guest=lambda: nullcontext(Quiet()),  # type: ignore[arg-type]
    )


def test_a_step_is_a_check() -> None:
    notes = Notes()
    with scene(notes).step("load") as step:
        step.detail = "taken"
    (made,) = notes.checks
    assert (made.id, made.outcome, made.detail) == ("load", CheckResult.PASSED, "taken")
    assert made.evidence == ()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Failed(Code.LEAK, "grows"), Code.LEAK),
        (ModuleRefused("m", 22), Code.LOAD_REFUSED),
        (OSError(16, "Device or resource busy", "enabled"), Code.WRITE_REFUSED),
    ],
)
def test_a_step_that_fails_ends_its_scene(error: Exception, code: Code) -> None:
    notes = Notes()
    with pytest.raises(SceneEnded), scene(notes).step("load"):
        raise error
    (made,) = notes.checks
    assert (made.outcome, made.code) == (CheckResult.FAILED, code)
    assert made.evidence == (Path("guest"),)


def test_a_splat_is_noted_for_all() -> None:
    notes = Notes()
    with pytest.raises(SceneEnded), scene(notes).step("load"):
        raise KernelSplat("the kernel complained: WARNING")
    assert notes.splat == "the kernel complained: WARNING"


def test_a_failure_of_the_harness_is_no_verdict() -> None:
    notes = Notes()
    with pytest.raises(LostGuest), scene(notes).step("load"):
        raise LostGuest("QEMU was killed")
    assert notes.checks == []


def test_a_battery_that_ends_starts_no_step() -> None:
    stop = threading.Event()
    stop.set()
    notes = Notes()
    with pytest.raises(SceneEnded), scene(notes, stop).step("load"):
        pytest.fail("the step began")
    assert notes.checks == []


# -- the check script


@pytest.mark.parametrize(
    ("code", "words"),
    [(1, "fails before the patch is loaded"), (None, "hangs before the patch is loaded")],
)
def test_a_script_that_does_not_hold_before_is_the_users(code: int | None, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        expect_before(Said(code=code), Path("check.sh"), timeout_s=20)
    expect_before(Said(code=0), Path("check.sh"), timeout_s=20)


# -- the battery


class Guests:
    """A session whose guests are nothing; some are lost at first."""

    def __init__(self, lost: int = 0) -> None:
        self.lost = lost

    def guest(self, kernel: object, *, name: str, cpus: int) -> Any:
        if self.lost:
            self.lost -= 1
            raise LostGuest("QEMU was killed")
        return nullcontext(Quiet())


def play(*plots: Plot, lost: int = 0, guests: int = 1) -> dict[str, Any]:
    battery = Battery(
        Asked(),  # type: ignore[arg-type]
        Guests(lost),  # type: ignore[arg-type]
        object(),  # type: ignore[arg-type]
        plots,
        guests=guests,
    )
    return {played.plot.name: played for played in battery.play()}


def plot(name: str, body: Callable[[Scene], None], **more: Any) -> Plot:
    return Plot(name=name, body=body, checks=(f"{name}-1", f"{name}-2"), **more)


def passes(name: str) -> Callable[[Scene], None]:
    def body(scene: Scene) -> None:
        for number in (1, 2):
            with scene.step(f"{name}-{number}"):
                pass

    return body


def fails(name: str) -> Callable[[Scene], None]:
    def body(scene: Scene) -> None:
        with scene.step(f"{name}-1"):
            raise Failed(Code.LEAK, "grows")

    return body


def test_what_a_failure_kept_from_running_is_told() -> None:
    played = play(plot("a", fails("a")))["a"]
    (left,) = not_reached(played)
    assert (left.id, left.outcome, left.detail) == ("a-2", CheckResult.NOT_RUN, "a-1 failed")


def test_the_first_scene_decides_on_the_others_but_not_on_all() -> None:
    played = play(
        plot("a", fails("a"), first=True),
        plot("b", passes("b")),
        plot("c", passes("c"), always=True),
    )
    assert len(not_reached(played["b"])) == 2
    assert not_reached(played["c"]) == ()


def test_a_lost_guest_is_tried_again_once() -> None:
    assert play(plot("a", passes("a")), lost=1)["a"].error is None
    assert isinstance(play(plot("a", passes("a")), lost=2)["a"].error, HarnessError)


def test_what_the_user_got_wrong_ends_everything() -> None:
    def body(scene: Scene) -> None:
        raise UsageError("the check fails before")

    played = play(
        plot("a", body, first=True), plot("b", passes("b")), plot("c", passes("c"), always=True)
    )
    assert isinstance(played["a"].error, UsageError)
    assert len(not_reached(played["c"])) == 2


def test_a_bug_is_not_swallowed() -> None:
    def body(scene: Scene) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        play(plot("a", body))
