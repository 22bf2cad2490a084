# SPDX-License-Identifier: GPL-2.0-only
"""System states of cumulative patches (Documentation/livepatch/system-state.rst)."""

from __future__ import annotations

import errno

import pytest

from harness.errors import ModuleRefused
from harness.livepatch.gates import Gates
from harness.livepatch.kernel_log import KernelLog
from harness.livepatch.patch import Livepatch
from harness.livepatch.tasks import PatchState, Tasks

ONE, TWO, THREE, FOUR = (f"klp_test_state_{version}" for version in range(1, 5))
TWO_AGAIN = "klp_test_state_2_again"
ASKS = "klp_test_prev_state"


def _states(kernel_log: KernelLog) -> list[str]:
    return [record.text.partition(": state ")[2] for record in kernel_log.matching(": state ")]


@pytest.mark.behaviour("KS-01")
def test_state_goes_from_patch_to_patch(livepatch: Livepatch, kernel_log: KernelLog) -> None:
    """A state is set, taken over by a compatible cumulative patch, and freed with the last."""
    livepatch.load(ONE, wait=True)
    assert _states(kernel_log) == ["allocated version=1", "set version=1 users=1"]
    kernel_log.mark()
    two = livepatch.load(TWO, wait=True)
    assert _states(kernel_log) == ["found version=1", "taken from=1 to=2 users=2"]
    livepatch.patch(ONE).unload()
    kernel_log.mark()
    two.disable()
    two.unload()
    assert _states(kernel_log) == ["restored version=2 users=2", "freed version=2"]


@pytest.mark.behaviour("KS-02")
def test_older_version_is_refused(livepatch: Livepatch, kernel_log: KernelLog) -> None:
    """A cumulative patch with an older version of a state is EINVAL; the state is unchanged."""
    livepatch.load(TWO, wait=True)
    kernel_log.mark()
    with pytest.raises(ModuleRefused) as refused:
        livepatch.load(ONE)
    assert refused.value.errno == errno.EINVAL
    assert _states(kernel_log) == []
    assert [patch.name for patch in livepatch.patches()] == [TWO]


@pytest.mark.behaviour("KS-01")
def test_same_version_is_taken_over(livepatch: Livepatch, kernel_log: KernelLog) -> None:
    """A cumulative patch with the same version of a state is compatible."""
    old = livepatch.load(TWO, wait=True)
    kernel_log.mark()
    livepatch.load(TWO_AGAIN, wait=True)
    assert _states(kernel_log) == ["found version=2", "taken from=2 to=2 users=2"]
    old.unload()


@pytest.mark.behaviour("KS-02")
def test_cumulative_patch_without_the_state(livepatch: Livepatch) -> None:
    """A cumulative patch that lacks the state is EINVAL; one without ``replace`` is loaded."""
    livepatch.load(ONE, wait=True)
    with pytest.raises(ModuleRefused) as refused:
        livepatch.load("klp_test_cmdline_a", replace=True)
    assert refused.value.errno == errno.EINVAL
    livepatch.load("klp_test_cmdline_a", wait=True)
    assert {patch.name for patch in livepatch.patches()} == {ONE, "klp_test_cmdline_a"}


@pytest.mark.behaviour("KS-02")
def test_cumulative_patch_with_other_states(livepatch: Livepatch, kernel_log: KernelLog) -> None:
    """A cumulative patch that has states, but lacks one of those below, is EINVAL all the same."""
    livepatch.load(ONE, wait=True)
    kernel_log.mark()
    with pytest.raises(ModuleRefused) as refused:
        livepatch.load(TWO, lacks=True)
    assert refused.value.errno == errno.EINVAL
    assert _states(kernel_log) == []
    assert [patch.name for patch in livepatch.patches()] == [ONE]


@pytest.mark.behaviour("RP-07")
def test_replaced_patch_is_there_for_post_patch(
    livepatch: Livepatch, kernel_log: KernelLog
) -> None:
    """post_patch of the new patch finds the state of the replaced one (7e35e4eb)."""
    old = livepatch.load(ONE, wait=True)
    kernel_log.mark()
    livepatch.load(TWO, wait=True)
    (taken,) = kernel_log.matching(": state taken from=")
    assert taken.text.endswith("from=1 to=2 users=2")
    old.wait_gone()


@pytest.mark.behaviour("KS-03")
def test_state_of_an_id(livepatch: Livepatch, kernel_log: KernelLog) -> None:
    """klp_get_state() (kernel/livepatch/state.c) finds the state of an id that the patch has."""
    livepatch.load(ONE, ask=1, wait=True)
    assert kernel_log.matching("asked for 1: version=1")
    kernel_log.mark()
    livepatch.load(TWO, ask=7, wait=True)
    assert kernel_log.matching("asked for 7: none")
    assert kernel_log.matching("asked of no states: none")


@pytest.mark.behaviour("SV-07")
def test_state_of_the_patches_below(livepatch: Livepatch, kernel_log: KernelLog) -> None:
    """klp_get_prev_state() passes over patches that have no state, and that lack this one."""
    livepatch.load("klp_test_cmdline_a", wait=True)
    livepatch.load(ONE, replace=False, ask=1, wait=True)
    assert kernel_log.matching("asked below for 1: none")
    livepatch.load(TWO, replace=False, ask=7, wait=True)
    assert kernel_log.matching("asked below for 7: none")
    livepatch.load(THREE, replace=False, ask=1, wait=True)
    assert kernel_log.matching("asked below for 1: version=2")


@pytest.mark.behaviour("SV-06")
@pytest.mark.expect_splat("klp_get_prev_state")
def test_prev_state_without_a_transition(livepatch: Livepatch, kernel_log: KernelLog) -> None:
    """Without a transition klp_get_prev_state() warns and finds nothing, whoever has the state."""
    livepatch.load(ONE, wait=True)
    livepatch.load_target(ASKS)
    assert kernel_log.matching("prev state none")


@pytest.mark.behaviour("SV-06")
def test_prev_state_in_a_transition(
    livepatch: Livepatch, kernel_log: KernelLog, gate: Gates, tasks: Tasks
) -> None:
    """While a transition runs it finds the state, and does not warn."""
    livepatch.load(ONE, wait=True)
    sleeper = gate.enter()
    patch = livepatch.load("klp_test_gate")
    tasks.wait_all(PatchState.PATCHED, held_by=sleeper)
    livepatch.load_target(ASKS)
    assert kernel_log.matching("prev state version=1")
    sleeper.release()
    patch.wait_complete()


@pytest.mark.slow(9)
@pytest.mark.behaviour("SV-07")
def test_newest_state_below(livepatch: Livepatch, kernel_log: KernelLog) -> None:
    """With several patches of one state, the newest one below has it: not the oldest, none above.

    klp_get_prev_state() (kernel/livepatch/state.c) passes the patches in the order in which they
    were loaded, up to the one in transition.
    """
    one, two, three = (livepatch.load(name, replace=False, wait=True) for name in (ONE, TWO, THREE))
    found = [state for state in _states(kernel_log) if state.startswith("found ")]
    assert found == ["found version=1", "found version=2"]
    kernel_log.mark()
    two.disable()
    two.unload()
    assert _states(kernel_log) == ["restored version=2 users=3", "kept version=1"]
    kernel_log.mark()
    four = livepatch.load(FOUR, replace=False, wait=True)
    assert _states(kernel_log) == ["found version=3", "taken from=3 to=4 users=4"]
    kernel_log.mark()
    for patch in (four, three, one):
        patch.disable()
        patch.unload()
    last = [state for state in _states(kernel_log) if not state.startswith("restored ")]
    assert last == ["kept version=3", "kept version=1", "freed version=1"]
