# SPDX-License-Identifier: GPL-2.0-only
"""What all results have: an id, an outcome, a duration; and the facts of host, kernel, failure."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA_VERSION: Literal[1] = 1


class Outcome(StrEnum):
    """What a whole command came to: exit code 0, 1, or anything else."""

    PASSED = "passed"
    FAILED = "failed"
    ERROR = "error"


class CheckOutcome(StrEnum):
    """What one result came to. ``error``: the harness or host failed, which judges nothing.

    Of a rule: ``not-applicable`` is a kernel without what it speaks of, ``not-run`` has no result.
    Of a race: ``shown`` and ``not-shown``. Of a mutant: from ``caught`` on.
    """

    PASSED = "passed"
    WARNED = "warned"
    FAILED = "failed"
    ERROR = "error"
    SKIPPED = "skipped"
    EXPECTED_FAILURE = "expected-failure"
    NOT_APPLICABLE = "not-applicable"
    NOT_RUN = "not-run"
    SHOWN = "shown"
    NOT_SHOWN = "not-shown"
    CAUGHT = "caught"
    SURVIVED = "survived"
    DOES_NOT_APPLY = "does-not-apply"
    DOES_NOT_BUILD = "does-not-build"
    DOES_NOT_BOOT = "does-not-boot"
    DOES_NOT_LOAD = "does-not-load"


class Model(BaseModel):
    """A part of a report. No field is optional for its reader, and none is unknown."""

    # What has a default is written all the same: a reader may rely on every field.
    model_config = ConfigDict(
        frozen=True, extra="forbid", json_schema_serialization_defaults_required=True
    )


class ErrorFacts(Model):
    """A failure in words: ``kind`` is a class of harness.errors, ``fault`` says whose it is."""

    kind: str
    fault: Literal["kernel", "usage", "harness", "interrupted"]
    message: str
    hint: str | None = None
    details: tuple[str, ...] = ()
    logs: str | None = None


class HostFacts(Model):
    """The machine that ran the command. ``memory_mib`` is what it has in all."""

    system: str
    kernel: str
    cpus: int
    memory_mib: int
    python: str


class KernelFacts(Model):
    """A kernel under test: the spec as typed, the release, and what identifies the build."""

    spec: str
    version: str
    digest: str
    config_digest: str
    compiler: str
    source: str


class ResultBase(Model):
    """What one result came to, and how long it took."""

    id: str
    outcome: CheckOutcome
    seconds: float = Field(ge=0)

    @property
    def group(self) -> str | None:
        """What it is one part of, where results are shown in groups: a test file, a script."""
        return None

    @property
    def is_excused(self) -> bool:
        """Whether it fails nothing, though its outcome says that something is wrong."""
        return False

    def words(self) -> tuple[str, str]:
        """Return what there is to say of it: a line, and the whole text."""
        error: ErrorFacts | None = getattr(self, "error", None)
        if error is not None:
            return error.message, "\n".join((error.message, *error.details))
        detail = getattr(self, "detail", None) or ""
        text = detail if isinstance(detail, str) else "\n".join(detail)
        return text.partition("\n")[0], text


class BaseReport(Model):
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
    results: tuple[ResultBase, ...] = ()


def to_json(report: BaseReport) -> str:
    """Return a report as JSON text, indented, with a newline at its end."""
    return report.model_dump_json(by_alias=True, indent=2) + "\n"
