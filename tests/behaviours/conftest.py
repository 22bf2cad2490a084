# SPDX-License-Identifier: GPL-2.0-only
"""Fixtures of the behaviour tests: expected failures, and what user space sees of a patch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.behaviours.table import Expected, Table, load_table
from harness.errors import KernelVerdict
from harness.livepatch.gates import Gates
from harness.livepatch.patch import Livepatch, PatchObject

if TYPE_CHECKING:
    from harness.vm.guest.machine import Machine
    from harness.vm.kernel.kernel import Kernel

CMDLINE = "/proc/cmdline"
TRACING = "/sys/kernel/tracing"


@pytest.fixture(scope="session")
def table() -> Table:
    """The table of rules, read once for all tests of a worker."""
    return load_table()


@pytest.fixture(autouse=True)
def known_failure(request: pytest.FixtureRequest) -> None:
    """Mark a test as a strict expected failure where the table of rules says so of its kernel.

    A test that has such a mark of its own is left as it is.
    """
    node = request.node
    if "kernel" not in request.fixturenames or node.get_closest_marker("xfail"):
        return
    kernel: Kernel = request.getfixturevalue("kernel")
    names = {name for marker in node.iter_markers("behaviour") for name in marker.args}
    table: Table = request.getfixturevalue("table")
    for rule in table.rule:
        known = rule.expected(kernel.version, kernel.config.enabled) if rule.id in names else None
        if known is not None and known.outcome is Expected.EXPECTED_FAILURE:
            # Only the kernel's fault is expected: a failure of the harness is still one.
            raises = (AssertionError, KernelVerdict)
            node.add_marker(pytest.mark.xfail(strict=True, raises=raises, reason=known.why))


class Guestview:
    """What user space sees of the functions that the sample modules patch."""

    def __init__(self, guest: Machine, functions: dict[str, bool]) -> None:
        """``functions``: whether this guest's kernel has those that were looked for before."""
        self._guest = guest
        self._functions = functions

    def cmdline(self) -> str:
        """Return the module whose body of cmdline_proc_show() runs, or "original"."""
        text = self._guest.read(CMDLINE)
        name, separator, _ = text.partition(": this has been live patched")
        return name if separator else "original"

    def target(self, name: str) -> str:
        """Return the module whose body of klp_target_f() or _g() runs, or "original"."""
        text = self._guest.read(f"/sys/kernel/klp_target/{name}").strip()
        return text.removeprefix(f"{name} ")

    def enabled_functions(self) -> str:
        """Return the list of functions that ftrace has hooked (kernel/trace/ftrace.c)."""
        return self._guest.read(f"{TRACING}/enabled_functions")

    def traceable(self, function: str) -> bool:
        """Return whether ftrace can hook a function, so that it can be patched."""
        ran = self._guest.run(["grep", "-qxF", function, f"{TRACING}/available_filter_functions"])
        return ran.code == 0

    def has_function(self, name: str) -> bool:
        """Return whether the kernel has a function of that name.

        It shows which features a kernel has without the files that a test checks.
        """
        if name not in self._functions:
            # A pattern would take four times as long to look for.
            found = self._guest.run(["grep", "-wF", name, "/proc/kallsyms"])
            functions = (line.split()[1:] for line in found.stdout.splitlines())
            self._functions[name] = any(each in (["t", name], ["T", name]) for each in functions)
        return self._functions[name]

    def shows_patched(self, target: PatchObject, *, patched: bool) -> bool:
        """Return whether an object's attribute ``patched`` has that value.

        On a kernel without that attribute (before bb26cfd9, 6.1), whether it does not exist.
        """
        return target.patched is (patched if self.has_function("patched_show") else None)

    def modules(self) -> set[str]:
        """Return the names of the modules that are loaded."""
        return {line.split()[0] for line in self._guest.read("/proc/modules").splitlines()}


@pytest.fixture(scope="session")
def known_functions() -> dict[str, dict[str, bool]]:
    """Whether a kernel has a function, by the kernel's digest: a guest takes long to say that."""
    return {}


@pytest.fixture
def view(guest: Machine, kernel: Kernel, known_functions: dict[str, dict[str, bool]]) -> Guestview:
    """What user space sees of the patched functions."""
    return Guestview(guest, known_functions.setdefault(kernel.digest, {}))


class Store:
    """The durations that klp_target_store keeps (livepatch-modules/klp_target_store.c)."""

    def __init__(self, guest: Machine) -> None:
        self._guest = guest

    def path(self, name: str) -> str:
        """Return the path of one of its files."""
        return f"/sys/kernel/klp_store/{name}"

    def add(self, *durations_ms: int) -> None:
        """Add an item for each duration."""
        for duration_ms in durations_ms:
            self._guest.write(self.path("add"), str(duration_ms))

    def items(self) -> list[int]:
        """Return the durations in ms, as the function that may be patched returns them."""
        return self._numbers("items")

    def stored(self) -> list[int]:
        """Return the values in the items themselves: seconds in the old format."""
        return self._numbers("stored")

    def _numbers(self, name: str) -> list[int]:
        return [int(line) for line in self._guest.read(self.path(name)).splitlines()]


@pytest.fixture
def store(guest: Machine, livepatch: Livepatch, gate: Gates) -> Store:
    """A list of durations whose format the patches change; its sum waits for gate 0."""
    livepatch.load_target("klp_target_store")
    return Store(guest)
