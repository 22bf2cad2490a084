# SPDX-License-Identifier: GPL-2.0-only
"""The one JSON shape in which every command hands over its results.

The models are the documentation: docs/results-schema.json is made from them by
``python -m harness.report.results docs/results-schema.json``, and a test compares the two.
"""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

SCHEMA_VERSION: Literal[1] = 1


class Outcome(StrEnum):
    """What a whole command came to: exit code 0, 1, or anything else."""

    PASSED = "passed"
    FAILED = "failed"
    ERROR = "error"


class CheckOutcome(StrEnum):
    """What one result came to. ``error``: the harness or host failed, which judges nothing."""

    PASSED = "passed"
    WARNED = "warned"
    FAILED = "failed"
    ERROR = "error"
    SKIPPED = "skipped"
    EXPECTED_FAILURE = "expected-failure"


class _Model(BaseModel):
    # What has a default is written all the same: a reader may rely on every field.
    model_config = ConfigDict(
        frozen=True, extra="forbid", json_schema_serialization_defaults_required=True
    )


class ErrorFacts(_Model):
    """A failure in words: ``kind`` is a class of harness.errors, ``fault`` says whose it is."""

    kind: str
    fault: Literal["kernel", "usage", "harness", "interrupted"]
    message: str
    hint: str | None = None
    details: tuple[str, ...] = ()
    logs: str | None = None


class HostFacts(_Model):
    """The machine that ran the command. ``memory_mib`` is what it has in all."""

    system: str
    kernel: str
    cpus: int
    memory_mib: int
    python: str


class KernelFacts(_Model):
    """A kernel under test: the spec as typed, the release, and what identifies the build."""

    spec: str
    version: str
    digest: str
    config_digest: str
    compiler: str
    source: str


class _Result(_Model):
    id: str
    outcome: CheckOutcome
    seconds: float = Field(ge=0)


class TestResult(_Result):
    """One test. ``rules`` are the ids of the behaviours it proves; ``kernel`` is a release."""

    __test__ = False

    rules: tuple[str, ...] = ()
    kernel: str | None = None
    detail: str | None = None


class TaskSwitch(_Model):
    """A task that came from one patch state to the other, when that was first seen."""

    at_s: float
    tid: int
    comm: str
    kthread: bool
    before: int
    after: int


class Callback(_Model):
    """A callback as the kernel log tells of it. ``state`` is that of the target module, or "-"."""

    at_s: float
    patch: str
    phase: str
    object: str
    state: str


class Phase(_Model):
    """One transition: ``direction`` is where it went, ``end_s`` is None when it did not end."""

    direction: Literal["patching", "unpatching"]
    start_s: float
    end_s: float | None
    switches: tuple[TaskSwitch, ...]


class StateChange(_Model):
    """A task's patch state from that moment on; None: the task is gone."""

    at_s: float
    state: int | None


class TaskHistory(_Model):
    """All patch states that one task was seen in."""

    tid: int
    comm: str
    kthread: bool
    changes: tuple[StateChange, ...]


class Mark(_Model):
    """Something worth a mark on the time axis."""

    at_s: float
    what: str


class RunResult(_Result):
    """A livepatch module, loaded, watched and unloaded. ``id`` is the module's name.

    All times are seconds since recording began, by the guest's monotonic clock. ``phases`` names
    the tasks that switched, ``tasks`` has the whole history of every task. ``targets`` were loaded
    before it, ``absent`` are modules that it patches and of which no file was known.
    """

    module: str
    targets: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    functions: tuple[str, ...] = ()
    phases: tuple[Phase, ...] = ()
    marks: tuple[Mark, ...] = ()
    tasks: tuple[TaskHistory, ...] = ()
    callbacks: tuple[Callback, ...] = ()
    log: tuple[str, ...] = ()
    error: ErrorFacts | None = None


class DoctorResult(_Result):
    """One thing that the harness needs from the host, and how to get it."""

    detail: str
    hint: str | None = None


class KernelResult(_Result):
    """A kernel in the cache. ``size_mib`` is what it takes on disk, ``last_used`` ISO 8601."""

    version: str | None = None
    digest: str | None = None
    image: str | None = None
    size_mib: float | None = None
    last_used: str | None = None


class BenchSide(_Model):
    """One side of a ratio: the median of its runs."""

    name: str
    value: float
    unit: str
    runs: tuple[float, ...]


class BenchResult(_Result):
    """A figure. A ratio has two sides, and its value is the first by the second."""

    what: str
    value: float
    unit: str
    budget: float | None = None
    bound: Literal["at most", "at least"] | None = None
    sides: tuple[BenchSide, ...] = ()


class _Report(_Model):
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


Result = TestResult | RunResult | DoctorResult | KernelResult | BenchResult
Report = TestReport | RunReport | DoctorReport | KernelReport | BenchReport
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
