# SPDX-License-Identifier: GPL-2.0-only
"""verify's scenes without a guest: each finding is shown with what it is found in."""

from __future__ import annotations

import errno
import threading
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import GuestPanic, KernelSplat, ModuleRefused, UsageError
from harness.tools.verify.request import VerifyRequest
from harness.tools.verify.scene import Failed, Notes, Scene, SceneEnded
from harness.tools.verify.scenes import reverse_force as turning
from harness.tools.verify.scenes import target_order as orders
from harness.tools.verify.scenes import tracing
from harness.tools.verify.scenes.guest_state import Look
from harness.tools.verify.scenes.idle import expect_redirected, restored
from harness.tools.verify.verdict import CheckResult, Code

if TYPE_CHECKING:
    from collections.abc import Iterator

TARGET = SimpleNamespace(name="driver", path=Path("driver.ko"))


class Guest:
    """A guest that answers from a table, and refuses what it is told to refuse."""

    folder = Path("guest")
    time_scale = 2.0

    def __init__(self, **files: str) -> None:
        self.files = {name.replace("__", "/"): text for name, text in files.items()}
        self.refuses: dict[str, Exception] = {}

    def read(self, path: str) -> str:
        return self.files[path.rpartition("/")[2]]

    def write(self, path: str, text: str) -> None:
        self._refuse(f"write {text}")

    def upload(self, path: Path) -> str:
        return str(path)

    def insmod(self, path: str, params: str = "", **_: Any) -> None:
        self._refuse(f"insmod {path}")

    def rmmod(self, name: str) -> None:
        self._refuse(f"rmmod {name}")

    def scaled(self, seconds: float) -> None:
        return None

    def _refuse(self, what: str) -> None:
        if what in self.refuses:
            raise self.refuses[what]


def scene(guest: Guest, notes: Notes | None = None, *, other: Guest | None = None) -> Any:
    case = SimpleNamespace(
        name="klp_fix",
        request=VerifyRequest(module=Path("klp_fix.ko")),
        plan=SimpleNamespace(targets=(TARGET,)),
        kernel=SimpleNamespace(vmlinux=None),
    )
    made: Any = Scene(
        "scene",
        guest,  # type: ignore[arg-type]
        case,  # type: ignore[arg-type]
        notes if notes is not None else Notes(),
        stop=threading.Event(),
        another_guest=lambda: nullcontext(other or Guest()),  # type: ignore[arg-type]
    )
    return made


class Patch:
    """A patch in sysfs: its functions, and whether a transition runs."""

    def __init__(self, *functions: str, patched: bool | None = True) -> None:
        names = [SimpleNamespace(name=name) for name in functions]
        self._object = SimpleNamespace(name="vmlinux", patched=patched, functions=lambda: names)
        self.in_transition = False
        self.exists = True
        self.refuses: Exception | None = None

    def objects(self) -> tuple[Any, ...]:
        return (self._object,)

    def reverse(self) -> None:
        if self.refuses is not None:
            raise self.refuses

    force = reverse


# -- redirected, and not any more


def test_a_function_without_a_hook_is_not_redirected() -> None:
    guest = Guest(modules="", enabled_functions="f (1) R I\ttramp\n")
    assert expect_redirected(scene(guest), Patch("f"))  # type: ignore[arg-type]
    with pytest.raises(Failed) as found:
        expect_redirected(scene(guest), Patch("f", "g"))  # type: ignore[arg-type]
    assert (found.value.code, found.value.lines) == (Code.NOT_REDIRECTED, ("vmlinux:g",))


def test_an_object_that_is_not_shown_as_patched_fails() -> None:
    guest = Guest(modules="", enabled_functions="f (1) R I\ttramp\n")
    with pytest.raises(Failed, match="not shown as patched"):
        expect_redirected(scene(guest), Patch("f", patched=False))  # type: ignore[arg-type]


def test_a_hook_that_stays_is_not_restored() -> None:
    nothing: frozenset[str] = frozenset()
    hooks = frozenset({"vmlinux:f"})
    guest = Guest(enabled_functions="f (1) R I\ttramp\n")
    before = Look(modules=nothing, hooks=hooks, threads=nothing, entries=nothing, patches=nothing)
    restored(scene(guest), before)
    guest.files["enabled_functions"] += "g (1) R I\ttramp\n"
    with pytest.raises(Failed) as found:
        restored(scene(guest), before)
    assert found.value.code is Code.NOT_RESTORED


# -- a transition that is turned round


@pytest.mark.parametrize(
    "refusal",
    [
        UsageError("in no transition"),
        FileNotFoundError(errno.ENOENT, "gone"),
        OSError(errno.EINVAL, "Invalid argument"),
    ],
)
def test_a_transition_that_ended_before_is_no_failure(refusal: Exception) -> None:
    patch = Patch()
    patch.refuses = refusal
    assert not turning._turned(patch)  # type: ignore[arg-type]
    patch.refuses = None
    assert turning._turned(patch)  # type: ignore[arg-type]


def test_a_running_transition_that_cannot_be_turned_round_is_one() -> None:
    patch = Patch()
    patch.in_transition = True
    patch.refuses = OSError(errno.EINVAL, "Invalid argument")
    with pytest.raises(OSError, match="Invalid argument"):
        turning._turned(patch)  # type: ignore[arg-type]


# -- targets


def test_a_target_that_the_patch_keeps_out_fails() -> None:
    guest = Guest()
    guest.refuses["insmod driver.ko"] = ModuleRefused("driver", errno.EBUSY)
    with pytest.raises(Failed) as found:
        orders._come(scene(guest), TARGET)  # type: ignore[arg-type]
    assert found.value.code is Code.TARGET_REFUSED


def test_a_target_that_the_patch_holds_fails_and_one_that_never_goes_does_not() -> None:
    refusal = ModuleRefused("driver", errno.EBUSY, action="unload")
    guest = Guest()
    guest.refuses["rmmod driver"] = refusal
    with pytest.raises(Failed) as found:
        orders._go(scene(guest), TARGET)  # type: ignore[arg-type]
    assert found.value.code is Code.PINNED
    unpatched = Guest()
    unpatched.refuses["rmmod driver"] = refusal
    with pytest.raises(orders.Stays):
        orders._go(scene(guest, other=unpatched), TARGET)  # type: ignore[arg-type]


# -- the tracer


def test_a_name_that_the_tracer_does_not_know_is_passed_over() -> None:
    guest = Guest()
    assert tracing._filter(scene(guest), "f")
    guest.refuses["write f"] = OSError(errno.EINVAL, "Invalid argument")
    assert not tracing._filter(scene(guest), "f")
    guest.refuses["write f"] = OSError(errno.EBUSY, "busy")
    with pytest.raises(OSError, match="busy"):
        tracing._filter(scene(guest), "f")


# -- what a patch that is replaced may leave


@contextmanager
def soft(notes: Notes) -> Iterator[None]:
    with (
        pytest.raises(SceneEnded),
        scene(Guest(), notes).step("replaced", soft=Code.REPLACED_LEAVES),
    ):
        yield


@pytest.mark.parametrize(
    "error", [KernelSplat("WARNING"), GuestPanic("oops"), Failed(Code.LEFT_BEHIND, "a thread")]
)
def test_what_whoever_replaces_it_has_to_undo_is_a_warning(error: Exception) -> None:
    notes = Notes()
    with soft(notes):
        raise error
    (made,) = notes.checks
    assert (made.outcome, made.code) == (CheckResult.WARNED, Code.REPLACED_LEAVES)
    assert notes.splat is None


def test_a_patch_that_cannot_be_replaced_fails() -> None:
    notes = Notes()
    with soft(notes):
        raise Failed(Code.NOT_REPLACED, "no patch can replace it")
    (made,) = notes.checks
    assert (made.outcome, made.code) == (CheckResult.FAILED, Code.NOT_REPLACED)


# -- slow


@pytest.mark.parametrize(("seconds", "slow"), [(2.0, False), (16.0, True)])
def test_a_slow_transition_is_a_warning(seconds: float, slow: bool) -> None:
    notes = Notes()
    made = scene(Guest(), notes)
    with made.step("transition") as step:
        made.print_slow(step, seconds, "all tasks were switched")
    assert notes.checks[0].code is (Code.SLOW_TRANSITION if slow else Code.OK)
