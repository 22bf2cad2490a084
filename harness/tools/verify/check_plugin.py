# SPDX-License-Identifier: GPL-2.0-only
"""The pytest plugin of a check that is a test file: fixtures for the guest, and what came of it.

A process of its own loads it (``-p``); see check_tests.py beside it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel

from harness.errors import HarnessError
from harness.livepatch.patch import Livepatch
from harness.livepatch.tasks import Tasks
from harness.vm.guest.address import Address
from harness.vm.guest.attached import attached

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from harness.vm.guest.machine import Machine

MOMENTS = ("before", "during", "after")
_MOST_CHARACTERS = 300


class Failure(BaseModel):
    """A test that failed. ``by_harness``: the guest was not reached, which says nothing of it."""

    test: str
    text: str
    by_harness: bool = False


class Told(BaseModel):
    """What the other process is told: ``failures`` of tests, ``errors`` that came before any."""

    failures: list[Failure] = []
    errors: list[str] = []


_TOLD = pytest.StashKey[Told]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Take what the other process hands over."""
    group = parser.getgroup("klp-harness")
    group.addoption("--klp-guest", type=Path, help="file with the guest's address")
    group.addoption("--klp-moment", choices=MOMENTS, help="where it is")
    group.addoption("--klp-told", type=Path, required=True, help="file for what came of it")


def pytest_configure(config: pytest.Config) -> None:
    """Begin with nothing told."""
    config.stash[_TOLD] = Told()


def begun_beside(told: Path) -> Path:
    """Return the file that is there once tests run; ``told`` comes when they have."""
    return told.with_suffix(".begun")


def pytest_runtestloop(session: pytest.Session) -> None:
    """Say that the tests begin."""
    begun_beside(session.config.getoption("klp_told")).touch()


@pytest.fixture(scope="session")
def guest(pytestconfig: pytest.Config) -> Iterator[Machine]:
    """The guest in which the patch is verified."""
    with attached(Address.read(pytestconfig.getoption("klp_guest"))) as machine:
        yield machine


@pytest.fixture(scope="session")
def moment(pytestconfig: pytest.Config) -> str:
    """Where in the patch's life the kernel is: ``before``, ``during`` or ``after``."""
    return str(pytestconfig.getoption("klp_moment"))


@pytest.fixture
def livepatch(guest: Machine) -> Livepatch:
    """Live patching in that guest: its patches and their transitions."""
    return Livepatch(guest)


@pytest.fixture
def tasks(guest: Machine) -> Tasks:
    """All tasks of that guest and their patch states."""
    return Tasks(guest)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note each failure in a line."""
    report = yield
    if report.failed:
        error = call.excinfo.value if call.excinfo is not None else None
        item.config.stash[_TOLD].failures.append(
            Failure(
                test=item.name,
                text=_first_line(report.longrepr),
                by_harness=isinstance(error, HarnessError),
            )
        )
    return report


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """Note what could not be collected."""
    if report.failed:
        _ERRORS.append(_first_line(report.longrepr))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Tell the other process."""
    told = session.config.stash[_TOLD]
    told.errors += _ERRORS
    file: Path = session.config.getoption("klp_told")
    aside = file.with_suffix(".new")
    aside.write_text(told.model_dump_json())
    aside.rename(file)


# pytest gives that hook neither config nor session.
_ERRORS: list[str] = []


def _first_line(shown: Any) -> str:
    """Return the short text of what pytest shows of a failure."""
    crash = getattr(shown, "reprcrash", None)
    if crash is not None:
        text = str(crash.message)
    else:
        marked = [line[1:] for line in str(shown).splitlines() if line.startswith("E ")]
        text = next((line.strip() for line in reversed(marked)), str(shown).strip())
    line = text.partition("\n")[0].removeprefix("AssertionError: ")
    return line if len(line) <= _MOST_CHARACTERS else line[:_MOST_CHARACTERS] + "..."
