# SPDX-License-Identifier: GPL-2.0-only
"""The relocations of a livepatch whose own callback refuses the target.

klp_module_coming() (kernel/livepatch/core.c) writes the livepatch's relocations for the target, and
calls pre_patch after that. When pre_patch refuses, klp_cleanup_module_patches_limited() clears the
relocations of the patches before the one that failed, and not those of that one. At the next load
of the target apply_relocate_add() finds values where it expects zeros.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from harness.errors import HarnessError, ModuleRefused, RaceShown
from harness.tools.race.reproducer import reproducer
from harness.vm.elf.livepatch_relocation import LivepatchRelocation, with_livepatch_relocation
from harness.vm.host.temporary import temporary_folder

if TYPE_CHECKING:
    from harness.tools.race.trial_context import TrialContext

TARGET, PATCH = "klp_target_mod", "klp_test_relocation"
REFUSAL = errno.ENODEV
RELOCATION = LivepatchRelocation(
    section=".klp_hidden",
    symbol="klp_hidden_function",
    object=TARGET,
    stands_for="klp_target_g",
)
# A kernel without it (before 0c05e7bd) never clears relocations, also not at an unload.
CLEARS = "clear_relocate_add"


@reproducer("refused-target-relocations", rule="MO-10", functions=(CLEARS,))
def refused_target_relocations(context: TrialContext) -> None:
    """A livepatch refuses its target once; then the target cannot be loaded any more."""
    livepatch = context.livepatch
    with temporary_folder("relocations") as folder:
        module = folder / f"{PATCH}.ko"
        plain = context.modules[PATCH].read_bytes()
        module.write_bytes(with_livepatch_relocation(plain, RELOCATION))
        patch = livepatch.load(module, wait=True, pre_patch_ret=-REFUSAL)
    try:
        livepatch.load_target(TARGET)
    except ModuleRefused as refused:
        if refused.errno != REFUSAL:
            raise
    else:
        raise HarnessError(f"{TARGET} was loaded, though {PATCH} refuses it")
    context.guest.write(f"/sys/module/{PATCH}/parameters/pre_patch_ret", "0")
    try:
        target = livepatch.load_target(TARGET)
    except ModuleRefused as refused:
        raise RaceShown(
            f"{TARGET}, which {PATCH} refused once, cannot be loaded any more: {refused.message}",
            details=refused.details,
        ) from refused
    answer = context.guest.read("/sys/kernel/klp_target/f")
    if answer != "g original\n":
        raise RaceShown(f"{TARGET} was loaded at the second try, and f answers {answer.strip()}")
    target.unload()
    patch.disable()
    patch.unload()
