# SPDX-License-Identifier: GPL-2.0-only
"""The kernel log of a test's guest, which is looked at however a part of the test ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.errors import (
    BootFailed,
    GuestHang,
    GuestPanic,
    GuestReset,
    KernelSplat,
    KernelVerdict,
    KlpError,
    LostGuest,
    RaceShown,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.vm.guest.machine import Machine

# After these there is no guest that could be asked.
_ENDED = (BootFailed, GuestHang, GuestPanic, GuestReset, LostGuest)
# These say what is in the log. Of RaceShown: a reproducer knows its own splat, and what follows it.
_TOLD = (*_ENDED, KernelSplat, RaceShown)
# The run ends with these, and the test has no result.
_STOPS = (KeyboardInterrupt, pytest.exit.Exception)


class LogCheck:
    """Looks at the log of one guest at each end of a part of a test; a splat is reported once."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        # What the last look has returned, if no test can have declared it; whoever acts on it
        # takes it away.
        self.found: KlpError | None = None
        self._is_over = False
        self._reported = 0

    def look(
        self, ending: BaseException | None = None, *, is_test: bool = False
    ) -> KlpError | None:
        """Return what ``ending`` does not say: a splat, the guest's end, a log that is not whole.

        ``ending`` is what a part of the test raised, None when it returned. When it was the test
        itself that returned, a declared splat that did not come is returned too. What is returned
        is the better reason, or the only one.
        """
        if self._is_over or isinstance(ending, _STOPS):
            return None
        if isinstance(ending, _TOLD):
            self._note(ending)
            return None
        found = self._found(wants_declared=is_test and ending is None)
        if found is None:
            return None
        self._note(found)
        if isinstance(ending, KlpError) and not isinstance(found, KernelVerdict):
            return None
        is_unmet = isinstance(found, KernelSplat) and self._is_over
        self.found = None if is_unmet else found
        return found

    def _found(self, *, wants_declared: bool) -> KlpError | None:
        try:
            self.machine.check_splats()
        except KernelSplat as error:
            splats = len(self.machine.hypervisor.unexpected_splats())
            if splats:
                return error if splats > self._reported else None
            # A test that ended early need not have come to what it declared.
            return error if wants_declared else None
        except KlpError as error:
            return error
        return None

    def _note(self, error: BaseException) -> None:
        """Remember what is known, so that the next part of the test does not report it again."""
        if isinstance(error, KernelSplat):
            splats = len(self.machine.hypervisor.unexpected_splats())
            # Without one, it is a declared splat that did not come.
            self._reported, self._is_over = splats, splats == 0
        else:
            self._is_over = True


def leaves(error: BaseException) -> Iterator[BaseException]:
    """Yield the exception, or those of a group: several fixtures may fail in one teardown."""
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from leaves(each)
    else:
        yield error


def undeclared_splat(error: BaseException, check: LogCheck | None) -> KlpError | None:
    """Return the splat or panic among what a test raised that it did not declare."""
    for each in leaves(error):
        if isinstance(each, GuestPanic):
            return each
        if isinstance(each, KernelSplat) and (
            check is None or check.machine.hypervisor.unexpected_splats()
        ):
            return each
    return None
