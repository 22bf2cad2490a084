# SPDX-License-Identifier: GPL-2.0-only
"""Loads and unloads that the kernel refuses, the errno, and that nothing remains."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import ModuleRefused
from harness.livepatch.gates import Gates
from harness.livepatch.kernel_log import KernelLog
from harness.livepatch.patch import Livepatch
from harness.livepatch.tasks import PatchState, Tasks

if TYPE_CHECKING:
    from harness.vm.guest.machine import Machine
    from tests.behaviours.conftest import Guestview

SYMBOL = "klp_test_symbol"
TWINS = "klp_target_twins"
_NOT_FOUND = "symbol '{}' not found in symbol table"
_NO_POSITION = r"symbol position \d+ for symbol '{}' in object '\w+' not found"
DYNAMIC_DEBUG = "/sys/kernel/debug/dynamic_debug/control"


@pytest.mark.behaviour("LD-01")
@pytest.mark.parametrize(
    ("params", "why"),
    [
        ({"function": "klp_there_is_no_such_function"}, _NOT_FOUND),
        ({"function": "cmdline_proc_show", "sympos": 2}, _NO_POSITION),
        ({"object": TWINS, "function": "klp_twin"}, "unresolvable ambiguity for symbol '{}'"),
        ({"object": TWINS, "function": "klp_twin", "sympos": 4}, _NO_POSITION),
        ({"object": TWINS, "function": "klp_nobody"}, _NOT_FOUND),
    ],
    ids=[
        "unknown",
        "second-of-one",
        "ambiguous",
        "sympos-out-of-range",
        "unknown-in-module",
    ],
)
def test_symbol_that_cannot_be_found(
    livepatch: Livepatch, view: Guestview, kernel_log: KernelLog, params: dict[str, Any], why: str
) -> None:
    """Unknown, ambiguous, out of range: EINVAL, the log says which, and nothing remains."""
    livepatch.load_target(TWINS)
    with pytest.raises(ModuleRefused) as refused:
        livepatch.load(SYMBOL, **params)
    assert refused.value.errno == errno.EINVAL
    assert kernel_log.matching(why.format(params["function"]))
    _nothing_remains(livepatch, view, SYMBOL)


@pytest.mark.behaviour("LD-01")
@pytest.mark.parametrize(
    ("sympos", "texts"),
    [
        (1, (SYMBOL, "second", "third")),
        (2, ("first", SYMBOL, "third")),
        (3, ("first", "second", SYMBOL)),
    ],
    ids=["first", "second", "third"],
)
def test_sympos_picks_one_of_three(
    guest: Machine, livepatch: Livepatch, sympos: int, texts: tuple[str, ...]
) -> None:
    """sympos selects one of three functions of the same name (b2b018ef)."""
    livepatch.load_target(TWINS)
    livepatch.load(SYMBOL, wait=True, object=TWINS, function="klp_twin", sympos=sympos)
    names = ("first", "second", "third")
    seen = tuple(guest.read(f"/sys/kernel/klp_twins/{name}") for name in names)
    for text, expected in zip(seen, texts, strict=True):
        assert expected in text


@pytest.mark.behaviour("LD-01")
def test_same_name_in_another_module(
    livepatch: Livepatch, view: Guestview, kernel_log: KernelLog
) -> None:
    """A function is looked for in its object only, whatever another module has of that name."""
    livepatch.load_target("klp_target_mod")
    namesake = livepatch.load_target("klp_target_namesake")
    patch = livepatch.load("klp_test_target_f", wait=True)
    assert view.target("f") == patch.name
    namesake.unload()
    assert kernel_log.matching(r"klp_target_f\(\) returned namesake")


@pytest.mark.behaviour("LD-02")
def test_function_that_cannot_be_traced(
    guest: Machine, livepatch: Livepatch, view: Guestview, kernel_log: KernelLog
) -> None:
    """An untraceable function: EINVAL, with a line in the log; what was patched is undone."""
    livepatch.load_target("klp_target_notrace")
    with pytest.raises(ModuleRefused) as refused:
        livepatch.load(
            SYMBOL,
            object="klp_target_notrace",
            function="klp_untraced",
            function2="klp_traced",
        )
    assert refused.value.errno == errno.EINVAL
    assert kernel_log.matching(
        "failed to (find location|set ftrace filter) for function 'klp_untraced'"
    )
    assert SYMBOL not in guest.read("/sys/kernel/klp_notrace/traced")
    assert "klp_traced" not in view.enabled_functions()
    _nothing_remains(livepatch, view, SYMBOL)


@pytest.mark.behaviour("LD-04")
def test_load_during_a_transition(
    livepatch: Livepatch, tasks: Tasks, gate: Gates, view: Guestview
) -> None:
    """Loading a patch while another one is in transition is EBUSY; afterwards it loads."""
    sleeper = gate.enter()
    blocked = livepatch.load("klp_test_gate")
    tasks.wait_all(PatchState.PATCHED, held_by=sleeper)
    with pytest.raises(ModuleRefused) as refused:
        livepatch.load("klp_test_cmdline_a")
    assert refused.value.errno == errno.EBUSY
    assert view.cmdline() == "original"
    assert not livepatch.patch("klp_test_cmdline_a").exists
    sleeper.release()
    blocked.wait_complete()
    livepatch.load("klp_test_cmdline_a", wait=True)
    assert view.cmdline() == "klp_test_cmdline_a"


@pytest.mark.behaviour("LD-05")
def test_enabled_patch_is_not_removed(livepatch: Livepatch, view: Guestview) -> None:
    """rmmod of an enabled patch is EBUSY; its refcount is 1 while enabled, then 0 (3ec24776)."""
    patch = livepatch.load("klp_test_cmdline_a", wait=True)
    module = livepatch.module(patch.name)
    assert module.refcount == 1
    with pytest.raises(ModuleRefused) as refused:
        module.unload()
    # delete_module(2) with O_NONBLOCK says EWOULDBLOCK for a module in use (kernel/module/main.c).
    assert refused.value.errno in {errno.EBUSY, errno.EWOULDBLOCK}
    assert view.cmdline() == patch.name
    patch.disable()
    patch.wait_gone()
    assert module.wait_unused()
    assert module.refcount == 0
    module.unload()
    assert not module.loaded


@pytest.mark.behaviour("LD-06")
@pytest.mark.parametrize(
    ("module", "params", "number"),
    [
        ("klp_test_callbacks_a", {"pre_patch_ret": -errno.ENODEV}, errno.ENODEV),
        (SYMBOL, {"function": "klp_there_is_no_such_function"}, errno.EINVAL),
        ("klp_test_notlivepatch", {}, errno.EINVAL),
        ("klp_test_two_objects", {"pre_patch_ret_target": -errno.ENODEV}, errno.ENODEV),
    ],
    ids=["callback", "symbol", "no-livepatch", "second-object"],
)
def test_failed_enable_leaves_nothing(
    livepatch: Livepatch,
    view: Guestview,
    tasks: Tasks,
    module: str,
    params: dict[str, Any],
    number: int,
) -> None:
    """A failed enable leaves nothing in sysfs, nothing patched, and no module (e679af62)."""
    livepatch.guest.write(DYNAMIC_DEBUG, "file kernel/livepatch/transition.c +p\n")
    livepatch.load_target("klp_target_mod")
    before = view.enabled_functions()
    with pytest.raises(ModuleRefused) as refused:
        livepatch.load(module, **params)
    assert refused.value.errno == number
    _nothing_remains(livepatch, view, module)
    assert view.enabled_functions() == before
    assert (view.cmdline(), view.target("f")) == ("original", "original")
    assert tasks.states() == {PatchState.UNDEFINED}
    livepatch.load("klp_test_cmdline_a", wait=True)
    assert view.cmdline() == "klp_test_cmdline_a"


def _nothing_remains(livepatch: Livepatch, view: Guestview, name: str) -> None:
    assert livepatch.patches() == []
    assert name not in view.modules()
