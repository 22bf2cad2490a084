# SPDX-License-Identifier: GPL-2.0-only
"""Sections that the kernel patches, sorts or registers, in a livepatch and in its target."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.livepatch.kernel_log import KernelLog
from harness.livepatch.patch import Livepatch

if TYPE_CHECKING:
    from harness.vm.guest.machine import Machine
    from harness.vm.kernel.kernel import Kernel

TARGET, PATCH = "klp_target_special", "klp_test_special"
USE, ON = "/sys/kernel/klp_special/use", "/sys/kernel/klp_special/on"
DEFAULT_ON = "INIT_ON_ALLOC_DEFAULT_ON"
FIRST = "key=off vmlinux=off call=1 trace=0 alternative=2 table=7"
SWITCHED = "key=on vmlinux=off call=2 trace=1 alternative=2 table=7"
WARNING = "warning of a special section"


@pytest.mark.behaviour("MO-13")
@pytest.mark.parametrize("coming", [False, True], ids=["target-first", "patch-first"])
def test_special_sections(
    guest: Machine, kernel: Kernel, livepatch: Livepatch, kernel_log: KernelLog, coming: bool
) -> None:
    """They work from pre_patch on, in the patch and in the target, whichever is loaded first.

    A target that is loaded later is patched by klp_module_coming() (kernel/module/), which runs
    before the notifiers that register its static keys, static calls and tracepoints.
    """
    is_on = kernel.config.enabled(DEFAULT_ON)
    first, switched = (
        text.replace("vmlinux=off", "vmlinux=on") if is_on else text for text in (FIRST, SWITCHED)
    )
    if not coming:
        livepatch.load_target(TARGET)
    patch = livepatch.load(PATCH, wait=True)
    if coming:
        target = livepatch.load_target(TARGET)
    assert _logged(kernel_log, "target") == [first]
    assert _logged(kernel_log, "patch") == [switched]
    assert _logged(kernel_log, "init") == [switched if coming else first]
    assert guest.read(USE).strip() == switched
    guest.write(ON, "1")
    patch.disable()
    patch.unload()
    assert guest.read(USE).strip() == switched, "those of the target"
    guest.write(ON, "0")
    assert guest.read(USE).strip() == first
    if coming:
        target.unload()


@pytest.mark.behaviour("MO-13")
@pytest.mark.expect_splat(WARNING)
def test_warning_of_a_coming_target(livepatch: Livepatch, kernel_log: KernelLog) -> None:
    """A WARN() is found, and is no invalid opcode: in pre_patch, of target and patch, and later."""
    livepatch.load(PATCH, wait=True, warn=True)
    livepatch.load_target(TARGET, warn=True)
    # In pre_patch the original and the patch's own, and the new body in the target's init.
    assert len(kernel_log.matching(WARNING)) == 3


@pytest.mark.slow(7)
@pytest.mark.kernel_args("init_on_alloc=1")
@pytest.mark.behaviour("MO-13")
def test_key_of_vmlinux_in_a_coming_target(
    guest: Machine, kernel: Kernel, livepatch: Livepatch, kernel_log: KernelLog
) -> None:
    """In pre_patch, the text of a coming target does not know yet which keys of others are on.

    With JUMP_LABEL it has the value that the key was compiled with, mostly off, until the notifier
    of kernel/jump_label.c runs; from the target's init on, and in the patch, it has the right one.
    """
    livepatch.load(PATCH, wait=True)
    livepatch.load_target(TARGET)
    on = "vmlinux=on"
    is_late = kernel.config.enabled("JUMP_LABEL") and not kernel.config.enabled(DEFAULT_ON)
    late = "vmlinux=off" if is_late else on
    assert [late in text for text in _logged(kernel_log, "target")] == [True]
    assert [on in text for text in _logged(kernel_log, "patch")] == [True]
    assert [on in text for text in _logged(kernel_log, "init")] == [True]
    livepatch.patch(PATCH).disable()
    livepatch.patch(PATCH).unload()
    assert on in guest.read(USE)


def _logged(kernel_log: KernelLog, which: str) -> list[str]:
    records = kernel_log.matching(f"special: {which} ")
    return [record.text.partition(f": {which} ")[2].strip() for record in records]
