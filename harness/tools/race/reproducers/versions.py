# SPDX-License-Identifier: GPL-2.0-only
"""One call of two patched functions, of which both have to be old or both new."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.errors import HarnessError, RaceShown
from harness.livepatch.waiting import QUICK_S, scaled

if TYPE_CHECKING:
    from harness.tools.race.trial_context import TrialContext
    from harness.vm.guest.spawned import SpawnedProcess


def next_versions(context: TrialContext, caller: SpawnedProcess) -> tuple[str, str]:
    """Return which version of the outer and of the inner function a call ran."""
    _, outer, _, inner = caller.next_line(scaled(context.guest, QUICK_S)).split()
    return outer, inner


def expect_one_version(
    versions: tuple[str, str], *, who: str, where: str, functions: tuple[str, str], held: bool
) -> None:
    """Raise RaceShown when ``who`` ran one version of the outer function and another of the inner.

    ``held`` says whether the task still had its old patch state; when it had not, and ran one
    version all the same, nothing was tried: HarnessError.
    """
    outer, inner = versions
    if outer != inner:
        raise RaceShown(
            f"{who} was switched while it {where}: the {outer} {functions[0]}() called the {inner} "
            f"{functions[1]}()"
        )
    if not held:
        raise HarnessError(f"{who} was switched, and yet called no new function")
