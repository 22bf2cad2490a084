# SPDX-License-Identifier: GPL-2.0-only
"""Livepatches beside kprobes of the same function (kernel/kprobes.c, kernel/trace/ftrace.c).

A kprobe with a post_handler needs FTRACE_OPS_FL_IPMODIFY, and so does a livepatch (0bc11ed5).
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from harness.errors import ModuleRefused
from harness.livepatch.gates import Body, Gates
from harness.livepatch.modules import Module
from harness.livepatch.patch import Livepatch
from harness.livepatch.tasks import PatchState, Tasks
from harness.tools.race.reproducer import run_steps
from harness.tools.race.reproducers.kretprobe import kretprobe_woken

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from harness.vm.guest.machine import Machine
    from tests.behaviours.conftest import Guestview

PATCH, FUNCTION = "klp_test_cmdline_a", "cmdline_proc_show"
KPROBE = "klp_test_kprobe"
TRACING = "/sys/kernel/tracing"
ROUNDS = 2

pytestmark = pytest.mark.needs("CONFIG_KPROBES_ON_FTRACE")


def _hits(probe: Module) -> tuple[int, int]:
    """Return how often the probe's two handlers have run."""
    return int(probe.parameter("hits")), int(probe.parameter("post_hits"))


def _refusal(livepatch: Livepatch) -> int | None:
    """Load a kprobe with a post_handler; return the errno of its refusal, None when it loads."""
    try:
        livepatch.load_target(KPROBE, symbol=FUNCTION, post=True)
    except ModuleRefused as refused:
        return refused.errno
    return None


@pytest.mark.behaviour("FT-03")
def test_probe_with_post_handler_comes_first(livepatch: Livepatch, view: Guestview) -> None:
    """Beside a kprobe with a post_handler the load is EBUSY; it loads when that is unloaded."""
    probe = livepatch.load_target(KPROBE, symbol=FUNCTION, post=True)
    with pytest.raises(ModuleRefused) as refused:
        livepatch.load(PATCH)
    assert refused.value.errno == errno.EBUSY
    assert livepatch.patches() == []
    assert PATCH not in view.modules()
    assert view.cmdline() == "original"
    assert _hits(probe) == (1, 1), "the probe does not work any more"
    probe.unload()
    livepatch.load(PATCH, wait=True)
    assert view.cmdline() == PATCH


@pytest.mark.behaviour("FT-03")
@pytest.mark.parametrize("probe_first", [True, False], ids=["probe-first", "patch-first"])
def test_probe_without_post_handler(
    livepatch: Livepatch, view: Guestview, probe_first: bool
) -> None:
    """A kprobe without a post_handler and a patch of the same function both work."""
    if probe_first:
        probe = livepatch.load_target(KPROBE, symbol=FUNCTION)
        patch = livepatch.load(PATCH, wait=True)
    else:
        patch = livepatch.load(PATCH, wait=True)
        probe = livepatch.load_target(KPROBE, symbol=FUNCTION)
    for calls in (1, 2):
        assert view.cmdline() == PATCH
        assert _hits(probe) == (calls, 0)
    patch.disable()
    patch.unload()
    assert view.cmdline() == "original"
    assert _hits(probe) == (3, 0)
    probe.unload()
    assert FUNCTION not in view.enabled_functions()


@pytest.mark.behaviour("FT-04")
def test_probe_with_post_handler_comes_second(livepatch: Livepatch, view: Guestview) -> None:
    """A kprobe with a post_handler on a patched function does not disturb the patch.

    register_kprobe() fails with EBUSY, or it succeeds and the probe is not armed: then no handler
    runs. __register_kprobe() (kernel/kprobes.c) of 7.2 drops the error of arm_kprobe().
    """
    patch = livepatch.load(PATCH, wait=True)
    refusal = _refusal(livepatch)
    assert view.cmdline() == PATCH
    if refusal is None:
        probe = livepatch.module(KPROBE)
        assert _hits(probe) == (0, 0)
        probe.unload()
    assert refusal in {None, errno.EBUSY}
    assert KPROBE not in view.modules()
    patch.disable()
    patch.unload()
    assert view.cmdline() == "original"
    probe = livepatch.load_target(KPROBE, symbol=FUNCTION, post=True)
    assert view.cmdline() == "original"
    assert _hits(probe) == (1, 1)


@pytest.mark.slow(13)
@pytest.mark.behaviour("FT-05")
def test_toggled_during_transitions(
    guest: Machine, livepatch: Livepatch, tasks: Tasks, gate: Gates
) -> None:
    """Tracers and kprobes that are set and removed during transitions do not undo a patch.

    A sleeper holds the transition, in either direction, meanwhile. All of them are on the patched
    function, so they share its ftrace hook.
    """
    function = "klp_gate_wait"
    guest.write(f"{TRACING}/set_ftrace_filter", function)

    def toggle(expected: Body) -> None:
        for tracer in ("function", "function_graph", "nop"):
            guest.write(f"{TRACING}/current_tracer", tracer)
            assert gate.call(1).body is expected, tracer
        probe = livepatch.load_target(KPROBE, symbol=function)
        assert gate.call(1).body is expected
        assert _hits(probe) == (1, 0)
        guest.write(f"{TRACING}/current_tracer", "function")
        assert gate.call(1).body is expected
        assert function in guest.read(f"{TRACING}/trace")
        probe.unload()
        assert gate.call(1).body is expected
        guest.write(f"{TRACING}/current_tracer", "nop")
        assert gate.call(1).body is expected

    for _ in range(ROUNDS):
        sleeper = gate.enter()
        patch = livepatch.load("klp_test_gate")
        tasks.wait_all(PatchState.PATCHED, held_by=sleeper)
        toggle(Body.PATCHED)
        assert patch.in_transition
        assert sleeper.release().body is Body.ORIGINAL
        patch.wait_complete()
        toggle(Body.PATCHED)
        sleeper = gate.enter()
        patch.disable(wait=False)
        tasks.wait_all(PatchState.UNPATCHED, held_by=sleeper)
        toggle(Body.ORIGINAL)
        assert patch.in_transition
        assert sleeper.release().body is Body.PATCHED
        patch.unload()
        toggle(Body.ORIGINAL)


@pytest.mark.needs("CONFIG_DYNAMIC_DEBUG")
@pytest.mark.behaviour("FT-06")
def test_woken_under_a_kretprobe(guest: Machine, sample_modules: Mapping[str, Path]) -> None:
    """The kernel does not warn of a task that was woken under a kretprobe a moment ago."""
    run_steps(kretprobe_woken, guest, modules=sample_modules)
