# SPDX-License-Identifier: GPL-2.0-only
"""The end of a test: a splat fails it, and its report has the log, the blockers, the artefacts."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import (
    ExitCode,
    GuestPanic,
    HarnessError,
    KernelSplat,
    KernelVerdict,
    KlpError,
    UsageError,
    is_of_guest,
)
from harness.pytest_plugin.keeping import FAILURE
from harness.pytest_plugin.log_check import LogCheck, leaves, undeclared_splat
from harness.pytest_plugin.observing import ORACLE, judge
from harness.report.properties import ACCELERATOR, FAULT, KERNEL, RULE
from harness.report.text import printable

if TYPE_CHECKING:
    from collections.abc import Generator

    from harness.livepatch.patch import Livepatch
    from harness.vm.guest.machine import Machine

LOG = pytest.StashKey[LogCheck]()
LIVEPATCH = pytest.StashKey["Livepatch"]()
_PASSED = pytest.StashKey[bool]()
_LOG_LINES = 80


def passed(node: pytest.Item) -> bool:
    """Return whether the test's setup and call have both passed."""
    return node.stash.get(_PASSED, False)


def forget(item: pytest.Item) -> None:
    """Forget how a test has run, so that it can run once more in this process."""
    keys: tuple[pytest.StashKey[Any], ...] = (LOG, LIVEPATCH, _PASSED, FAILURE, ORACLE)
    for key in keys:
        if key in item.stash:
            del item.stash[key]
    item.user_properties[:] = [each for each in item.user_properties if each[0] == RULE.name]


def pytest_itemcollected(item: pytest.Item) -> None:
    """Let a test's reports, JUnit's too, name the rules that it proves, and -k select by them."""
    rules = [rule for marker in item.iter_markers("behaviour") for rule in marker.args]
    item.user_properties += [RULE.of(rule) for rule in rules]
    item.extra_keyword_matches.update(rules)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, Any, Any]:
    """Look at the guest's log when a fixture fails or skips; else the test itself follows."""
    try:
        return (yield)
    except BaseException as ending:
        _look(item, ending)
        raise


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Look at the guest's log however the test ends: a splat fails the test that caused it.

    When the test failed by itself, the guest's death, if it died, is the better reason.
    """
    try:
        result = yield
    except BaseException as ending:
        judge(item, ending)
        _look(item, ending)
        raise
    _look(item, None)
    judge(item, None)
    return result


def _look(item: pytest.Item, ending: BaseException | None) -> None:
    check = item.stash.get(LOG, None)
    found = check.look(ending, is_test=ending is None) if check is not None else None
    if found is not None:
        raise found from ending


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add to a failing test's report what the kernel and the tasks were doing.

    An undeclared splat fails a test whatever pytest makes of it: an expected failure, a skip.
    """
    report = yield
    check = item.stash.get(LOG, None)
    found = None
    if check is not None:
        # Not from the call: pytest puts a skip of unittest in the place of what was raised.
        found, check.found = check.found, None
    raised = call.excinfo.value if call.excinfo is not None else None
    if raised is not None and found is None:
        found = undeclared_splat(raised, check)
    if found is not None and not report.failed and not _is_expected(item, found):
        raised = found
        report.outcome = "failed"
        report.longrepr = item.repr_failure(pytest.ExceptionInfo.from_exception(found))
        if hasattr(report, "wasxfail"):
            del report.wasxfail
    if call.when == "call":
        item.stash[_PASSED] = report.passed
    if raised is not None and report.failed:
        item.stash[FAILURE] = (str(raised) or type(raised).__name__).splitlines()[0]
        report.user_properties.append(FAULT.of(int(_fault(raised))))
        if isinstance(raised, KlpError):
            report.longrepr = f"{type(raised).__name__}: {raised}\n\n{report.longrepr}"
        # pytest prints it as it is; a guest's control characters are not for this terminal.
        shown = str(report.longrepr)
        if isinstance(report.longrepr, str) or printable(shown) != shown:
            report.longrepr = printable(shown)
    if check is not None and report.failed and call.when != "teardown":
        _describe(item, report, check.machine)
    return report


def _is_expected(item: pytest.Item, error: KlpError) -> bool:
    """Whether the test is marked to end with such an error, named by its own class.

    A failure that is expected in general (no ``raises``, or KernelVerdict) is no splat.
    """
    if not isinstance(error, KernelSplat | GuestPanic):
        return False
    for marker in item.iter_markers("xfail"):
        raises = marker.kwargs.get("raises")
        if type(error) in (raises if isinstance(raises, tuple) else (raises,)):
            return True
    return False


def _fault(error: BaseException) -> ExitCode:
    """Return whose fault a failure is. Of several: the kernel's, if that is sure."""
    each = tuple(leaves(error))
    for kind in (KernelVerdict, HarnessError, UsageError):
        if any(isinstance(one, kind) for one in each):
            return kind.exit_code
    if any(_is_of_host(one) for one in each):
        return ExitCode.HARNESS
    return ExitCode.VERDICT


def _is_of_host(error: BaseException) -> bool:
    """Whether the host refused something: a full disk, no memory, no more processes.

    A TimeoutError is the end of a wait for the guest.
    """
    if isinstance(error, TimeoutError):
        return False
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and not is_of_guest(error))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Name kernel and accelerator of the guests that ran, that ran the tests."""
    seen: Counter[tuple[str, str]] = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            properties = getattr(report, "user_properties", ())
            kernel, accel = KERNEL.last(properties), ACCELERATOR.last(properties)
            # A test of somebody else's may record one property of the same name.
            if getattr(report, "when", None) == "call" and kernel and accel:
                seen[kernel, accel] += 1
    for (kernel, accel), count in sorted(seen.items()):
        tests = "1 test" if count == 1 else f"{count} tests"
        terminalreporter.write_line(
            f"klp-harness: {tests} in guests, kernel {kernel}, accelerator {accel}"
        )


def _describe(item: pytest.Item, report: pytest.TestReport, machine: Machine) -> None:
    log = machine.hypervisor.console.tail(_LOG_LINES)
    report.sections.append(("kernel log since the test's start", printable("\n".join(log))))
    livepatch = item.stash.get(LIVEPATCH, None)
    if livepatch is not None:
        report.sections.append(("transition", printable(_blockers(livepatch))))
    report.sections.append(("artefacts", str(machine.folder)))


def _blockers(livepatch: Livepatch) -> str:
    try:
        return livepatch.describe_transition()
    except (KlpError, OSError, TimeoutError) as error:
        return f"not known: {str(error).splitlines()[0]}"
