# SPDX-License-Identifier: GPL-2.0-only
"""Several atomic replaces, replacing several patches, and a patch on top of a replace."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from harness.agent_protocol import Op
from harness.errors import ModuleRefused
from harness.livepatch.patch import Livepatch
from harness.livepatch.waiting import poll

if TYPE_CHECKING:
    from harness.vm.guest.machine import Machine
    from tests.behaviours.conftest import Guestview

MANY, BODIES = "klp_target_many", "/sys/kernel/klp_many/bodies"
FUNCTIONS, OF = 100, 400
READING, SEEN = "/tmp/reading", "/tmp/seen"
LONG_S = 120
A, B, C, D = (f"klp_test_cmdline_{letter}" for letter in "abcd")


@pytest.mark.slow(7)
@pytest.mark.behaviour("RP-09")
def test_five_replacing_patches(livepatch: Livepatch, view: Guestview) -> None:
    """Of five atomic replaces in a row each replaces the one before; its rmmod is refused."""
    previous = None
    for name in (A, B, C, D, A):
        patch = livepatch.load(name, wait=True, replace=True)
        assert view.cmdline() == name
        with pytest.raises(ModuleRefused) as refused:
            livepatch.module(name).unload()
        assert refused.value.errno in {errno.EBUSY, errno.EWOULDBLOCK}
        if previous is not None:
            previous.unload()
        assert [item.name for item in livepatch.patches()] == [name]
        previous = patch


@pytest.mark.slow(8)
@pytest.mark.behaviour("RP-10")
def test_many_replaced_at_once(livepatch: Livepatch, view: Guestview) -> None:
    """One atomic replace replaces several patches: each can be unloaded."""
    livepatch.load_target("klp_target_mod")
    old = [livepatch.load(name, wait=True) for name in (A, B, C, "klp_test_target_fg")]
    new = livepatch.load(D, wait=True, replace=True)
    for patch in old:
        patch.unload()
    assert [patch.name for patch in livepatch.patches()] == [new.name]
    assert (view.cmdline(), view.target("f")) == (D, "original")


@pytest.mark.slow(20)
@pytest.mark.usefixtures("gate")
@pytest.mark.behaviour("RP-02")
def test_old_bodies_do_not_return(guest: Machine, livepatch: Livepatch) -> None:
    """A task that runs the originals goes on to do so while the replaced patch is taken apart.

    The nops stay until that is over. The kernel waits for a grace period for each function.
    """
    deadline = guest.scaled(LONG_S)
    livepatch.load_target(MANY)
    livepatch.load("klp_test_many", functions=FUNCTIONS, deadline=deadline).wait_complete(deadline)
    guest.run(["touch", READING])
    # What was read each time would be megabytes on a quick host.
    each = f'now=$(cat {BODIES}); [ "$now" = "$last" ] || echo "$now"; last=$now'
    reader = guest.spawn("sh", "-c", f"while [ -e {READING} ]; do {each}; done >{SEEN}")
    assert poll(guest, SEEN, Op.CONTAINS, "p", deadline=deadline)
    livepatch.load(A, replace=True).wait_complete(deadline)
    guest.run(["rm", READING])
    assert reader.wait(deadline) == 0
    assert guest.read(SEEN).split() == ["p" * FUNCTIONS + "o" * (OF - FUNCTIONS), "o" * OF]


@pytest.mark.behaviour("RP-12")
def test_patch_on_top_of_a_replacing_one(livepatch: Livepatch, view: Guestview) -> None:
    """A patch without ``replace`` goes on top of an atomic replace; a disable restores that."""
    below = livepatch.load(A, wait=True, replace=True)
    above = livepatch.load(B, wait=True)
    assert view.cmdline() == B
    assert {patch.name for patch in livepatch.patches()} == {A, B}
    above.disable()
    above.unload()
    assert view.cmdline() == A
    assert below.enabled
