# SPDX-License-Identifier: GPL-2.0-only
"""The one JSON shape in which every command hands over its results.

The models are the documentation: docs/results-schema.json is made from them by
``python -m harness.report.results docs/results-schema.json``, and a test compares the two.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from harness.report.attempts import Attempt, HeldTask, MarkKind
from harness.report.base import (
    CheckOutcome,
    ErrorFacts,
    HostFacts,
    KernelFacts,
    Model,
    Outcome,
    ResultBase,
)
from harness.report.bench import BenchResult, BenchSide
from harness.report.compare import CompareResult
from harness.report.mutants import Catch, ModuleMutantResult, MutantResult, Notice
from harness.report.races import RaceHit, RaceResult
from harness.report.rules import BehaviourResult, ClassifyResult, Leave, Switch
from harness.report.verify import VerdictFacts, VerifyResult

__all__ = [
    "Attempt",
    "BehaviourReport",
    "BehaviourResult",
    "BenchReport",
    "BenchResult",
    "BenchSide",
    "Callback",
    "Catch",
    "CheckOutcome",
    "ClassifyReport",
    "ClassifyResult",
    "CompareReport",
    "CompareResult",
    "DoctorReport",
    "DoctorResult",
    "ErrorFacts",
    "HeldTask",
    "HostFacts",
    "KernelFacts",
    "KernelReport",
    "KernelResult",
    "Mark",
    "MarkKind",
    "ModuleMutantReport",
    "ModuleMutantResult",
    "MutantReport",
    "MutantResult",
    "Notice",
    "Outcome",
    "Phase",
    "RaceHit",
    "RaceReport",
    "RaceResult",
    "Report",
    "Result",
    "RunReport",
    "RunResult",
    "SelftestReport",
    "SelftestResult",
    "StateChange",
    "TaskHistory",
    "TaskSwitch",
    "TestReport",
    "TestResult",
    "VerdictFacts",
    "VerifyReport",
    "VerifyResult",
    "make_report",
    "read_report",
    "schema_text",
    "to_json",
]

SCHEMA_VERSION: Literal[1] = 1


class TestResult(ResultBase):
    """One test. ``rules`` are the ids of the behaviours it proves.

    ``kernel`` is a release with its origin, ``kernel_digest`` names its build; None: no guest ran.
    """

    __test__ = False

    rules: tuple[str, ...] = ()
    kernel: str | None = None
    kernel_digest: str | None = None
    detail: str | None = None


class TaskSwitch(Model):
    """A task that came from one patch state to the other, when that was first seen."""

    at_s: float
    tid: int
    comm: str
    kthread: bool
    before: int
    after: int


class Callback(Model):
    """A callback as the kernel log tells of it. ``state`` is that of the target module, or "-"."""

    at_s: float
    patch: str
    phase: str
    object: str
    state: str


class Phase(Model):
    """One transition: ``direction`` is where it went, ``end_s`` is None when it did not end."""

    patch: str = ""
    direction: Literal["patching", "unpatching"]
    start_s: float
    end_s: float | None
    switches: tuple[TaskSwitch, ...]


class StateChange(Model):
    """A task's patch state from that moment on; None: the task is gone."""

    at_s: float
    state: int | None


class TaskHistory(Model):
    """All patch states that one task was seen in."""

    tid: int
    comm: str
    kthread: bool
    changes: tuple[StateChange, ...]


class Mark(Model):
    """Something worth a mark on the time axis."""

    at_s: float
    what: str
    kind: MarkKind = MarkKind.NOTE


class RunResult(ResultBase):
    """A livepatch module, loaded, watched and unloaded. ``id`` is the module's name.

    All times are seconds since recording began, by the guest's monotonic clock. ``phases`` names
    the tasks that switched, ``tasks`` has the whole history of every task, ``attempts`` whom the
    kernel could not switch; None: it does not tell. ``targets`` were loaded before it, ``absent``
    are modules that it patches and of which no file was known.
    """

    module: str
    targets: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    functions: tuple[str, ...] = ()
    phases: tuple[Phase, ...] = ()
    marks: tuple[Mark, ...] = ()
    tasks: tuple[TaskHistory, ...] = ()
    callbacks: tuple[Callback, ...] = ()
    attempts: tuple[Attempt, ...] | None = None
    log: tuple[str, ...] = ()
    error: ErrorFacts | None = None


class DoctorResult(ResultBase):
    """One thing that the harness needs from the host, and how to get it."""

    detail: str
    hint: str | None = None


class KernelResult(ResultBase):
    """A kernel in the cache. ``size_mib`` is what it takes on disk, ``last_used`` ISO 8601."""

    version: str | None = None
    digest: str | None = None
    image: str | None = None
    size_mib: float | None = None
    last_used: str | None = None


class SelftestResult(ResultBase):
    """A case of the kernel's own selftests; ``id`` is script/case. ``detail``: what it said."""

    script: str
    detail: tuple[str, ...] = ()


class _Report(Model):
    """What every command says of itself.

    ``kernel`` is set when the command ran on one kernel; ``kernels`` has them all.
    ``accelerator`` is kvm or tcg, None when no guest was to run.
    """

    # Written even where it is the only value: a reader looks at it before anything else.
    schema_version: Literal[1] = Field(default=SCHEMA_VERSION, alias="schema")
    command: str
    outcome: Outcome
    harness: str
    host: HostFacts
    kernel: KernelFacts | None = None
    kernels: tuple[KernelFacts, ...] = ()
    accelerator: Literal["kvm", "tcg"] | None = None
    accelerator_reason: str | None = None
    seconds: float = Field(ge=0)
    error: ErrorFacts | None = None


class TestReport(_Report):
    """``klp-harness test``: one result for each test."""

    __test__ = False

    command: Literal["test"] = "test"
    results: tuple[TestResult, ...] = ()


class RunReport(_Report):
    """``klp-harness run`` and ``demo``: one result for each module."""

    command: Literal["run", "demo"]
    results: tuple[RunResult, ...] = ()


class DoctorReport(_Report):
    """``klp-harness doctor``: one result for each thing looked at."""

    command: Literal["doctor"] = "doctor"
    results: tuple[DoctorResult, ...] = ()


class KernelReport(_Report):
    """``klp-harness kernel build|list|prune``: one result for each kernel."""

    command: Literal["kernel build", "kernel list", "kernel prune"]
    results: tuple[KernelResult, ...] = ()


class BenchReport(_Report):
    """``klp-harness bench``: one result for each figure; ``failed``: its budget is missed."""

    command: Literal["bench"] = "bench"
    results: tuple[BenchResult, ...] = ()


class BehaviourReport(_Report):
    """``klp-harness behaviours`` and ``matrix``: one result for each rule."""

    command: Literal["behaviours", "matrix"]
    results: tuple[BehaviourResult, ...] = ()


class ClassifyReport(_Report):
    """``klp-harness classify``: ``leave`` and ``switch`` are the kernel's; None: not found."""

    command: Literal["classify"] = "classify"
    leave: Leave | None = None
    switch: Switch | None = None
    results: tuple[ClassifyResult, ...] = ()


class SelftestReport(_Report):
    """``klp-harness selftests``: one result for each case of the kernel's own selftests."""

    command: Literal["selftests"] = "selftests"
    results: tuple[SelftestResult, ...] = ()


class CompareReport(_Report):
    """``klp-harness compare``: one result for each rule; ``kernels`` are both, in their order."""

    command: Literal["compare"] = "compare"
    results: tuple[CompareResult, ...] = ()


class RaceReport(_Report):
    """``klp-harness race list|run|record|replay``: one result for each reproducer."""

    command: Literal["race list", "race run", "race record", "race replay"]
    results: tuple[RaceResult, ...] = ()


class MutantReport(_Report):
    """``klp-harness mutants list|run``: one result for each kernel mutant."""

    command: Literal["mutants list", "mutants run"]
    results: tuple[MutantResult, ...] = ()


class ModuleMutantReport(_Report):
    """``klp-harness mutants modules``: one result for each module mutant."""

    command: Literal["mutants modules"] = "mutants modules"
    results: tuple[ModuleMutantResult, ...] = ()


class VerifyReport(_Report):
    """``klp-harness verify``: one result for each check of each module.

    ``verdicts`` has what each module came to, ``runs`` the timelines that were recorded.
    """

    command: Literal["verify"] = "verify"
    results: tuple[VerifyResult, ...] = ()
    verdicts: tuple[VerdictFacts, ...] = ()
    runs: tuple[RunResult, ...] = ()


Result = (
    TestResult
    | RunResult
    | DoctorResult
    | KernelResult
    | BenchResult
    | BehaviourResult
    | ClassifyResult
    | SelftestResult
    | CompareResult
    | RaceResult
    | MutantResult
    | ModuleMutantResult
    | VerifyResult
)
Report = (
    TestReport
    | RunReport
    | DoctorReport
    | KernelReport
    | BenchReport
    | BehaviourReport
    | ClassifyReport
    | SelftestReport
    | CompareReport
    | RaceReport
    | MutantReport
    | ModuleMutantReport
    | VerifyReport
)
_REPORT: TypeAdapter[Report] = TypeAdapter(Annotated[Report, Field(discriminator="command")])


def make_report(**fields: Any) -> Report:
    """Return the report of ``fields["command"]``; raises pydantic.ValidationError."""
    return _REPORT.validate_python(fields)


def read_report(text: str) -> Report:
    """Return a report from its JSON text; raises pydantic.ValidationError."""
    return _REPORT.validate_json(text)


def to_json(report: Report) -> str:
    """Return a report as JSON text, indented, with a newline at its end."""
    return report.model_dump_json(by_alias=True, indent=2) + "\n"


def schema_text() -> str:
    """Return the JSON Schema (2020-12) of what ``--json`` writes."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "What klp-harness commands write with --json",
        **_REPORT.json_schema(by_alias=True, mode="serialization"),
    }
    return json.dumps(schema, indent=2) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(schema_text(), encoding="utf-8")
