# SPDX-License-Identifier: GPL-2.0-only
"""Coverages of several runs, or of several parts of one: added, joined, compared."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from harness.errors import UsageError
from harness.observer.coverage import FileCoverage, LineCoverage, SeenTest

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from harness.observer.coverage import Coverage


def joined(first: Coverage, second: Coverage) -> Coverage:
    """Return the coverage of a kernel and that of a livepatch, whose files come first, as one.

    What tests ran is added up by their names.
    """
    tests = {test.name: dict(test.lines) for test in first.tests}
    for test in second.tests:
        tests.setdefault(test.name, {}).update(test.lines)
    return first.model_copy(
        update={
            "instructions": first.instructions + second.instructions,
            "instructions_run": first.instructions_run + second.instructions_run,
            "files": (*second.files, *first.files),
            "own": (*(file.name for file in second.files), *first.own),
            "tests": tuple(SeenTest(name=name, lines=tests[name]) for name in sorted(tests)),
            "notes": (*first.notes, *second.notes),
        }
    )


class Difference(NamedTuple):
    """What two coverages of the same code differ in: lines that one of them alone has."""

    only_first: tuple[tuple[str, int], ...]
    only_second: tuple[tuple[str, int], ...]


def difference(first: Coverage, second: Coverage) -> Difference:
    """Compare two coverages; raises UsageError when they are of different code."""
    require_same_code(first, second)
    ran, then = first.lines_run(), second.lines_run()
    return Difference(tuple(sorted(ran - then)), tuple(sorted(then - ran)))


def by_luck(runs: Sequence[Coverage]) -> dict[tuple[str, int], int]:
    """Return the lines that some of the runs reach and others do not, and in how many runs.

    Raises UsageError when they are of different code.
    """
    for other in runs[1:]:
        require_same_code(runs[0], other)
    times = Counter(line for each in runs for line in each.lines_run())
    return {line: count for line, count in sorted(times.items()) if count < len(runs)}


def require_same_code(first: Coverage, second: Coverage) -> None:
    """Raise UsageError unless both are of the same files of the same sources."""
    ours = {file.name: file.text for file in first.files}
    theirs = {file.name: file.text for file in second.files}
    if ours != theirs:
        raise UsageError(
            f"the coverages are of different code: {first.kernel}, and {second.kernel}",
            hint="compare runs on one kernel, with the same --cover",
        )


def merge(runs: Sequence[Coverage]) -> Coverage:
    """Return the sum of runs on one kernel; raises UsageError when they are of different code."""
    first = runs[0]
    for other in runs[1:]:
        require_same_code(first, other)
        if other.digest != first.digest:
            raise UsageError(
                "the coverages are of two builds of the kernel: their branches are not the same"
            )
    tests: dict[str, dict[str, set[int]]] = {}
    for run in runs:
        for test in run.tests:
            for name, lines in test.lines.items():
                tests.setdefault(test.name, {}).setdefault(name, set()).update(lines)
    return first.model_copy(
        update={
            "instructions_run": max(run.instructions_run for run in runs),
            "files": tuple(
                _merged([run.files[number] for run in runs]) for number in range(len(first.files))
            ),
            "tests": tuple(
                SeenTest(
                    name=name,
                    lines={file: tuple(sorted(lines)) for file, lines in sorted(found.items())},
                )
                for name, found in sorted(tests.items())
            ),
            "notes": tuple(dict.fromkeys(note for run in runs for note in run.notes)),
        }
    )


def _merged(files: Sequence[FileCoverage]) -> FileCoverage:
    return FileCoverage(
        name=files[0].name,
        text=files[0].text,
        lines=tuple(
            LineCoverage(
                line=each[0].line,
                count=sum(one.count for one in each),
                partly=all(one.partly or not one.count for one in each)
                and any(one.count for one in each),
            )
            for each in zip(*(file.lines for file in files), strict=True)
        ),
        functions=tuple(
            each[0].model_copy(update={"count": sum(one.count for one in each)})
            for each in zip(*(file.functions for file in files), strict=True)
        ),
        branches=tuple(
            each[0].model_copy(
                update={
                    "passes": _sum(one.passes for one in each),
                    "jumps": _sum(one.jumps for one in each),
                }
            )
            for each in zip(*(file.branches for file in files), strict=True)
        ),
    )


def _sum(counts: Iterable[int | None]) -> int | None:
    total = 0
    for count in counts:
        if count is None:
            return None
        total += count
    return total
