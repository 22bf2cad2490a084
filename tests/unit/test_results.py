# SPDX-License-Identifier: GPL-2.0-only
"""The JSON that commands hand over: its schema, its models, its JUnit form."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import jsonschema  # type: ignore[import-untyped]
import pytest
from pydantic import ValidationError

from harness.cli.registry import make_report, read_report
from harness.report.base import (
    BaseReport,
    CheckOutcome,
    ErrorFacts,
    HostFacts,
    KernelFacts,
    to_json,
)
from harness.report.junit import to_junit
from harness.report.run_results import RunResult
from harness.tools.doctor.results import DoctorResult

ROOT = Path(__file__).parents[2]
DOCUMENTED = ROOT / "docs" / "results-schema.json"
HOST = HostFacts(system="Debian 12", kernel="6.1.0", cpus=2, memory_mib=4096, python="3.11.2")
KERNEL = KernelFacts(
    spec="6.1",
    version="6.1.192",
    digest="d1",
    config_digest="c1",
    compiler="gcc 12",
    source="linux-source-6.1",
)


def report(command: str, **fields: Any) -> BaseReport:
    base: dict[str, Any] = {
        "outcome": "passed",
        "harness": "0.1.0",
        "host": HOST,
        "seconds": 1.5,
    }
    return make_report(command=command, **{**base, **fields})


REPORTS = [
    report(
        "test",
        outcome="failed",
        kernel=KERNEL,
        kernels=(KERNEL,),
        accelerator="tcg",
        accelerator_reason="no KVM",
        results=[
            {"id": "t::a", "outcome": "passed", "seconds": 1, "rules": ["TR-01"]},
            {"id": "t::b", "outcome": "failed", "seconds": 2, "detail": "assert 0\nmore"},
            {"id": "t::c", "outcome": "error", "seconds": 0, "detail": "no qemu"},
            {"id": "t::d", "outcome": "expected-failure", "seconds": 0, "detail": "known"},
        ],
    ),
    report(
        "run",
        kernel=KERNEL,
        results=[
            {
                "id": "klp_test_gate",
                "outcome": "passed",
                "seconds": 3,
                "module": "/tmp/klp_test_gate.ko",
                "phases": [
                    {
                        "direction": "patching",
                        "start_s": 0.1,
                        "end_s": None,
                        "switches": [
                            {
                                "at_s": 0.2,
                                "tid": 1,
                                "comm": "init",
                                "kthread": False,
                                "before": 0,
                                "after": 1,
                            }
                        ],
                    }
                ],
            }
        ],
    ),
    report("doctor", results=[{"id": "gcc", "outcome": "passed", "seconds": 0, "detail": "found"}]),
    report(
        "behaviours",
        results=[
            {
                "id": "TR-01",
                "outcome": "passed",
                "seconds": 3,
                "holds": "a sleeper blocks",
                "tests": ["transition/test_sleeper.py::test_x"],
                "kernels": [
                    {
                        "version": "6.1.192",
                        "digest": "d1",
                        "source": "linux-source-6.1",
                        "outcome": "passed",
                        "expected": "passed",
                    }
                ],
            },
            {"id": "TR-02", "outcome": "not-run", "seconds": 0, "holds": "", "tests": []},
        ],
    ),
    report(
        "classify",
        leave="LEAVE_PATCHED_SET",
        switch="SWITCH_THREAD",
        results=[
            {
                "id": "kernel",
                "outcome": "passed",
                "seconds": 20,
                "leave": "LEAVE_PATCHED_SET",
                "switch": "SWITCH_THREAD",
                "experiments": [{"id": "inside", "done": "a", "seen": "b", "means": "c"}],
            },
            {
                "id": "kgraft",
                "outcome": "does-not-apply",
                "seconds": 1,
                "model": "kgraft",
                "expected": "LEAVE_KERNEL, SWITCH_THREAD",
                "detail": "kgraft.patch does not apply",
            },
        ],
    ),
    report("kernel list", results=[{"id": "6.1", "outcome": "passed", "seconds": 0}]),
]


@pytest.mark.parametrize("made", REPORTS, ids=lambda made: made.command)
def test_reports_match_the_documented_schema(made: BaseReport) -> None:
    """What --json writes is what docs/results-schema.json promises, and reads back the same."""
    schema = json.loads(DOCUMENTED.read_text())
    text = to_json(made)
    jsonschema.Draft202012Validator(schema).validate(json.loads(text))
    assert read_report(text) == made
    assert json.loads(text)["schema"] == 1


def test_documented_schema_is_that_of_the_models() -> None:
    """The file in docs/ is made from the models; regenerate it with .ci/results_schema.py."""
    script = ROOT / ".ci" / "results_schema.py"
    assert DOCUMENTED.read_text() == runpy.run_path(str(script))["schema_text"](), (
        "run: .venv/bin/python .ci/results_schema.py docs/results-schema.json"
    )


@pytest.mark.parametrize(
    "break_it",
    [
        lambda data: data.pop("schema"),
        lambda data: data.update(outcome="fine"),
        lambda data: data.update(command="nonsense"),
        lambda data: data["results"][0].pop("id"),
        lambda data: data["results"][0].update(outcome="ok"),
        lambda data: data["results"][0].update(surprise=1),
        lambda data: data.update(accelerator="xen"),
        lambda data: data.pop("host"),
    ],
)
def test_schema_refuses_what_is_wrong(break_it: Any) -> None:
    """The schema is strict enough to catch a field that is missing, unknown or misspelt."""
    data = json.loads(to_json(REPORTS[0]))
    break_it(data)
    schema = json.loads(DOCUMENTED.read_text())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(schema).validate(data)


def test_results_of_another_command_are_refused() -> None:
    """A command's report holds its own kind of results only."""
    with pytest.raises(ValidationError):
        report("doctor", results=[{"id": "x", "outcome": "passed", "seconds": 0, "module": "m"}])


def test_junit_counts_and_words() -> None:
    """JUnit tells a verdict (failure) from a harness error (error) and from what was skipped."""
    suite = ET.fromstring(to_junit(REPORTS[0])).find("testsuite")
    assert suite is not None
    assert [suite.get(name) for name in ("tests", "failures", "errors", "skipped")] == [
        "4",
        "1",
        "1",
        "1",
    ]
    failure = suite.find("testcase[@name='t::b']/failure")
    assert failure is not None
    assert failure.get("message") == "assert 0"
    assert failure.text == "assert 0\nmore"
    properties = {p.get("name"): p.get("value") for p in suite.iter("property")}
    assert properties["kernel"] == "6.1.192 (linux-source-6.1)"
    assert properties["accelerator"] == "tcg (no KVM)"


def test_junit_survives_console_bytes() -> None:
    """Control characters of a guest's console do not make the XML unreadable."""
    error = ErrorFacts(
        kind="GuestPanic", fault="kernel", message="panic \x1b[31m\x00", details=("\x08a", "ü")
    )
    made = report(
        "run",
        outcome="failed",
        results=[
            RunResult(id="m", outcome=CheckOutcome.FAILED, seconds=1.0, module="m.ko", error=error)
        ],
    )
    failure = ET.fromstring(to_junit(made)).find("testsuite/testcase/failure")
    assert failure is not None
    assert failure.get("message") == "panic ?[31m?"
    assert failure.text == "panic ?[31m?\n?a\nü"


def test_junit_has_a_case_for_a_command_that_ended_before_its_first_result() -> None:
    """A CI system that reads only the JUnit file sees that the command failed."""
    error = ErrorFacts(kind="HarnessError", fault="harness", message="no QEMU")
    made = report("run", outcome="error", error=error)
    suite = ET.fromstring(to_junit(made)).find("testsuite")
    assert suite is not None
    assert (suite.get("tests"), suite.get("errors")) == ("1", "1")


def test_seconds_are_never_negative() -> None:
    """A result's duration is a duration."""
    with pytest.raises(ValidationError):
        DoctorResult(id="x", outcome=CheckOutcome.PASSED, seconds=-1.0, detail="")
