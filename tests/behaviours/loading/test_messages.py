# SPDX-License-Identifier: GPL-2.0-only
"""What the core logs: whoever loads a livepatch finds there what happened to it, and why not."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import ModuleRefused
from harness.livepatch.kernel_log import KernelLog
from harness.livepatch.patch import Livepatch

if TYPE_CHECKING:
    from collections.abc import Callable

TARGET, UNTRACED = "klp_target_mod", "klp_target_notrace"
BOTH, SYMBOL, CALLBACKS = "klp_test_two_objects", "klp_test_symbol", "klp_test_callbacks_a"
REFUSES = -errno.ENODEV
REFUSED_TARGET = "patch '{patch}' failed for module '{target}', refusing to load module '{target}'"


@pytest.mark.behaviour("LD-15")
def test_each_step_is_logged(livepatch: Livepatch, kernel_log: KernelLog) -> None:
    """Enabled, transitions begun and completed, a target patched and unpatched: in this order."""
    target = livepatch.load_target(TARGET)
    patch = livepatch.load(BOTH, wait=True)
    target.unload()
    livepatch.load_target(TARGET)
    patch.disable()
    logged = [record.text for record in kernel_log.matching("^livepatch: ")]
    assert logged == [
        f"livepatch: enabling patch '{BOTH}'",
        f"livepatch: '{BOTH}': starting patching transition",
        f"livepatch: '{BOTH}': patching complete",
        f"livepatch: reverting patch '{BOTH}' on unloading module '{TARGET}'",
        f"livepatch: applying patch '{BOTH}' to loading module '{TARGET}'",
        f"livepatch: '{BOTH}': starting unpatching transition",
        f"livepatch: '{BOTH}': unpatching complete",
    ]


@pytest.mark.behaviour("LD-15")
def test_each_refusal_of_a_livepatch_is_logged(livepatch: Livepatch, kernel_log: KernelLog) -> None:
    """A callback refuses, for the kernel or a module; a function cannot be patched; a state."""
    livepatch.load_target(TARGET)
    livepatch.load_target(UNTRACED)

    def load(name: str, **params: Any) -> list[str]:
        return _logged(kernel_log, lambda: livepatch.load(name, **params))

    assert load(CALLBACKS, pre_patch_ret=REFUSES) == [
        f"enabling patch '{CALLBACKS}'",
        "pre-patch callback failed for object 'vmlinux'",
        f"failed to enable patch '{CALLBACKS}'",
        f"'{CALLBACKS}': unpatching complete",
    ]
    assert load(BOTH, pre_patch_ret_target=REFUSES)[1:3] == [
        f"pre-patch callback failed for object '{TARGET}'",
        f"failed to enable patch '{BOTH}'",
    ]
    assert load(SYMBOL, object=UNTRACED, function="klp_untraced")[-3:-1] == [
        f"failed to patch object '{UNTRACED}'",
        f"failed to enable patch '{SYMBOL}'",
    ]
    assert load("klp_test_incomplete", lacks="text") == [
        "kallsyms size lookup failed for 'cmdline_proc_show' replacement"
    ]
    livepatch.load("klp_test_state_2", wait=True)
    (line,) = load("klp_test_state_1")
    assert line.startswith("Livepatch patch (klp_test_state_1) is not compatible with ")


@pytest.mark.behaviour("LD-15")
def test_each_refusal_of_a_target_is_logged(livepatch: Livepatch, kernel_log: KernelLog) -> None:
    """A callback refuses, a function is not there, a function cannot be patched."""

    def load(target: str) -> list[str]:
        return _logged(kernel_log, lambda: livepatch.load_target(target))

    patch = livepatch.load(CALLBACKS, wait=True, pre_patch_ret_target=REFUSES)
    assert load(TARGET)[:3] == [
        f"applying patch '{patch.name}' to loading module '{TARGET}'",
        f"pre-patch callback failed for object '{TARGET}'",
        REFUSED_TARGET.format(patch=patch.name, target=TARGET),
    ]
    patch.disable()
    for function, why in (("klp_nobody", "initialize"), ("klp_untraced", "apply")):
        patch = livepatch.load(SYMBOL, wait=True, object=UNTRACED, function=function)
        words = "for" if why == "initialize" else "to"
        failed = f"failed to {why} patch '{SYMBOL}' {words} module '{UNTRACED}' (-{errno.EINVAL})"
        assert load(UNTRACED)[-2:] == [
            failed,
            REFUSED_TARGET.format(patch=SYMBOL, target=UNTRACED),
        ]
        patch.disable()
        patch.unload()


def _logged(kernel_log: KernelLog, load: Callable[[], object]) -> list[str]:
    """Return what the core logs of a load that is refused, without the prefix."""
    kernel_log.mark()
    with pytest.raises(ModuleRefused):
        load()
    return [
        record.text.removeprefix("livepatch: ") for record in kernel_log.matching("^livepatch: ")
    ]
