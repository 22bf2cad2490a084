# SPDX-License-Identifier: GPL-2.0-only
"""The latest results of the rules' tests on each kernel: one file for each build of a kernel.

A run of some tests changes their results and keeps those of all others. Results of a test file that
has changed since are dropped: they were another test's.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from filelock import FileLock
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harness.behaviours.results import RuleOnKernel
from harness.behaviours.rule_tests import name_in_suite
from harness.behaviours.table import Expected
from harness.log import LOGGER
from harness.report.base import CheckOutcome, KernelFacts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from harness.behaviours.table import Rule
    from harness.report.suite_results import TestResult

# The worst first. A test without a result hides nothing that is worse, and nothing that is better
# hides it.
_SEVERITY = (
    CheckOutcome.FAILED,
    CheckOutcome.ERROR,
    CheckOutcome.NOT_RUN,
    CheckOutcome.EXPECTED_FAILURE,
    CheckOutcome.WARNED,
    CheckOutcome.PASSED,
    CheckOutcome.SKIPPED,
    CheckOutcome.NOT_APPLICABLE,
)
_EXPECTED = {
    Expected.PASSED: CheckOutcome.PASSED,
    Expected.EXPECTED_FAILURE: CheckOutcome.EXPECTED_FAILURE,
    Expected.NOT_APPLICABLE: CheckOutcome.NOT_APPLICABLE,
}


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TestRecord(_Model):
    """The last result of one test. ``at`` is ISO 8601, ``file`` the digest of the test's file."""

    __test__ = False

    outcome: CheckOutcome
    seconds: float
    at: str
    file: str
    detail: str | None = None


class KernelHistory(_Model):
    """What is known of one build of a kernel: its tests by name, in the folder of the suite."""

    format: Literal[1] = 1
    kernel: KernelFacts
    tests: dict[str, TestRecord] = Field(default_factory=dict)

    @property
    def at(self) -> str:
        """When the last of its tests ended, ISO 8601."""
        return max((test.at for test in self.tests.values()), default="")


@dataclass(frozen=True, kw_only=True)
class History:
    """The folder of all records. ``suite`` is the folder of the behaviour tests."""

    folder: Path
    suite: Path

    def kernels(self) -> tuple[KernelHistory, ...]:
        """Return what is known, the kernel that was tested last first."""
        paths = sorted(self.folder.glob("*.json")) if self.folder.is_dir() else []
        found = [known for path in paths if (known := _read(path)) is not None]
        return tuple(sorted(found, key=lambda known: known.at, reverse=True))

    def seconds(self, digests: Iterable[str]) -> Mapping[str, float]:
        """Return how long each test took when it last ran on one of those kernels.

        Where none ran on any of them, on the kernel that was tested last.
        """
        paths = [path for each in digests if (path := self._file(each)).is_file()]
        if not paths and self.folder.is_dir():
            written = sorted(self.folder.glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
            paths = written[-1:]
        found = (known for path in paths if (known := _read(path)) is not None)
        return {name: test.seconds for known in found for name, test in known.tests.items()}

    def record(
        self, results: Sequence[TestResult], kernels: Iterable[KernelFacts], *, at: str
    ) -> None:
        """Keep the results of a run that ended ``at``, an ISO 8601 time.

        Raises OSError when the folder cannot be written.
        """
        for known in self.of_run(results, kernels, at=at):
            if known.tests:
                self._merge(known.kernel, known.tests)

    def of_run(
        self, results: Sequence[TestResult], kernels: Iterable[KernelFacts], *, at: str
    ) -> tuple[KernelHistory, ...]:
        """Return the results on each kernel of a run that ended ``at``, an ISO 8601 time.

        A result without a kernel, of a worker that crashed, is that of the run's only kernel. One
        of a kernel that a test wanted with more options is that of the kernel it is made from.
        """
        known = {kernel.digest: kernel for kernel in kernels}
        only = next(iter(known)) if len(known) == 1 else None
        found: dict[str, dict[str, TestRecord]] = {digest: {} for digest in known}
        for result in results:
            name, named = _without_kernel(name_in_suite(result.id), known.values())
            digest = result.kernel_digest or only
            if digest not in found:
                digest = named
            made = self._record_of(result, at)
            if digest is not None and made is not None:
                found[digest][name] = made
        return tuple(
            KernelHistory(kernel=kernel, tests=found[digest]) for digest, kernel in known.items()
        )

    def _file(self, digest: str) -> Path:
        return self.folder / f"{digest}.json"

    def _record_of(self, result: TestResult, at: str) -> TestRecord | None:
        path = self.suite / name_in_suite(result.id).partition("::")[0]
        if "::" not in result.id or not path.is_file():
            return None
        return TestRecord(
            outcome=result.outcome,
            seconds=result.seconds,
            at=at,
            file=_digest(path),
            detail=result.detail,
        )

    def _merge(self, kernel: KernelFacts, tests: Mapping[str, TestRecord]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self._file(kernel.digest)
        files = {name.partition("::")[0]: test.file for name, test in tests.items()}
        with FileLock(path.with_suffix(".lock")):
            # What cannot be read now may be whole: an OSError must not replace it.
            before = _parsed(path, path.read_bytes()) if path.exists() else None
            kept = {
                name: test
                for name, test in (before.tests if before is not None else {}).items()
                if files.get(name.partition("::")[0], test.file) == test.file
            }
            made = KernelHistory(kernel=kernel, tests={**kept, **tests})
            aside = path.with_suffix(f".{os.getpid()}")
            try:
                aside.write_text(made.model_dump_json(indent=1) + "\n", encoding="utf-8")
                aside.replace(path)
            finally:
                with contextlib.suppress(OSError):
                    aside.unlink(missing_ok=True)


def on_kernel(rule: Rule, tests: Sequence[str], known: KernelHistory) -> RuleOnKernel:
    """Return a rule's outcome on a kernel: the worst of its tests."""
    records = [_worst_record(test, known) for test in tests]
    outcome = worst(record.outcome if record else CheckOutcome.NOT_RUN for record in records)
    expectation = rule.expected(known.kernel.version)
    detail: str | None
    if outcome is CheckOutcome.NOT_RUN:
        missing = records.count(None)
        detail = f"{missing} of its {len(tests)} tests did not run" if tests else "it has no test"
    else:
        detail = next(record.detail for record in records if record and record.outcome is outcome)
    return RuleOnKernel(
        version=known.kernel.version,
        digest=known.kernel.digest,
        source=known.kernel.source,
        outcome=_of_rule(outcome),
        expected=_EXPECTED[expectation.outcome if expectation else Expected.PASSED],
        detail=detail,
        at=max((record.at for record in records if record is not None), default=None),
    )


def worst(outcomes: Iterable[CheckOutcome]) -> CheckOutcome:
    """Return the worst of some outcomes; of none, that nothing was run."""
    return min(outcomes, key=_SEVERITY.index, default=CheckOutcome.NOT_RUN)


def outcome_of(test: str, known: KernelHistory) -> CheckOutcome:
    """Return the latest outcome of a test on a kernel, the worst of its parameters."""
    record = _worst_record(test, known)
    return CheckOutcome.NOT_RUN if record is None else record.outcome


def seconds_of(tests: Sequence[str], known: KernelHistory) -> float:
    """Return how long the tests took when they last ran on a kernel."""
    names = {name for test in tests for name in _names(test, known)}
    return sum(known.tests[name].seconds for name in names)


def _worst_record(test: str, known: KernelHistory) -> TestRecord | None:
    records = (known.tests[name] for name in _names(test, known))
    return min(records, key=lambda record: _SEVERITY.index(record.outcome), default=None)


def _names(test: str, known: KernelHistory) -> list[str]:
    return [name for name in known.tests if name.partition("[")[0] == test]


def _of_rule(outcome: CheckOutcome) -> CheckOutcome:
    """A test skips where its kernel has nothing to test; the rule then does not apply there."""
    return CheckOutcome.NOT_APPLICABLE if outcome is CheckOutcome.SKIPPED else outcome


def _without_kernel(name: str, kernels: Iterable[KernelFacts]) -> tuple[str, str | None]:
    """Return a test's name without the kernel among its parameters, and that kernel's digest.

    The parameter is the kernel's spec, and after it the options that the test adds: ``6.1+debug``.
    """
    test, _, params = name.removesuffix("]").partition("[")
    for kernel in kernels:
        pattern = rf"(?:(.+)-)?{re.escape(kernel.spec)}(?:\+[^+]+)*(?:-(.+))?"
        match = re.fullmatch(pattern, params)
        if match is not None:
            others = "-".join(filter(None, match.groups()))
            return (f"{test}[{others}]" if others else test), kernel.digest
    return name, None


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _read(path: Path) -> KernelHistory | None:
    try:
        content = path.read_bytes()
    except OSError as error:
        LOGGER.warning(
            "the record of earlier results %s cannot be read (%s), and is left out",
            path,
            error.strerror,
        )
        return None
    return _parsed(path, content)


def _parsed(path: Path, content: bytes) -> KernelHistory | None:
    try:
        return KernelHistory.model_validate_json(content)
    except ValidationError:
        LOGGER.warning("the record of earlier results %s is damaged, and is left out", path)
        return None
