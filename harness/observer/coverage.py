# SPDX-License-Identifier: GPL-2.0-only
"""Coverage of a kernel's source files: made of counters, saved, merged, compared."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from harness.errors import UsageError
from harness.inputs import read_file, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from harness.observer.code_map import Branch, Code, CodeMap

FORMAT: Literal["klp-harness coverage 1"] = "klp-harness coverage 1"

BOOT = "boot of a guest"
"""The name under which the boots of templates are counted."""

OTHERS = "further guests of tests"
"""The name under which guests are counted that a test started beside its own."""

_MOST_BYTES = 256 << 20


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LineCoverage(_Model):
    """A line with code: how often the most frequent of its instructions ran.

    ``partly``: some of its instructions ran, and not all.
    """

    line: int
    count: int
    partly: bool = False


class FunctionCoverage(_Model):
    """A function, out of line or inlined: its first line with code, and how often it was entered.

    Of one that is inlined everywhere, the count is that of its most frequent instruction.
    """

    name: str
    line: int
    count: int


class BranchCoverage(_Model):
    """A conditional jump of the compiled code: how often it went on, and how often it jumped.

    Both are None when the counters do not show it: other code leads to both places. ``warns``: one
    side is the trap of a WARN or a BUG and nothing else.
    """

    line: int
    function: str
    passes: int | None
    jumps: int | None
    warns: bool = False

    @property
    def ran(self) -> bool:
        """Whether it ran at all."""
        return self.passes is None or self.jumps is None or self.passes + self.jumps > 0

    @property
    def never(self) -> str | None:
        """What it never did, ``jumps`` or ``goes on``; None for both sides seen, or not run."""
        if self.passes is None or self.jumps is None or not self.ran:
            return None
        if self.jumps and self.passes:
            return None
        return "goes on" if self.jumps else "jumps"


class FileCoverage(_Model):
    """The coverage of one source file, by the kernel's name for it."""

    name: str
    text: tuple[str, ...]
    lines: tuple[LineCoverage, ...]
    functions: tuple[FunctionCoverage, ...]
    branches: tuple[BranchCoverage, ...]

    @property
    def lines_run(self) -> int:
        """How many of its lines ran."""
        return sum(each.count > 0 for each in self.lines)

    @property
    def functions_run(self) -> int:
        """How many of its functions ran."""
        return sum(each.count > 0 for each in self.functions)


class SeenTest(_Model):
    """Which lines ran in the guests of one test; ``name`` is pytest's, or says what else it was."""

    name: str
    lines: dict[str, tuple[int, ...]]


class Coverage(_Model):
    """The coverage of one run, or of several that were merged, on one kernel.

    ``own`` are the names of the files of the livepatch itself. ``notes`` say in words what is
    missing.
    """

    format: Literal["klp-harness coverage 1"] = FORMAT
    kernel: str
    digest: str
    instructions: int
    instructions_run: int
    files: tuple[FileCoverage, ...]
    own: tuple[str, ...] = ()
    tests: tuple[SeenTest, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def test_count(self) -> int:
        """How many tests ran; the boot of guests is none."""
        return sum(test.name not in (BOOT, OTHERS) for test in self.tests)

    def lines_run(self) -> frozenset[tuple[str, int]]:
        """Return file and number of each line that ran."""
        return frozenset(
            (file.name, line.line) for file in self.files for line in file.lines if line.count
        )

    def lines(self) -> frozenset[tuple[str, int]]:
        """Return file and number of each line that has code."""
        return frozenset((file.name, line.line) for file in self.files for line in file.lines)


class Sides(NamedTuple):
    """How many sides of branches were taken, of those that the counters show."""

    taken: int
    known: int


def sides_of(branches: Iterable[BranchCoverage]) -> Sides:
    """Count the sides of branches; those that did not run count as not taken."""
    taken = known = 0
    for branch in branches:
        if branch.passes is not None and branch.jumps is not None:
            known += 2
            taken += (branch.passes > 0) + (branch.jumps > 0)
    return Sides(taken, known)


def make_coverage(
    code_map: CodeMap,
    counters: Mapping[str, Mapping[int, int]],
    *,
    kernel: str,
    notes: Sequence[str] = (),
) -> Coverage:
    """Return the coverage that counters show: by test, how often the code at an address ran."""
    total: Counter[int] = Counter()
    for counts in counters.values():
        total.update(counts)
    by_address = {code.address: code for code in code_map.codes}
    tests = (
        SeenTest(name=name, lines=_lines_of(by_address, counts))
        for name, counts in sorted(counters.items())
    )
    return Coverage(
        kernel=kernel,
        digest=code_map.digest,
        instructions=len(code_map.codes),
        instructions_run=sum(total[code.address] > 0 for code in code_map.codes),
        files=tuple(
            FileCoverage(
                name=file.name,
                text=file.text,
                lines=tuple(_lines(code_map, file.name, total)),
                functions=tuple(_functions(code_map, file.name, total)),
                branches=tuple(_branches(code_map, by_address, file.name, total)),
            )
            for file in code_map.files
        ),
        tests=tuple(tests),
        notes=tuple(notes),
    )


def _lines_of(
    by_address: Mapping[int, Code], counts: Mapping[int, int]
) -> dict[str, tuple[int, ...]]:
    found: dict[str, set[int]] = {}
    for address, count in counts.items():
        code = by_address.get(address)
        if count and code is not None:
            for place in code.places:
                found.setdefault(place.file, set()).add(place.line)
    return {name: tuple(sorted(lines)) for name, lines in sorted(found.items())}


def _lines(code_map: CodeMap, name: str, total: Mapping[int, int]) -> Iterator[LineCoverage]:
    counts: dict[int, list[int]] = {}
    for code in code_map.codes:
        for line in {place.line for place in code.places if place.file == name}:
            each = counts.setdefault(line, [])
            # The trap of a WARN that did not run does not make its line one that ran partly.
            if not code.warns or total.get(code.address, 0):
                each.append(total.get(code.address, 0))
    for line, found in sorted(counts.items()):
        ran = sum(count > 0 for count in found)
        yield LineCoverage(line=line, count=max(found, default=0), partly=0 < ran < len(found))


def _functions(
    code_map: CodeMap, name: str, total: Mapping[int, int]
) -> Iterator[FunctionCoverage]:
    line: dict[str, int] = {}
    most: dict[str, int] = {}
    entry: dict[str, int] = {}
    for code in code_map.codes:
        for depth, place in enumerate(code.places):
            if place.file != name:
                continue
            count = total.get(code.address, 0)
            known = line.get(place.function)
            line[place.function] = place.line if known is None else min(known, place.line)
            most[place.function] = max(most.get(place.function, 0), count)
            # The first instruction out of line is the entry: cold parts lie elsewhere, and their
            # first line is a later one.
            if depth == len(code.places) - 1 and place.line == line[place.function]:
                entry.setdefault(place.function, count)
    for function in sorted(line, key=lambda each: (line[each], each)):
        count = entry.get(function, 0) or most[function]
        yield FunctionCoverage(name=function, line=line[function], count=count)


def _branches(
    code_map: CodeMap, by_address: Mapping[int, Code], name: str, total: Mapping[int, int]
) -> Iterator[BranchCoverage]:
    for branch in code_map.branches:
        place = by_address[branch.address].places[0]
        if place.file != name:
            continue
        passes, jumps = _taken(branch, total)
        ends = (by_address.get(branch.next), by_address.get(branch.target))
        yield BranchCoverage(
            line=place.line,
            function=place.function,
            passes=passes,
            jumps=jumps,
            warns=any(code is not None and code.warns for code in ends),
        )


def _taken(branch: Branch, total: Mapping[int, int]) -> tuple[int | None, int | None]:
    ran = total.get(branch.address, 0)
    after, there = total.get(branch.next, 0), total.get(branch.target, 0)
    # An interrupted instruction is counted again: the difference may be negative by a few.
    if branch.alone_next:
        return after, max(0, ran - after)
    if branch.alone_target:
        return max(0, ran - there), there
    if not after:
        return 0, ran
    if not there:
        return ran, 0
    return (None, None) if ran else (0, 0)


def read_coverage(path: Path) -> Coverage:
    """Return the coverage in a file; raises UsageError when it is none."""
    data = read_file(path, "the coverage", at_most=_MOST_BYTES)
    try:
        return Coverage.model_validate_json(data)
    except ValidationError as error:
        raise UsageError(
            f"{shown(path)} is no coverage that this version of klp-harness wrote",
            hint="`klp-harness test --coverage FILE` writes one",
        ) from error
