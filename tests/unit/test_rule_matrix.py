# SPDX-License-Identifier: GPL-2.0-only
"""Rules x kernels: the page, and the exit code of a run."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from harness.behaviours.results import BehaviourResult, RuleOnKernel
from harness.cli.app import app
from harness.errors import ExitCode
from harness.report.base import CheckOutcome, KernelFacts
from harness.tools.suite.matrix import exit_code, rule_matrix_page
from harness.vm.kernel.spec import SERIES

SECTIONS = {"FC": "Force", "ST": "Stacking"}


def on(version: str, outcome: str, expected: str = "passed") -> RuleOnKernel:
    return RuleOnKernel(
        version=version,
        digest=f"d{version}",
        source=f"linux-source-{version}",
        outcome=CheckOutcome(outcome),
        expected=CheckOutcome(expected),
        detail="it <broke>" if outcome == "failed" else None,
    )


def rule(name: str, *kernels: RuleOnKernel) -> BehaviourResult:
    return BehaviourResult(
        id=name,
        outcome=CheckOutcome.PASSED,
        seconds=1.0,
        holds=f"{name} holds in `code`",
        tests=("x.py::test_x",),
        kernels=kernels,
    )


def facts(version: str) -> KernelFacts:
    return KernelFacts(
        spec=version,
        version=version,
        digest=f"d{version}",
        config_digest="c",
        compiler="gcc",
        source=f"linux-source-{version}",
    )


def test_the_page_has_each_rule_on_each_kernel() -> None:
    """A result that the table does not expect is outlined, and text of a kernel is only text."""
    results = [
        rule("FC-01", on("5.10", "passed"), on("6.1", "failed")),
        rule("FC-02", on("5.10", "expected-failure", "expected-failure"), on("6.1", "passed")),
        rule("ST-04", on("5.10", "passed", "not-applicable"), on("6.1", "not-run")),
    ]
    page = rule_matrix_page(results, [facts("5.10"), facts("6.1")], SECTIONS)
    assert page.count("<td class=") == 6
    assert page.count(" unexpected") == 2
    assert "expected: not-applicable" in page
    assert "it &lt;broke&gt;" in page
    assert page.count("Force</th>") == 1
    assert page.count("Stacking</th>") == 1
    assert "://" not in page, "the page needs nothing else"


def test_the_help_names_the_kernels_that_are_tested() -> None:
    """Without --kernel these are all that the mirror has, and each is built."""
    text = CliRunner().invoke(app, ["matrix", "-h"], prog_name="klp-harness").output
    described = text.partition("Options:")[0].split("Without --kernel")[1]
    assert [series for series in SERIES if series not in described] == []


@pytest.mark.parametrize(
    ("outcome", "expected", "code"),
    [
        ("passed", "passed", ExitCode.HELD),
        ("expected-failure", "expected-failure", ExitCode.HELD),
        ("not-run", "passed", ExitCode.HELD),
        ("passed", "not-applicable", ExitCode.VERDICT),
        ("not-applicable", "passed", ExitCode.VERDICT),
    ],
)
def test_what_the_table_does_not_expect_is_a_verdict(
    outcome: str, expected: str, code: ExitCode
) -> None:
    """All tests were as they were to be, and still one skipped that should not have."""
    results = [rule("ST-04", on("6.1", "passed"), on("6.12", outcome, expected))]
    assert exit_code(ExitCode.HELD, results) is code
    assert exit_code(ExitCode.HARNESS, results) is ExitCode.HARNESS
