# SPDX-License-Identifier: GPL-2.0-only
"""Each call that the core makes to load a livepatch, or to patch a target, fails once."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from harness.errors import ModuleRefused
from harness.livepatch.kernel_log import KernelLog
from harness.livepatch.patch import Livepatch
from harness.livepatch.tasks import PatchState, Tasks
from tests.behaviours.slab_objects import EXACTLY, left_in_use, objects_in_use

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.vm.guest.machine import Machine
    from tests.behaviours.conftest import Guestview

FAIL, BELOW, TARGET = "klp_test_fail", "klp_test_two_objects", "klp_target_mod"
# Of BELOW the first has one object, the other one the function, and another one beside it.
CMDLINE, FUNCTIONS = "klp_test_cmdline_b", "klp_test_target_fg"
AT = f"/sys/module/{FAIL}/parameters"
MOST = 60
ROUNDS = 24


@dataclass(frozen=True, kw_only=True)
class Call:
    """A function that the core calls, by its names on all kernels, and how it fails.

    ``errnos`` is what the load is refused with. Only calls from functions count whose names begin
    with ``caller``; where the compiler made that a part of another, ``inlined_in``. ``patch`` is
    the one that is loaded, ``logged`` what the log says each time, if anything.
    """

    names: tuple[str, ...]
    value: int
    errnos: frozenset[int]
    caller: str = "klp_"
    inlined_in: str | None = None
    patch: str = FUNCTIONS
    logged: str | None = None


KMALLOC = ("__kmalloc_cache_noprof", "kmalloc_trace", "kmem_cache_alloc_trace")
CALLS = {
    "memory": Call(
        names=KMALLOC,
        value=0,
        errnos=frozenset({errno.ENOMEM}),
    ),
    # What the loader of modules keeps for the core's relocations.
    "elf": Call(
        names=KMALLOC,
        value=0,
        errnos=frozenset({errno.ENOMEM}),
        caller="copy_module_elf",
        inlined_in="load_module",
    ),
    "elf-tables": Call(
        names=("kmemdup_noprof", "kmemdup"),
        value=0,
        errnos=frozenset({errno.ENOMEM}),
        caller="copy_module_elf",
        inlined_in="load_module",
    ),
    "name": Call(
        names=("kstrdup_noprof", "kstrdup"),
        value=0,
        errnos=frozenset({errno.ENOMEM}),
        patch=CMDLINE,
    ),
    "sysfs": Call(names=("kobject_add",), value=-errno.ENOMEM, errnos=frozenset({errno.ENOMEM})),
    "filter": Call(
        names=("ftrace_set_filter_ip",),
        value=-errno.ENOMEM,
        errnos=frozenset({errno.ENOMEM, errno.EINVAL}),
        # The kernel warns where it removes one in vain.
        caller="klp_patch_",
        logged="failed to set ftrace filter for function",
    ),
    "register": Call(
        names=("register_ftrace_function",),
        value=-errno.ENOMEM,
        errnos=frozenset({errno.ENOMEM, errno.EINVAL}),
        logged="failed to register ftrace handler for function",
    ),
    "size": Call(
        names=("kallsyms_lookup_size_offset",),
        value=0,
        errnos=frozenset({errno.ENOENT}),
        logged="kallsyms size lookup failed for",
    ),
    "reference": Call(
        names=("try_module_get",), value=0, errnos=frozenset({errno.ENODEV, errno.EINVAL})
    ),
}


def fail_each(livepatch: Livepatch, view: Guestview, call: Call) -> Failing:
    """Load the module by which calls of a function fail."""
    symbol = next((name for name in call.names if view.has_function(name)), None)
    if symbol is None:
        pytest.skip(f"the kernel has none of {', '.join(call.names)}")
    caller = call.caller
    if call.inlined_in is not None and not view.has_function(caller):
        caller = call.inlined_in
    livepatch.load_target(FAIL, symbol=symbol, caller=caller, value=call.value)
    return Failing(livepatch)


def errno_of(load: Callable[[], object]) -> int | None:
    """Return what a load is refused with; None when it is not."""
    try:
        load()
    except ModuleRefused as refused:
        return refused.errno
    return None


class Failing:
    """Lets one call fail after the other."""

    def __init__(self, livepatch: Livepatch) -> None:
        self._guest = livepatch.guest

    def arm(self, nth: int) -> None:
        """Let the call of that number fail; 0: none."""
        self._guest.write(f"{AT}/nth", f"{nth}\n")

    @property
    def failed(self) -> bool:
        """Whether there was such a call since."""
        return int(self._guest.read(f"{AT}/failed")) > 0


@pytest.mark.slow(12)
@pytest.mark.needs("CONFIG_KPROBES_ON_FTRACE")
@pytest.mark.behaviour("LD-11")
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_each_call_of_a_load_fails(
    livepatch: Livepatch, view: Guestview, tasks: Tasks, kernel_log: KernelLog, call: Call
) -> None:
    """An atomic replace is refused, the patch below stays as it was, and the next load works."""
    livepatch.load_target(TARGET)
    livepatch.load(BELOW, wait=True)
    failing = fail_each(livepatch, view, call)
    before = (view.cmdline(), view.target("f"), view.enabled_functions())
    for nth in range(1, MOST):
        failing.arm(nth)
        kernel_log.mark()
        number = errno_of(lambda: livepatch.load(call.patch, wait=True, replace=True))
        if number is None:
            break
        assert failing.failed
        assert number in call.errnos
        assert call.logged is None or kernel_log.matching(call.logged)
        assert [patch.name for patch in livepatch.patches()] == [BELOW]
        assert call.patch not in view.modules()
        assert (view.cmdline(), view.target("f"), view.enabled_functions()) == before
        assert tasks.states() == {PatchState.UNDEFINED}
    assert not failing.failed, "the load does not fail though a call has"
    assert nth > 1, "the core does not call it"
    bodies = (CMDLINE, "original") if call.patch == CMDLINE else ("original", FUNCTIONS)
    assert (view.cmdline(), view.target("f")) == bodies
    assert [patch.name for patch in livepatch.patches()] == [call.patch]


@pytest.mark.slow(5)
@pytest.mark.needs("CONFIG_KPROBES_ON_FTRACE")
@pytest.mark.behaviour("MO-15")
@pytest.mark.parametrize("name", ["filter", "register", "memory", "size"])
def test_each_call_for_a_target_fails(
    livepatch: Livepatch, view: Guestview, kernel_log: KernelLog, name: str
) -> None:
    """A target that cannot be patched is refused; the patch stays, and the next load works."""
    patch = livepatch.load(BELOW, wait=True)
    call = CALLS[name]
    failing = fail_each(livepatch, view, call)
    for nth in range(1, MOST):
        failing.arm(nth)
        kernel_log.mark()
        number = errno_of(lambda: livepatch.load_target(TARGET))
        if number is None:
            break
        assert failing.failed
        assert number in call.errnos
        assert call.logged is None or kernel_log.matching(call.logged)
        assert TARGET not in view.modules()
        assert patch.enabled
        assert view.shows_patched(patch.object(TARGET), patched=False)
        assert view.cmdline() == BELOW
    assert not failing.failed, "the target loads though a call has failed"
    assert nth > 1, "the core does not call it"
    assert view.target("f") == BELOW


@pytest.mark.slow(20)
@pytest.mark.needs("CONFIG_KPROBES_ON_FTRACE")
@pytest.mark.kernel_args(*EXACTLY)
@pytest.mark.behaviour("LD-14")
@pytest.mark.parametrize("name", ["name", "register", "elf-tables"])
def test_nothing_is_left_of_loads_that_fail(
    guest: Machine, livepatch: Livepatch, view: Guestview, name: str
) -> None:
    """What a load has allocated before one of its calls fails is freed; each fails often."""
    livepatch.load_target(TARGET)
    livepatch.load(BELOW, wait=True)
    call = CALLS[name]
    failing = fail_each(livepatch, view, call)

    nth = 0
    refused: int | None = 0
    while refused is not None:
        nth += 1
        assert nth < MOST
        failing.arm(nth)
        refused = errno_of(lambda: livepatch.load(call.patch, wait=True, replace=True))
    patch = livepatch.patch(call.patch)
    patch.disable()
    patch.unload()
    livepatch.module(BELOW).unload()
    failing.arm(0)
    livepatch.load(BELOW, wait=True)
    before = objects_in_use(guest)
    for _ in range(ROUNDS):
        for number in range(1, nth):
            failing.arm(number)
            assert errno_of(lambda: livepatch.load(call.patch, replace=True)) is not None
    assert left_in_use(guest, before, fewer_than=ROUNDS * 2 // 3) == {}
