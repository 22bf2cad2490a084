# SPDX-License-Identifier: GPL-2.0-only
"""What the behaviour tests share: places to look at in the guest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from harness.guest.machine import Machine

CMDLINE = "/proc/cmdline"


class Guestview:
    """What user space sees of functions that the sample modules patch."""

    def __init__(self, guest: Machine) -> None:
        self._guest = guest

    def cmdline(self) -> str:
        """Return the module whose body of cmdline_proc_show() answers, or "original"."""
        text = self._guest.read(CMDLINE)
        name, separator, _ = text.partition(": this has been live patched")
        return name if separator else "original"

    def target(self, name: str) -> str:
        """Return whose body of klp_target_f() or klp_target_g() answers, or "original"."""
        text = self._guest.read(f"/sys/kernel/klp_target/{name}").strip()
        return text.removeprefix(f"{name} ")

    def enabled_functions(self) -> str:
        """Return the functions that ftrace has hooks on (kernel/trace/ftrace.c)."""
        return self._guest.read("/sys/kernel/tracing/enabled_functions")

    def modules(self) -> set[str]:
        """Return the names of the modules that are loaded."""
        return {line.split()[0] for line in self._guest.read("/proc/modules").splitlines()}


@pytest.fixture
def view(guest: Machine) -> Guestview:
    """What user space sees of the patched functions."""
    return Guestview(guest)
