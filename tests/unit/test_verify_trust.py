# SPDX-License-Identifier: GPL-2.0-only
"""verify without a guest: what it did not see it does not pass, and what it did not cause."""

from __future__ import annotations

from contextlib import contextmanager
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
)
from harness.report.base import CheckOutcome
from harness.tools.verify import patience
from harness.tools.verify.alone import nothing_to_judge, without_refused
from harness.tools.verify.case import Case
from harness.tools.verify.logs import no_splat, read_log
from harness.tools.verify.patience import Waits, advice_on_stacks
from harness.tools.verify.request import VerifyRequest
from harness.tools.verify.scene import SceneResult, SceneSpec
from harness.tools.verify.scenes import calls
from harness.tools.verify.scenes.leaks import Count, find_growth_by_calls
from harness.tools.verify.script import CheckRun, When, writers_of
from harness.tools.verify.step import NotOfPatch, SceneEnded
from harness.vm.kernel.codes import Code
from tests.unit.verify_doubles import Guest, scene

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# -- logs


def result(name: str = "idle", **fields: Any) -> SceneResult:
    spec = SceneSpec(name=name, run=lambda _: None, checks=())
    return SceneResult(spec=spec, **{"has_guest": True, "unread": None, **fields})


def test_no_guest_is_no_clean_log() -> None:
    """Without a guest nothing was seen: "none of 0 guests" is no pass."""
    for results in ([], [result(has_guest=False)]):
        assert no_splat(results).outcome is CheckOutcome.NOT_RUN


def test_a_log_that_was_not_read_is_not_clean() -> None:
    """One guest whose log was not read to its end is enough, and its reason is given."""
    check = no_splat([result(), result("cycles", unread="4711 messages were dropped")])
    assert check.outcome is CheckOutcome.NOT_RUN
    assert check.detail.endswith("of cycles was not read to its end: 4711 messages were dropped")
    assert no_splat([result(), result("cycles")]).outcome is CheckOutcome.PASSED


def test_a_splat_counts_though_another_log_was_not_read() -> None:
    """What was seen is reported first."""
    check = no_splat([result(unread="lost"), result("cycles", splat="BUG: x")])
    assert (check.outcome, check.code) == (CheckOutcome.FAILED, Code.SPLAT)


@pytest.mark.parametrize(
    ("error", "splat", "is_read", "is_harness"),
    [
        (None, None, True, False),
        (KernelSplat("WARNING: x"), "WARNING: x", True, False),
        (GuestPanic("panicked"), "panicked", True, False),
        (GuestHang("silent"), None, False, False),
        (TimeoutError("no answer"), None, False, False),
        (HarnessError("messages were dropped"), None, False, True),
    ],
)
def test_the_last_look_at_a_log(
    error: Exception | None, splat: str | None, is_read: bool, is_harness: bool
) -> None:
    """Every scene ends with a look at the log; what the harness failed to read is its error."""
    guest, found = Guest(), result(unread="not looked at")
    if error is not None:
        guest.refuses["check splats"] = error
    read_log(guest, found)  # type: ignore[arg-type]
    assert (found.splat, found.unread is None) == (splat, is_read)
    assert (found.error is not None) is is_harness


def test_a_splat_that_is_not_of_the_patch() -> None:
    """What another patch has done is not held against this one at the end either."""
    guest, found = Guest(), result(excused=True)
    guest.refuses["check splats"] = KernelSplat("WARNING: of the older patch")
    read_log(guest, found)  # type: ignore[arg-type]
    assert found.splat is None


# -- targets without the patch

TARGETS = tuple(SimpleNamespace(name=name, path=Path(f"{name}.ko")) for name in ("first", "second"))


def case_of(*objects: str, depends: Sequence[str] = (), absent: Sequence[str] = ()) -> Case:
    functions = [SimpleNamespace(object=name, name="f", sympos=0) for name in objects]
    info: Any = SimpleNamespace(patch=SimpleNamespace(functions=functions), depends=depends)
    plan: Any = SimpleNamespace(name="klp_fix", targets=TARGETS, absent=tuple(absent))
    kernel: Any = None
    return Case(
        request=VerifyRequest(module=Path("klp_fix.ko")),
        info=info,
        plan=plan,
        targets=(),
        older=(),
        samples={},
        kernel=kernel,
    )


class Session:
    """A session with one guest, or with none that starts."""

    def __init__(self, guest: Guest, fails: Exception | None = None) -> None:
        self._guest, self._fails = guest, fails

    @contextmanager
    def guest(self, kernel: object, *, name: str) -> Iterator[Guest]:
        if self._fails is not None:
            raise self._fails
        yield self._guest


def refused(guest: Guest, fails: Exception | None = None) -> Case:
    return without_refused(case_of("vmlinux", "first"), Session(guest, fails))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        ("insmod first.ko", ModuleRefused("first", 19)),
        ("insmod first.ko", TimeoutError("no answer")),
        ("check splats", KernelSplat("WARNING in its init")),
        ("insmod first.ko", GuestPanic("panicked")),
    ],
)
def test_a_target_that_fails_alone(request_: str, error: Exception) -> None:
    """A target that cannot be loaded without the patch is known before any scene begins."""
    guest = Guest()
    guest.refuses[request_] = error
    found = refused(guest)
    assert "first" in found.refused
    assert "first" not in [target.name for target in found.loadable]


def test_targets_that_load() -> None:
    """Nothing is left out, then."""
    assert refused(Guest()).refused == {}


def test_no_guest_for_the_targets() -> None:
    """A guest that does not start says nothing about a target."""
    with pytest.raises(LostGuest, match="no guest for the targets alone"):
        refused(Guest(), GuestPanic("at boot"))


@pytest.mark.parametrize(
    ("objects", "depends", "absent", "nothing"),
    [
        (("first",), (), (), True),
        (("first", "third"), (), ("third",), True),
        (("first", "vmlinux"), (), (), False),
        (("first", "second"), (), (), False),
        (("vmlinux",), ("first",), (), True),
    ],
)
def test_nothing_left_to_judge(
    objects: tuple[str, ...], depends: tuple[str, ...], absent: tuple[str, ...], nothing: bool
) -> None:
    """When all that a patch changes is in targets that no guest can load, that is said: exit 2."""

    case = replace(case_of(*objects, depends=depends, absent=absent), refused={"first": "ENODEV"})
    error = nothing_to_judge(case)
    assert (error is not None) is nothing
    assert nothing_to_judge(replace(case, refused={})) is None


def test_a_step_that_would_fail_without_the_patch() -> None:
    """It is not run, with the reason, and the scene ends without a failure."""
    made = scene()
    with pytest.raises(SceneEnded), made.step("target-after"):
        raise NotOfPatch("first cannot be loaded")
    (check,) = made.result.checks
    assert (check.outcome, check.detail) == (CheckOutcome.NOT_RUN, "first cannot be loaded")
    assert made.result.failed is None


# -- slow is not stuck


class Busy(Guest):
    """A guest whose kernel removes one hook for each time that it is asked, down to a number."""

    time_scale = 1.0

    def __init__(self, hooks: int, *, until: int) -> None:
        super().__init__()
        self.hooks, self._until = hooks, until

    def read(self, path: str) -> str:
        assert path.endswith("enabled_functions")
        self.hooks = max(self._until, self.hooks - 1)
        return "f (1) R I\n" * self.hooks


class Removed:
    """A patch whose transition ends when all its hooks are gone."""

    enabled = False

    def __init__(self, guest: Busy) -> None:
        self._guest = guest

    def completes(self, _: object) -> bool:
        return self._guest.hooks == 0

    def overdue(self, waited_s: float) -> TransitionTimeout:
        return TransitionTimeout("overdue")


def waits(
    guest: Guest, monkeypatch: pytest.MonkeyPatch, functions: int = 400, *, stall_s: float = 0.05
) -> Waits:
    """``stall_s``: a test of a kernel that gets on must not fail where it itself is held up."""
    monkeypatch.setattr(patience, "_STALL_S", stall_s)
    return Waits(guest, functions=functions, check_stop=lambda: None)  # type: ignore[arg-type]


def test_a_kernel_that_gets_on_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Past its time, a transition goes on as long as hooks are removed."""
    guest = Busy(300, until=0)
    patched: Any = Removed(guest)
    waits(guest, monkeypatch, stall_s=3600.0).complete(patched, 0.0)
    assert guest.hooks == 0


def test_a_kernel_that_is_stuck_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """When no hook is removed any more, it is overdue, however many are left."""
    guest = Busy(300, until=200)
    patched: Any = Removed(guest)
    with pytest.raises(TransitionTimeout, match="overdue"):
        waits(guest, monkeypatch).complete(patched, 0.0)


def test_a_task_that_holds_a_transition_is_no_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is overdue at its limit, whatever else sets and removes hooks."""
    guest = Busy(300, until=0)
    guest.has_tasks = (SimpleNamespace(patch_state=1),)
    patched: Any = Removed(guest)
    with pytest.raises(TransitionTimeout, match="overdue"):
        waits(guest, monkeypatch).complete(patched, 0.0)
    assert guest.hooks > 200


def test_a_write_that_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that has not returned in time is no failure while hooks are removed."""

    def write() -> None:
        raise TimeoutError("the guest did not answer `write` in time")

    guest = Busy(30, until=0)
    patched: Any = Removed(guest)
    waits(guest, monkeypatch, stall_s=3600.0).go_on(write, patched.completes)
    stuck = Busy(30, until=30)
    never: Any = Removed(stuck)
    with pytest.raises(TimeoutError, match="write"):
        waits(stuck, monkeypatch).go_on(write, never.completes)


def test_time_grows_with_what_a_patch_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each function takes a change of code and a grace period."""
    guest = Guest()
    few, many = (waits(guest, monkeypatch, number).within_s(15.0) for number in (1, 1000))
    assert few < 16 < 100 < many


@pytest.mark.parametrize(
    ("stack", "words"),
    [
        ("  [<0>] __mutex_lock+0x1/0x2", "a lock"),
        ("  [<0>] synchronize_rcu_tasks_rude+0x1/0x2", "grace period of RCU"),
        ("  [<0>] msleep+0x1/0x2", "the stacks show"),
    ],
)
def test_advice_names_what_was_seen(stack: str, words: str) -> None:
    """A lock is spoken of when one is waited for, and not for a grace period."""
    assert words in advice_on_stacks(["task 7 (sh)", stack])
    assert "lock" not in advice_on_stacks(["  [<0>] synchronize_rcu+0x1/0x2"])
    assert advice_on_stacks([]).startswith("no task sleeps")


# -- the check script

OPEN_FILES = """\
/proc/1/fd:
total 0
lrwx------    1 root     root   64 Nov 28 07:00 1 -> /dev/console
/proc/40/fd:
lr-x------    1 root     root   64 Nov 28 07:00 5 -> pipe:[345]
/proc/77/fd:
l-wx------    1 root     root   64 Nov 28 07:00 1 -> pipe:[345]
l-wx------    1 root     root   64 Nov 28 07:00 2 -> pipe:[345]
l-wx------    1 root     root   64 Nov 28 07:00 3 -> pipe:[999]
"""


def test_who_has_the_output_open() -> None:
    """Who writes to the pipe was left behind; the agent, which reads it, was not."""
    assert writers_of(OPEN_FILES, {345, None}) == (77,)
    assert writers_of(OPEN_FILES, {1}) == ()


def test_a_check_that_leaves_a_process_behind() -> None:
    """It is judged by its exit code; the process is named in a warning."""
    made = scene()
    object.__setattr__(made.case, "request", VerifyRequest(module=Path("k.ko"), check=Path("c.sh")))
    made.script = SimpleNamespace(  # type: ignore[assignment]
        run=lambda _: CheckRun(code=0, left=("sleep (77)",))
    )
    with made.step("check-before") as step:
        made.check(When.BEFORE)
        step.passed("as it should be")
    (check,) = made.result.checks
    assert (check.outcome, check.code) == (CheckOutcome.WARNED, Code.CHECK_LEFT)
    assert "sleep (77)" in check.detail


# -- what each call loses

CALLS = {"f": 100, "g": 3}


@pytest.mark.parametrize(
    ("without", "grown", "leaks"),
    [
        (0, (100, 101, 99, 100), True),  # one for each call
        (0, (25, 25, 25, 25), True),  # one for each fourth call
        (0, (5, 5, 5, 5), False),  # fewer than may come and go
        (0, (100, 100, 0, 100), False),  # not each time
        (90, (100, 100, 100, 100), False),  # as without the patch
        (0, (8, 8, 8, 8), True),  # of g(), which is called less often
    ],
)
def test_what_grows_with_calls(without: int, grown: tuple[int, ...], leaks: bool) -> None:
    """It grows each time, with the calls of a function, and not without the patch."""
    found = find_growth_by_calls(
        [{"kmalloc-2k": without}, {"kmalloc-2k": 0}],
        [({"kmalloc-2k": value}, CALLS) for value in grown],
    )
    assert bool(found) is leaks


def test_the_function_that_loses_is_named() -> None:
    """That is the one whose calls and whose losses are most alike."""
    (first, *_) = find_growth_by_calls([], [({"kmalloc-2k": 100}, CALLS)] * 4)
    assert first == "kmalloc-2k: 400 more in 400 calls of f()"


def test_stretches_follow_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is left out between two: what comes and goes does not grow each time."""
    counted = iter((100, 142, 100, 142, 100))
    monkeypatch.setattr(calls, "_work", lambda *_: None)
    found = calls._stretches(
        scene(),
        (),
        When.BEFORE,
        4,
        lambda *_: Count(cycles=0, objects={"kmalloc-16": next(counted)}, things={}),
    )
    assert [each.growth["kmalloc-16"] for each in found] == [42, -42, 42, -42]
