# SPDX-License-Identifier: GPL-2.0-only
"""Callbacks and other lines read from the kernel log."""

from __future__ import annotations

import pytest

from harness.agent_protocol import KlogRecord
from harness.deadline import Deadline
from harness.errors import HarnessError, LostGuest
from harness.livepatch.callbacks import CallbackEvent, CallbackPhase, read_callbacks
from harness.livepatch.kernel_log import KernelLog
from tests.unit.scripted_guest import ScriptedGuest


def records(*texts: str) -> list[KlogRecord]:
    return [
        KlogRecord(seq=number, us=100 * number, level=6, text=text)
        for number, text in enumerate(texts)
    ]


def event(patch: str, phase: str, object_name: str, state: str) -> CallbackEvent:
    return CallbackEvent(patch=patch, phase=CallbackPhase(phase), object=object_name, state=state)


def test_in_their_order() -> None:
    """Callbacks are read in order, other lines are left out."""
    found = read_callbacks(
        records(
            "livepatch: enabling patch 'klp_test_callbacks_a'",
            "klp_test_callbacks_a: callback pre_patch vmlinux -",
            "klp_test_callbacks_a: callback pre_patch klp_target_mod LIVE",
            "livepatch: 'klp_test_callbacks_a': starting patching transition",
            "klp_test_callbacks_a: callback post_patch vmlinux -\n",
            "klp_test_callbacks_b: callback post_unpatch klp_target_mod GOING",
        )
    )
    assert found == [
        event("klp_test_callbacks_a", "pre_patch", "vmlinux", "-"),
        event("klp_test_callbacks_a", "pre_patch", "klp_target_mod", "LIVE"),
        event("klp_test_callbacks_a", "post_patch", "vmlinux", "-"),
        event("klp_test_callbacks_b", "post_unpatch", "klp_target_mod", "GOING"),
    ]
    assert [each.us for each in found] == [100, 200, 400, 500]
    assert str(found[0]) == "klp_test_callbacks_a pre_patch vmlinux -"


@pytest.mark.parametrize(
    "text",
    [
        "klp_x: callback pre_patch vmlinux",
        "klp_x: callback pre_patch vmlinux - and more",
        "said klp_x: callback pre_patch vmlinux -",
        "livepatch: pre-patch callback failed for object 'vmlinux'",
    ],
)
def test_what_is_no_callback(text: str) -> None:
    """Only the one format counts, and the whole line of it."""
    assert read_callbacks(records(text)) == []


def test_an_unknown_phase_is_an_error() -> None:
    """A phase that the harness does not know is an error."""
    with pytest.raises(ValueError, match="pre_frobnicate"):
        read_callbacks(records("klp_x: callback pre_frobnicate vmlinux -"))


def test_equal_but_for_the_time() -> None:
    """Events are compared without their times."""
    one = event("a", "pre_patch", "vmlinux", "-")
    assert one == CallbackEvent(
        patch="a", phase=CallbackPhase.PRE_PATCH, object="vmlinux", state="-", us=7
    )
    assert one != event("a", "pre_patch", "klp_target_mod", "-")


@pytest.fixture
def guest() -> ScriptedGuest:
    guest = ScriptedGuest()
    guest.say("before the test")
    return guest


def test_since_the_mark(guest: ScriptedGuest) -> None:
    """All records since the mark are returned, and no others."""
    log = KernelLog(guest)
    assert log.texts() == []
    guest.say("one")
    assert log.texts() == ["one"]
    guest.say("two")
    assert log.texts() == ["one", "two"]
    assert [record.text for record in log.matching("^t")] == ["two"]
    log.mark()
    guest.say("x: callback pre_patch vmlinux -")
    assert [str(each) for each in log.callbacks()] == ["x pre_patch vmlinux -"]
    assert [record.seq for record in log.since_mark()] == [3]


def test_what_is_said_between_look_and_mark_is_before_the_mark(guest: ScriptedGuest) -> None:
    """mark() forgets also what nobody has looked at."""
    log = KernelLog(guest)
    guest.say("unseen")
    log.mark()
    assert log.texts() == []


def test_wait_for(guest: ScriptedGuest) -> None:
    """A line that comes later is waited for; the first that matches is returned."""
    log = KernelLog(guest)
    guest.later(lambda: guest.say("starting"), lambda: guest.say("complete", "complete again"))
    assert log.wait_for("complete").text == "complete"
    assert log.wait_for("starting").text == "starting"


def test_wait_for_what_does_not_come(guest: ScriptedGuest) -> None:
    """The error has what was logged instead."""
    log = KernelLog(guest)
    with pytest.raises(TimeoutError, match="nothing was logged"):
        log.wait_for("complete", Deadline.after(0))
    guest.say("livepatch: reversing")
    with pytest.raises(TimeoutError, match=r"'complete'.*\n.*reversing"):
        log.wait_for("complete", Deadline.after(0))


def test_lost_records_are_an_error(guest: ScriptedGuest) -> None:
    """A log with a hole proves nothing about what did not happen."""
    log = KernelLog(guest)
    guest.lost = 3
    with pytest.raises(HarnessError, match="lost 3 records"):
        log.since_mark()


def test_the_guests_end_ends_the_wait(guest: ScriptedGuest) -> None:
    """A dead guest is not waited for."""
    log = KernelLog(guest)
    guest.fail("klog", LostGuest("QEMU is gone"), after=2)
    with pytest.raises(LostGuest):
        log.wait_for("never")
