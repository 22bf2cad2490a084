# SPDX-License-Identifier: GPL-2.0-only
"""The end of a test: a splat fails it, and its report has the log, the blockers, the artefacts."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import ExitCode, KlpError
from harness.report.properties import ACCELERATOR, FAULT, KERNEL, RULE

if TYPE_CHECKING:
    from collections.abc import Generator

    from harness.livepatch.patch import Livepatch
    from harness.vm.guest.machine import Machine

GUEST = pytest.StashKey["Machine"]()
LIVEPATCH = pytest.StashKey["Livepatch"]()
_PASSED = pytest.StashKey[bool]()
_LOG_LINES = 80
# A test that failed by itself: long enough for a death that caused it to show.
_SETTLE_S = 0.3


def passed(node: pytest.Item) -> bool:
    """Return whether the test's setup and call have both passed."""
    return node.stash.get(_PASSED, False)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Let a test's reports, JUnit's too, name the rules that it proves, and -k select by them."""
    rules = [rule for marker in item.iter_markers("behaviour") for rule in marker.args]
    item.user_properties += [RULE.of(rule) for rule in rules]
    item.extra_keyword_matches.update(rules)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Check the guest's log after the test: a splat fails the test that caused it.

    When the test failed by itself, the guest's death, if it died, is the better reason.
    """
    machine = item.stash.get(GUEST, None)
    try:
        result = yield
    except KlpError:
        raise
    except Exception:
        if machine is not None:
            machine.hypervisor.settle(_SETTLE_S)
        raise
    if machine is not None:
        machine.check_splats()
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add to a failing test's report what the kernel and the tasks were doing."""
    report = yield
    if call.when == "call":
        item.stash[_PASSED] = report.passed
    if call.excinfo is not None and report.failed:
        error = call.excinfo.value
        fault = error.exit_code if isinstance(error, KlpError) else ExitCode.VERDICT
        report.user_properties.append(FAULT.of(int(fault)))
        if isinstance(error, KlpError):
            report.longrepr = f"{type(error).__name__}: {error}\n\n{report.longrepr}"
    machine = item.stash.get(GUEST, None)
    if machine is not None and report.failed and call.when != "teardown":
        _describe(item, report, machine)
    return report


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
    report.sections.append(("kernel log since the test's start", "\n".join(log)))
    livepatch = item.stash.get(LIVEPATCH, None)
    if livepatch is not None:
        report.sections.append(("transition", _blockers(livepatch)))
    report.sections.append(("artefacts", str(machine.folder)))


def _blockers(livepatch: Livepatch) -> str:
    try:
        return livepatch.describe_transition()
    except (KlpError, OSError, TimeoutError) as error:
        return f"not known: {str(error).splitlines()[0]}"
