# SPDX-License-Identifier: GPL-2.0-only
"""The pytest plugin of a check that is a test file: fixtures for the guest, a report of failures.

check_tests.py loads it into a pytest process of its own (``-p``).
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
from pydantic import BaseModel

from harness.errors import GuestHang, HarnessError, LostConnection, UsageError
from harness.livepatch.patch import Livepatch
from harness.livepatch.tasks import Tasks
from harness.tools.verify.check_guest import NarrowGuest
from harness.tools.verify.script import When
from harness.vm.guest.address import Address
from harness.vm.guest.attached import attached

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from harness.tools.verify.check_guest import CheckGuest

# Who runs the guest knows whether it hangs; here the host may only be busy.
_UNREACHED = (HarnessError, GuestHang)
# Mistakes of the file itself, on whatever kernel. Other exceptions may come from what it read.
_MISTAKES = (UsageError, NameError, ImportError, SyntaxError, pytest.FixtureLookupError)
_MOST_CHARACTERS = 300


class TestFailure(BaseModel):
    """A test that failed. ``by_harness``: the guest could not be reached, so it shows nothing.

    ``by_file``: the file has a mistake, or uses what it may not; ``hint`` says what it may.
    """

    __test__ = False

    test: str
    text: str
    by_harness: bool = False
    by_file: bool = False
    hint: str | None = None


class CheckReport(BaseModel):
    """What the pytest process found: ``failures`` of tests, ``errors`` of collecting them."""

    failures: list[TestFailure] = []
    errors: list[str] = []


def started_file(report: Path) -> Path:
    """Return the file that exists once tests run; ``report`` exists when they have ended."""
    return report.with_suffix(".started")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that check_tests.py gives."""
    group = parser.getgroup("klp-harness")
    group.addoption("--klp-guest", type=Path, help="file with the guest's address")
    group.addoption("--klp-moment", choices=[*When], help="before, during or after the patch")
    group.addoption("--klp-report", type=Path, required=True, help="file for the failures")


def pytest_configure(config: pytest.Config) -> None:
    """Record what fails in this session."""
    config.pluginmanager.register(_Recorder(config.getoption("klp_report")))


@pytest.fixture(scope="session")
def guest(pytestconfig: pytest.Config) -> Iterator[CheckGuest]:
    """The guest in which the patch is verified, without what only its owner may do."""
    with contextlib.ExitStack() as stack:
        try:
            address = Address.read(pytestconfig.getoption("klp_guest"))
            machine = stack.enter_context(attached(address))
        except TimeoutError as error:
            raise LostConnection(str(error)) from error
        yield cast("CheckGuest", NarrowGuest(machine))


@pytest.fixture(scope="session")
def moment(pytestconfig: pytest.Config) -> str:
    """``before``, ``during`` or ``after``: whether the patch is loaded."""
    return str(pytestconfig.getoption("klp_moment"))


@pytest.fixture
def livepatch(guest: CheckGuest) -> Livepatch:
    """Live patching in that guest: its patches and their transitions."""
    return Livepatch(guest)


@pytest.fixture
def tasks(guest: CheckGuest) -> Tasks:
    """All tasks of that guest and their patch states."""
    return Tasks(guest)


class _Recorder:
    """Hooks that write what failed to a file at the session's end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._report = CheckReport()

    def pytest_runtestloop(self) -> None:
        started_file(self._path).touch()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if report.failed:
            error = call.excinfo.value if call.excinfo is not None else None
            self._report.failures.append(
                TestFailure(
                    test=item.name,
                    text=_first_line(report.longrepr),
                    by_harness=isinstance(error, _UNREACHED),
                    by_file=isinstance(error, _MISTAKES),
                    hint=error.hint if isinstance(error, UsageError) else None,
                )
            )
        return report

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._report.errors.append(_first_line(report.longrepr))

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        # It appears whole: check_tests.py waits for it.
        new = self._path.with_suffix(".new")
        new.write_text(self._report.model_dump_json())
        new.rename(self._path)


def _first_line(shown: Any) -> str:
    """Return in a line why a test or a collection failed; ``shown`` is pytest's longrepr."""
    crash = getattr(shown, "reprcrash", None)
    if crash is not None:
        text = str(crash.message)
    else:
        marked = [line[1:] for line in str(shown).splitlines() if line.startswith("E ")]
        text = next((line.strip() for line in reversed(marked)), str(shown).strip())
    line = text.partition("\n")[0].removeprefix("AssertionError: ")
    return line if len(line) <= _MOST_CHARACTERS else line[:_MOST_CHARACTERS] + "..."
