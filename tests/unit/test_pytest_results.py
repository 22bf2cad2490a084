# SPDX-License-Identifier: GPL-2.0-only
"""What the test command makes of pytest's outcomes: results, and whose fault a failure is."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from harness.errors import ExitCode
from harness.report.base import CheckOutcome
from harness.tools.suite.pytest_results import Collector

if TYPE_CHECKING:
    import pytest

pytest_plugins = ["pytester"]

VERDICT = """
    def test_verdict(record_property):
        record_property("klp_fault", 1)
        assert False
"""
HARNESS = """
    def test_harness(record_property):
        record_property("klp_fault", 3)
        assert False
"""
USAGE = """
    def test_usage(record_property):
        record_property("klp_fault", 2)
        assert False
"""
PASSES = """
    def test_passes(record_property):
        record_property("behaviour", "TR-01")
        record_property("kernel", "6.1.192")
"""


class Ran(Collector):
    """A collector that remembers pytest's own exit code."""

    status = -1


def run(pytester: pytest.Pytester, *pieces: str, args: tuple[str, ...] = ()) -> Ran:
    collector = Ran()
    pytester.makepyfile("\n".join(textwrap.dedent(piece) for piece in pieces))
    result = pytester.inline_run(
        *("-p", "no:cacheprovider", "-p", "no:klp_harness", *args),
        plugins=[collector],
        no_reraise_ctrlc=True,
    )
    collector.status = int(result.ret or 0)
    return collector


def code(ran: Ran) -> ExitCode:
    return ran.exit_code(ran.status)


def test_all_passed(pytester: pytest.Pytester) -> None:
    """All held: 0, with the rule and the kernel of each test in its result."""
    collector = run(pytester, PASSES)
    assert code(collector) is ExitCode.HELD
    (result,) = collector.results()
    assert result.outcome is CheckOutcome.PASSED
    assert (result.rules, result.kernel) == (("TR-01",), "6.1.192")
    assert result.id.endswith("::test_passes")


def test_verdict_counts_before_harness_error(pytester: pytest.Pytester) -> None:
    """A kernel that failed one test failed, whatever went wrong in another."""
    collector = run(pytester, VERDICT, HARNESS, PASSES)
    assert code(collector) is ExitCode.VERDICT
    outcomes = {result.id.rpartition("::")[2]: result.outcome for result in collector.results()}
    assert outcomes == {
        "test_verdict": CheckOutcome.FAILED,
        "test_harness": CheckOutcome.ERROR,
        "test_passes": CheckOutcome.PASSED,
    }


def test_harness_error_is_no_verdict(pytester: pytest.Pytester) -> None:
    """When only the harness failed the exit code does not accuse the kernel."""
    assert code(run(pytester, HARNESS, PASSES)) is ExitCode.HARNESS


def test_wrong_usage_alone_is_usage(pytester: pytest.Pytester) -> None:
    """A kernel spec that only a fixture finds wrong is still the user's to change."""
    assert code(run(pytester, USAGE)) is ExitCode.USAGE


def test_failed_assertion_without_a_fault_is_a_verdict(pytester: pytest.Pytester) -> None:
    """Unexpected success of a strict xfail has no exception, and counts as a failure."""
    strict = """
        import pytest
        @pytest.mark.xfail(strict=True, reason="known")
        def test_strict(): pass
    """
    assert code(run(pytester, strict)) is ExitCode.VERDICT


def test_who_ran_it_is_no_part_of_what_it_said(pytester: pytest.Pytester) -> None:
    """Under pytest-xdist a failure begins with its worker's name, which tells nothing."""
    strict = """
        import pytest
        @pytest.mark.xfail(strict=True, reason="known")
        def test_strict(): pass
    """
    alone = run(pytester, strict).results()
    beside = run(pytester, strict, args=("-n", "1", "-p", "xdist")).results()
    assert [result.detail for result in beside] == [result.detail for result in alone]
    assert [result.detail for result in beside] == ["[XPASS(strict)] known"]


def test_skips_and_expected_failures_hold(pytester: pytest.Pytester) -> None:
    """Neither fails a run; both say why in their results."""
    collector = run(
        pytester,
        """
        import pytest
        @pytest.mark.xfail(strict=True, reason="known bug")
        def test_known(): assert False
        def test_skipped(): pytest.skip("no such CPU")
        """,
    )
    assert code(collector) is ExitCode.HELD
    assert [(result.outcome, result.detail) for result in collector.results()] == [
        (CheckOutcome.EXPECTED_FAILURE, "known bug"),
        (CheckOutcome.SKIPPED, "Skipped: no such CPU"),
    ]


def test_file_that_cannot_be_imported_is_a_harness_error(pytester: pytest.Pytester) -> None:
    """A broken test file says nothing about a kernel."""
    collector = run(pytester, "import no_such_module_anywhere")
    assert code(collector) is ExitCode.HARNESS
    (result,) = collector.results()
    assert result.outcome is CheckOutcome.ERROR
    assert "no_such_module_anywhere" in (result.detail or "")


def test_no_tests_is_wrong_usage(pytester: pytest.Pytester) -> None:
    """An expression that selects nothing does not pass."""
    assert code(run(pytester, PASSES, args=("-k", "nothing_like_it"))) is ExitCode.USAGE


def test_teardown_failure_counts(pytester: pytest.Pytester) -> None:
    """A test whose guest failed while it was put away did not pass, and is one result."""
    collector = run(
        pytester,
        """
        import pytest
        @pytest.fixture
        def broken(record_property):
            yield
            record_property("klp_fault", 3)
            raise RuntimeError("gone")
        def test_it(broken): pass
        """,
    )
    assert [result.outcome for result in collector.results()] == [CheckOutcome.ERROR]
    assert code(collector) is ExitCode.HARNESS


def test_interrupt_is_noticed(pytester: pytest.Pytester) -> None:
    """Ctrl-C, which pytest swallows, is not lost; what ended before it is reported."""
    collector = run(
        pytester,
        PASSES,
        """
        def test_then():
            raise KeyboardInterrupt
        def test_never(): pass
        """,
    )
    assert isinstance(collector.interrupt, KeyboardInterrupt)
    assert [result.id.rpartition("::")[2] for result in collector.results()] == ["test_passes"]


def test_a_file_that_cannot_be_imported_is_no_interrupt(pytester: pytest.Pytester) -> None:
    """Pytest ends such a run by an exception that is a KeyboardInterrupt too."""
    collector = run(pytester, "import no_such_module")
    assert collector.interrupt is None
    assert code(collector) is ExitCode.HARNESS
