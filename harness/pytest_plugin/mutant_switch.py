# SPDX-License-Identifier: GPL-2.0-only
"""The switch of a kernel that holds many mutants: it is set in each guest before a test begins.

`klp-harness mutants sweep` makes such kernels; the switch is a parameter of theirs. 0: none is on.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

import pytest

from harness.errors import KlpError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.vm.guest.machine import Machine

PARAMETERS = "/sys/module/livepatch/parameters"
MUTANT = f"{PARAMETERS}/mutant"
SEEN = f"{PARAMETERS}/mutants_seen"
# What is seen is worth a moment of waiting, and no more: the guest may be dead.
_READ_S = 3.0


class MutantSwitch:
    """Which mutant is on in the guests that start from now on.

    ``at_boot``: it is on while their kernel boots, already; they are booted for it. ``seen`` has
    what each guest has recorded when it ended, as far as it could still be asked.
    """

    def __init__(self, number: int = 0) -> None:
        self.number = number
        self.at_boot = False
        self.seen: list[str] = []
        self.took_s = 0.0

    @property
    def kernel_args(self) -> tuple[str, ...]:
        """The words for the kernel's command line."""
        return (f"livepatch.mutant={self.number}",) if self.at_boot else ()

    @contextlib.contextmanager
    def inside(self, machine: Machine) -> Iterator[None]:
        """Set the switch in a guest that has just started; read the record when it is left.

        Raises UsageError for a kernel that has no mutants.
        """
        if not self.number:
            yield
            return
        start_s = time.monotonic()
        try:
            machine.write(MUTANT, str(self.number))
        except FileNotFoundError as error:
            raise UsageError(
                "this kernel has no mutants that could be switched on",
                hint="`klp-harness mutants sweep` makes one",
            ) from error
        self.took_s = max(self.took_s, time.monotonic() - start_s)
        try:
            yield
        finally:
            with contextlib.suppress(KlpError, OSError):
                self.seen.append(machine.read(SEEN, deadline=machine.scaled(_READ_S)))


_SWITCH = pytest.StashKey[MutantSwitch]()


class GivenSwitch:
    """A plugin for a run in one process whose caller changes the switch from test to test."""

    def __init__(self, switch: MutantSwitch) -> None:
        self._switch = switch

    def pytest_configure(self, config: pytest.Config) -> None:
        """Record it before a test needs a guest."""
        config.stash[_SWITCH] = self._switch


def switch_of(config: pytest.Config) -> MutantSwitch:
    """Return the switch of this run's guests."""
    known = config.stash.get(_SWITCH, None)
    if known is None:
        known = config.stash[_SWITCH] = MutantSwitch(config.getoption("kernel_mutant"))
    return known
