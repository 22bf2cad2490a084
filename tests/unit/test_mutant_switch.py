# SPDX-License-Identifier: GPL-2.0-only
"""The switch of a kernel of mutants, set in a guest by the plugin."""

from __future__ import annotations

from typing import Any

import pytest

from harness.deadline import Deadline
from harness.errors import GuestPanic, UsageError
from harness.pytest_plugin.mutant_switch import MUTANT, SEEN, MutantSwitch


class FakeMachine:
    """A guest whose files are a dictionary; ``dead``: nothing can be read any more."""

    def __init__(self, files: dict[str, str], *, dead: bool = False) -> None:
        self.files = files
        self.dead = dead

    def write(self, path: str, text: str) -> None:
        if path not in self.files:
            raise FileNotFoundError(path)
        self.files[path] = text

    def read(self, path: str, *, deadline: Deadline) -> str:
        assert not deadline.expired
        if self.dead:
            raise GuestPanic("panic")
        return self.files[path]

    def scaled(self, seconds: float) -> Deadline:
        return Deadline.after(seconds)


def inside(switch: MutantSwitch, machine: Any) -> None:
    with switch.inside(machine):
        assert machine.files.get(MUTANT, "0") == str(switch.number)


def test_switch_is_set_and_the_record_read() -> None:
    """Before the test the mutant is on; after it, what the kernel has seen is kept."""
    switch = MutantSwitch(17)
    inside(switch, FakeMachine({MUTANT: "0", SEEN: "03\n"}))
    assert switch.seen == ["03\n"]
    assert not switch.kernel_args


def test_mutant_of_the_boot_is_on_the_command_line() -> None:
    """The kernel's parameter is set before its own init functions run."""
    switch = MutantSwitch(17)
    switch.at_boot = True
    assert switch.kernel_args == ("livepatch.mutant=17",)


def test_no_mutant_leaves_the_guest_alone() -> None:
    """Kernels without mutants have no such file."""
    switch = MutantSwitch()
    inside(switch, FakeMachine({}))
    assert switch.seen == []


def test_kernel_without_mutants_is_refused() -> None:
    """The option makes no sense there, and says so."""
    with pytest.raises(UsageError, match="no mutants"):
        inside(MutantSwitch(1), FakeMachine({}))


def test_dead_guest_has_no_record() -> None:
    """The mutant may have killed it, which the test reports."""
    switch = MutantSwitch(1)
    inside(switch, FakeMachine({MUTANT: "0"}, dead=True))
    assert switch.seen == []
