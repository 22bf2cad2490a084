# SPDX-License-Identifier: GPL-2.0-only
"""verify without a guest: verdicts, the steps of a scene, the runner of scenes."""

from __future__ import annotations

import threading
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
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
    guest_error,
)
from harness.report.base import CheckOutcome
from harness.tools.verify.patience import Waited
from harness.tools.verify.runner import SceneRunner
from harness.tools.verify.scene import SceneResult, SceneSpec
from harness.tools.verify.script import CheckRun, When
from harness.tools.verify.step import Failed, SceneEnded, code_of
from harness.tools.verify.verdict import Verdict, failed, not_run, passed, warned
from harness.vm.kernel.codes import Code
from tests.unit.verify_doubles import Guest, case, scene

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.tools.verify.scene import Scene
    from harness.tools.verify.verdict import Check

PASSED, WARNED, FAILED = CheckOutcome.PASSED, CheckOutcome.WARNED, CheckOutcome.FAILED

# -- verdicts

LEAK = failed("leaks", Code.LEAK, "grows")
WARNING = warned("stacks", Code.ALWAYS_ON_STACK, "it sleeps there")


@pytest.mark.parametrize(
    ("checks", "outcome"),
    [
        ((passed("load"), not_run("force", "too late")), PASSED),
        ((passed("load"), WARNING), WARNED),
        ((WARNING, LEAK, passed("load")), FAILED),
    ],
)
def test_verdict(checks: tuple[Check, ...], outcome: CheckOutcome) -> None:
    """The worst check is the verdict; one that was not run does not count."""
    assert Verdict(module="m", checks=checks).outcome is outcome


def test_codes_of_a_verdict() -> None:
    """The codes of a verdict are those of failed checks, and of no warning."""
    verdict = Verdict(module="m", checks=(LEAK, WARNING))
    assert verdict.codes == {Code.LEAK}
    assert verdict.check("stacks") is WARNING
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
def test_codes_of_errors(error: Any, code: Code) -> None:
    """Each failure of the kernel has a code."""
    assert code_of(error) is code


# -- steps


def test_a_step_that_passes() -> None:
    """A step is a check with what the body says of it, and without evidence when it passes."""
    made = scene()
    with made.step("load") as step:
        step.passed("accepted")
    (check,) = made.result.checks
    assert (check.id, check.outcome, check.detail) == ("load", PASSED, "accepted")
    assert check.evidence == ()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Failed(Code.LEAK, "grows"), Code.LEAK),
        (ModuleRefused("m", 22), Code.LOAD_REFUSED),
        (guest_error(16, None, "enabled"), Code.WRITE_REFUSED),
    ],
)
def test_a_step_that_fails(error: Exception, code: Code) -> None:
    """A failed step ends its scene, and names the folder with the guest's logs."""
    made = scene()
    with pytest.raises(SceneEnded), made.step("load"):
        raise error
    (check,) = made.result.checks
    assert (check.outcome, check.code) == (FAILED, code)
    assert check.evidence == (Path("guest"),)


def test_an_error_of_the_host_is_no_refusal() -> None:
    """A full disk of the host during a step is not what the kernel refused."""
    made = scene()
    with pytest.raises(HarnessError, match="the host failed during load"), made.step("load"):
        raise OSError(28, "No space left on device", "/var/cache/x")
    assert made.result.checks == []


def test_a_splat() -> None:
    """A splat is kept for the check of all guests."""
    made = scene()
    with pytest.raises(SceneEnded), made.step("load"):
        raise KernelSplat("the kernel complained: WARNING")
    assert made.result.splat == "the kernel complained: WARNING"


def test_a_lost_guest() -> None:
    """A failure of the harness is no check of the patch."""
    made = scene()
    with pytest.raises(LostGuest), made.step("load"):
        raise LostGuest("QEMU was killed")
    assert made.result.checks == []


def test_a_scene_that_is_stopped() -> None:
    """No step begins once the scene is stopped."""
    stop = threading.Event()
    stop.set()
    made = scene(stop=stop)
    with pytest.raises(SceneEnded), made.step("load"):
        pytest.fail("the step began")
    assert made.result.checks == []


@pytest.mark.parametrize(
    "error", [KernelSplat("WARNING"), GuestPanic("oops"), Failed(Code.LEFT_BEHIND, "a thread")]
)
def test_what_a_replaced_patch_leaves(error: Exception) -> None:
    """What the replacing patch has to undo is a warning, and no splat of this patch."""
    made = scene()
    with pytest.raises(SceneEnded), made.step("replaced", soft=Code.REPLACED_LEAVES):
        raise error
    (check,) = made.result.checks
    assert (check.outcome, check.code) == (WARNED, Code.REPLACED_LEAVES)
    assert made.result.splat is None


def test_a_patch_that_cannot_be_replaced() -> None:
    """It fails: that is nothing another patch could undo."""
    made = scene()
    with pytest.raises(SceneEnded), made.step("replaced", soft=Code.REPLACED_LEAVES):
        raise Failed(Code.NOT_REPLACED, "no patch can replace it")
    (check,) = made.result.checks
    assert (check.outcome, check.code) == (FAILED, Code.NOT_REPLACED)


@pytest.mark.parametrize(
    ("seconds", "held_s", "code"),
    [(2.0, 2.0, Code.OK), (16.0, 15.5, Code.SLOW_TRANSITION), (40.0, 2.0, Code.OK)],
)
def test_a_slow_transition(seconds: float, held_s: float, code: Code) -> None:
    """One that tasks held until the kernel's fake signal is a warning, and no removal of hooks."""
    made = scene()
    with made.step("transition") as step:
        made.note_duration(step, Waited(seconds=seconds, held_s=held_s), "all switched")
    assert made.result.checks[0].code is code


# -- the check script


def checked(code: int | None) -> Scene:
    """Return a scene whose check script ends with that code, or hangs."""
    made = scene()
    made.case.request = replace(made.case.request, check=Path("check.sh"))  # type: ignore[misc]
    made.script = SimpleNamespace(run=lambda _: CheckRun(code=code))  # type: ignore[assignment]
    return made


@pytest.mark.parametrize(
    ("code", "words"),
    [(1, "fails before the patch is loaded"), (None, "hangs before the patch is loaded")],
)
def test_a_script_that_fails_before_the_patch(code: int | None, words: str) -> None:
    """It is the user's error, since it shows nothing of the patch."""
    with pytest.raises(UsageError, match=words):
        checked(code).check(When.BEFORE)
    checked(0).check(When.BEFORE)


@pytest.mark.parametrize(
    ("code", "found"), [(1, Code.CHECK_FAILED), (None, Code.CHECK_HUNG), (-9, Code.CHECK_FAILED)]
)
def test_a_script_that_fails_with_the_patch(code: int | None, found: Code) -> None:
    """It is a failure of the patch."""
    with pytest.raises(Failed) as raised:
        checked(code).check(When.DURING)
    assert raised.value.code is found


# -- the runner


class Guests:
    """A session whose first guests are lost, and that keeps none."""

    keeper = None

    def __init__(self, lost: int) -> None:
        self.lost = lost

    def guest(self, kernel: object, *, name: str, cpus: int) -> Any:
        if self.lost:
            self.lost -= 1
            raise LostGuest("QEMU was killed")
        return nullcontext(Guest())


def run(*specs: SceneSpec, lost: int = 0) -> dict[str, SceneResult]:
    """Run scenes one after the other; return their results by name."""
    runner = SceneRunner(case(), Guests(lost), guests=1)  # type: ignore[arg-type]
    return {result.spec.name: result for result in runner.run(specs)}


def spec(name: str, body: Callable[[Scene], None], **more: Any) -> SceneSpec:
    return SceneSpec(name=name, run=body, checks=(f"{name}-1", f"{name}-2"), **more)


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


def raises(error: Exception) -> Callable[[Scene], None]:
    def body(scene: Scene) -> None:
        raise error

    return body


def test_checks_that_were_not_reached() -> None:
    """They are reported as not run, because of the check that failed."""
    (left,) = run(spec("a", fails("a")))["a"].not_reached()
    assert (left.id, left.outcome, left.detail) == ("a-2", CheckOutcome.NOT_RUN, "a-1 failed")


def test_the_first_scene_fails() -> None:
    """The other scenes are stopped, but for one that is always run."""
    results = run(
        spec("a", fails("a"), first=True),
        spec("b", passes("b")),
        spec("c", passes("c"), always=True),
    )
    assert len(results["b"].not_reached()) == 2
    assert results["c"].not_reached() == ()


def test_a_lost_guest_is_tried_again_once() -> None:
    """A guest that QEMU lost says nothing about the patch."""
    assert run(spec("a", passes("a")), lost=1)["a"].error is None
    assert isinstance(run(spec("a", passes("a")), lost=2)["a"].error, HarnessError)


def test_a_usage_error_stops_all_scenes() -> None:
    """Also one that is always run: nothing can be verified."""
    results = run(
        spec("a", raises(UsageError("the check fails before")), first=True),
        spec("b", passes("b")),
        spec("c", passes("c"), always=True),
    )
    assert isinstance(results["a"].error, UsageError)
    assert len(results["c"].not_reached()) == 2


def test_a_guest_that_dies_between_two_steps() -> None:
    """It fails the scene under the scene's own name."""
    (check,) = run(spec("a", raises(GuestPanic("oops"))))["a"].checks
    assert (check.id, check.outcome, check.code) == ("a", FAILED, Code.PANIC)


def test_a_bug_of_the_harness() -> None:
    """An error that nobody foresaw is raised."""
    with pytest.raises(ZeroDivisionError):
        run(spec("a", raises(ZeroDivisionError())))
