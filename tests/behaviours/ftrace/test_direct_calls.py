# SPDX-License-Identifier: GPL-2.0-only
"""Direct calls of ftrace, which BPF trampolines use, and a livepatch of the same function."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from harness.errors import ModuleRefused
from harness.livepatch.patch import Livepatch

if TYPE_CHECKING:
    from harness.livepatch.modules import Module
    from harness.livepatch.patch import Patch
    from harness.vm.guest.machine import Machine

TARGET, PATCH = "klp_target_direct", "klp_test_symbol"
ORIGINAL = "original"
DIRECT = "/sys/kernel/klp_direct"

pytestmark = pytest.mark.needs("CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS")


class Function:
    """A function that can have a direct call: livepatch-modules/klp_target_direct.c."""

    def __init__(self, guest: Machine, module: Module) -> None:
        self._guest = guest
        self._module = module

    @property
    def can_share(self) -> bool:
        """Whether the kernel lets a direct call and a livepatch share it (6.0 and later)."""
        return self._module.parameter("shares") == "Y"

    def number(self, name: str) -> int:
        """Return how often a trampoline ran, or how often ftrace has asked."""
        return int(self._guest.read(f"{DIRECT}/{name}"))

    def set_call(self, name: str) -> None:
        """Let it first call that trampoline: "first", "second", "none". Raises OSError."""
        self._guest.write(f"{DIRECT}/call", f"{name}\n")

    def run(self) -> tuple[str, list[str]]:
        """Call it; return its text, and the trampolines that ran."""
        before = {name: self.number(name) for name in ("first", "second")}
        text = self._guest.read(f"{DIRECT}/text").strip()
        return text, [name for name, number in before.items() if self.number(name) == number + 1]


@pytest.fixture
def function(guest: Machine, livepatch: Livepatch) -> Function:
    """The function, without a direct call."""
    return Function(guest, livepatch.load_target(TARGET))


def load(livepatch: Livepatch) -> Patch:
    """Livepatch the function."""
    return livepatch.load(PATCH, wait=True, object=TARGET, function="klp_direct_text")


@pytest.mark.behaviour("FT-08")
def test_call_of_a_patched_function(livepatch: Livepatch, function: Function) -> None:
    """A patched function gets a direct call, another one, and none: the new body runs throughout.

    A kernel where they cannot share a function refuses the call with EBUSY.
    """
    patch = load(livepatch)
    if not function.can_share:
        with pytest.raises(OSError, match="call") as refused:
            function.set_call("first")
        assert refused.value.errno == errno.EBUSY
        assert function.run() == (PATCH, [])
        return
    function.set_call("first")
    assert function.run() == (PATCH, ["first"])
    asked = function.number("asked")
    function.set_call("second")
    assert function.run() == (PATCH, ["second"])
    assert function.number("asked") > asked, "ftrace has not asked for the modified call"
    function.set_call("none")
    assert function.run() == (PATCH, [])
    patch.disable()
    patch.unload()
    assert function.run() == (ORIGINAL, [])


@pytest.mark.behaviour("FT-08")
def test_patch_of_a_called_function(livepatch: Livepatch, function: Function) -> None:
    """A function with a direct call is patched: call and new body run, and the call survives.

    A kernel where they cannot share a function refuses the patch with EBUSY.
    """
    function.set_call("first")
    assert function.run() == (ORIGINAL, ["first"])
    if not function.can_share:
        with pytest.raises(ModuleRefused) as refused:
            load(livepatch)
        assert refused.value.errno == errno.EBUSY
        assert function.run() == (ORIGINAL, ["first"])
        return
    patch = load(livepatch)
    assert function.run() == (PATCH, ["first"])
    function.set_call("second")
    assert function.run() == (PATCH, ["second"])
    patch.disable()
    patch.unload()
    assert function.run() == (ORIGINAL, ["second"])
    function.set_call("none")
    assert function.run() == (ORIGINAL, [])


@pytest.mark.behaviour("FT-08")
def test_call_that_is_made_again(guest: Machine, livepatch: Livepatch, function: Function) -> None:
    """The owner of the call wants it made again (EAGAIN), as BPF does: the second time it works."""
    if not function.can_share:
        pytest.skip("the kernel does not ask the owner of a direct call")
    load(livepatch)
    guest.write(f"/sys/module/{TARGET}/parameters/again", "1\n")
    with pytest.raises(OSError, match="call") as refused:
        function.set_call("first")
    assert refused.value.errno == errno.EAGAIN
    assert function.run() == (PATCH, [])
    function.set_call("first")
    assert function.run() == (PATCH, ["first"])
