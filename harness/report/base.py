# SPDX-License-Identifier: GPL-2.0-only
"""What all results have: an id, an outcome, a duration; and the facts of host, kernel, failure."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


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
