# SPDX-License-Identifier: GPL-2.0-only
"""Livepatch beside other users of ftrace."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from harness.errors import ModuleRefused
from harness.livepatch.patch import Livepatch

if TYPE_CHECKING:
    from harness.vm.guest.machine import Machine
    from tests.behaviours.conftest import Guestview

ENABLED = "/proc/sys/kernel/ftrace_enabled"
TRACING = "/sys/kernel/tracing"
PATCH = "klp_test_cmdline_a"
FUNCTION = "cmdline_proc_show"


@pytest.mark.behaviour("FT-01")
def test_ftrace_switched_off(guest: Machine, livepatch: Livepatch, view: Guestview) -> None:
    """With ftrace_enabled=0 a load is EBUSY; with a patch, ftrace cannot be switched off."""
    guest.write(ENABLED, "0\n")
    with pytest.raises(ModuleRefused) as refused:
        livepatch.load(PATCH)
    assert refused.value.errno == errno.EBUSY
    assert view.cmdline() == "original"
    guest.write(ENABLED, "1\n")
    livepatch.load(PATCH, wait=True)
    with pytest.raises(OSError, match="ftrace_enabled") as kept:
        guest.write(ENABLED, "0\n")
    assert kept.value.errno == errno.EBUSY
    assert guest.read(ENABLED) == "1\n"
    assert view.cmdline() == PATCH


@pytest.mark.behaviour("FT-02")
@pytest.mark.parametrize("tracer", ["function", "function_graph"])
def test_tracing_a_patched_function(
    guest: Machine, livepatch: Livepatch, view: Guestview, tracer: str
) -> None:
    """A patched function can be traced and a traced one patched: trace and patch both work.

    The graph tracer traces patched functions since it uses ftrace_graph_func() (0c0593b4). Before,
    it does not, and the patch works.
    """
    has_hook = guest.run(["grep", "-qwF", "ftrace_graph_func", "/proc/kallsyms"]).ok
    is_traced = has_hook or tracer == "function"
    patch = livepatch.load(PATCH, wait=True)
    guest.write(f"{TRACING}/set_ftrace_filter", FUNCTION)
    guest.write(f"{TRACING}/current_tracer", tracer)
    assert view.cmdline() == PATCH
    assert (FUNCTION in guest.read(f"{TRACING}/trace")) is is_traced
    patch.disable()
    patch.unload()
    guest.write(f"{TRACING}/tracing_on", "0")
    guest.write(f"{TRACING}/current_tracer", "nop")
    guest.write(f"{TRACING}/current_tracer", tracer)
    guest.write(f"{TRACING}/tracing_on", "1")
    livepatch.load(PATCH, wait=True)
    assert view.cmdline() == PATCH
    assert (FUNCTION in guest.read(f"{TRACING}/trace")) is is_traced
