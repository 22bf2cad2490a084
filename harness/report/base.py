# SPDX-License-Identifier: GPL-2.0-only
"""What all results and reports share: outcomes, and the facts of host, kernel and failure."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from harness.report.text import all_writable, writable_fields

if TYPE_CHECKING:
    from collections.abc import Mapping

SCHEMA_VERSION: Literal[1] = 1


class Outcome(StrEnum):
    """The outcome of a command: exit code 0, 1, or another."""

    PASSED = "passed"
    FAILED = "failed"
    ERROR = "error"


class CheckOutcome(StrEnum):
    """The outcome of one result. ``error``: the harness or the host failed, so nothing was judged.

    Of a rule: ``not-applicable`` on a kernel without the feature, ``not-run`` without a result. Of
    a race: ``shown`` and ``not-shown``. Of a mutant: ``caught`` and those after it.
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
    UNCOVERED = "uncovered"
    EQUIVALENT = "equivalent"


class Model(BaseModel):
    """A part of a report. Every field is always written, and no other."""

    # Fields with a default are required in the schema: a reader may rely on all of them.
    model_config = ConfigDict(
        frozen=True, extra="forbid", json_schema_serialization_defaults_required=True
    )

    @model_validator(mode="before")
    @classmethod
    def _writable(cls, given: Any) -> Any:
        """Take any text: a name that is not UTF-8 must not lose all results."""
        if isinstance(given, dict):
            return writable_fields(given)
        if isinstance(given, BaseModel | str | bytes):
            return given
        # Any object with such attributes: KernelFacts is made of a kernel.
        names = [name for name in cls.model_fields if hasattr(given, name)]
        return {name: all_writable(getattr(given, name)) for name in names}

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy with these fields changed; their texts are made writable."""
        changed = {name: all_writable(value) for name, value in (update or {}).items()}
        return super().model_copy(update=changed, deep=deep)


class ErrorFacts(Model):
    """A failure: ``kind`` is a class of harness.errors, ``fault`` says whose fault it is."""

    kind: str
    fault: Literal["kernel", "usage", "harness", "interrupted"]
    message: str
    hint: str | None = None
    details: tuple[str, ...] = ()
    logs: str | None = None


class HostFacts(Model):
    """The machine that ran the command. ``memory_mib`` is all of its memory."""

    system: str
    kernel: str
    cpus: int
    memory_mib: int
    python: str


class KernelFacts(Model):
    """A kernel under test: the spec that was given, the release, and what identifies the build."""

    spec: str
    version: str
    digest: str
    config_digest: str
    compiler: str
    source: str


class CiOutcome(StrEnum):
    """The outcomes that JUnit and KTAP know."""

    PASSED = "passed"
    FAILED = "failed"
    EXCUSED = "excused"
    ERROR = "error"
    SKIPPED = "skipped"


_FAILED = frozenset(
    {CheckOutcome.FAILED, CheckOutcome.SURVIVED, CheckOutcome.UNCOVERED, CheckOutcome.SHOWN}
)
_ERRORS = frozenset(each for each in CheckOutcome if each.name.startswith(("ERROR", "DOES_NOT")))
_SKIPPED = frozenset(
    {
        CheckOutcome.SKIPPED,
        CheckOutcome.NOT_APPLICABLE,
        CheckOutcome.NOT_RUN,
        CheckOutcome.EQUIVALENT,
    }
)


class ResultBase(Model):
    """One result: its outcome and how long it took."""

    id: str
    outcome: CheckOutcome
    seconds: float = Field(ge=0)

    @property
    def group(self) -> str | None:
        """The test file or script that it is a part of; None where results have no groups."""
        return None

    @property
    def is_excused(self) -> bool:
        """Whether a failure was expected, so that the command does not fail by it."""
        return False

    @property
    def ci_outcome(self) -> CiOutcome:
        """Its outcome as JUnit and KTAP count it."""
        if self.outcome is CheckOutcome.EXPECTED_FAILURE:
            return CiOutcome.EXCUSED
        if self.outcome in _FAILED:
            return CiOutcome.EXCUSED if self.is_excused else CiOutcome.FAILED
        if self.outcome in _SKIPPED:
            return CiOutcome.SKIPPED
        return CiOutcome.ERROR if self.outcome in _ERRORS else CiOutcome.PASSED

    def words(self) -> tuple[str, str]:
        """Return its message in one line, and the whole text."""
        error: ErrorFacts | None = getattr(self, "error", None)
        if error is not None:
            return error.message, "\n".join((error.message, *error.details))
        detail = getattr(self, "detail", None) or ""
        text = detail if isinstance(detail, str) else "\n".join(detail)
        return text.partition("\n")[0], text


class BaseReport(Model):
    """The report of a command.

    ``kernel`` is set when the command ran on one kernel; ``kernels`` has all of them.
    ``accelerator`` is kvm or tcg, None for a command without guests. ``partial``: the command ended
    before it had all of its results. ``argv`` are the words that run it again, with what was chosen
    by chance; ``qemu`` is the version of QEMU, None for a command without guests.
    """

    # A reader looks at it before anything else, so it is always written.
    schema_version: Literal[1] = Field(default=SCHEMA_VERSION, alias="schema")
    command: str
    outcome: Outcome
    partial: bool = False
    argv: tuple[str, ...] = ()
    harness: str
    host: HostFacts
    kernel: KernelFacts | None = None
    kernels: tuple[KernelFacts, ...] = ()
    accelerator: Literal["kvm", "tcg"] | None = None
    accelerator_reason: str | None = None
    qemu: str | None = None
    seconds: float = Field(ge=0)
    error: ErrorFacts | None = None
    results: tuple[ResultBase, ...] = ()


def to_json(report: BaseReport) -> str:
    """Return a report as JSON text, indented, with a newline at its end."""
    return report.model_dump_json(by_alias=True, indent=2) + "\n"
