# SPDX-License-Identifier: GPL-2.0-only
"""Coverage for a terminal: a table of files, and what was never run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.observer.coverage import sides_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from harness.observer.coverage import Coverage, FileCoverage
    from harness.observer.coverage_sums import Difference

_SOURCE_WIDTH = 70


def table(coverage: Coverage) -> list[str]:
    """Return the table of files, with a sum, and the notes of what is missing."""
    files = coverage.files
    width = max(len("file"), *(len(file.name) for file in files), len("all"))
    rows = [f"{'file':{width}}  {'lines':>19}  {'branch sides':>19}  {'functions':>19}"]
    rows += [_row(file.name, [file], width) for file in files]
    if len(files) > 1:
        rows.append(_row("all", files, width))
    count = coverage.test_count
    rows.append(
        f"{coverage.instructions_run} of {coverage.instructions} instructions ran, in "
        f"{count} {'test' if count == 1 else 'tests'} and the boot of their guests"
    )
    return [*rows, *(f"note: {note}" for note in coverage.notes)]


def _row(name: str, files: Sequence[FileCoverage], width: int) -> str:
    sides = sides_of(branch for file in files for branch in file.branches)
    parts = (
        (sum(file.lines_run for file in files), sum(len(file.lines) for file in files)),
        (sides.taken, sides.known),
        (sum(file.functions_run for file in files), sum(len(file.functions) for file in files)),
    )
    return f"{name:{width}}  " + "  ".join(share(*part) for part in parts)


def share(part: int, whole: int) -> str:
    """Return ``735 of  765  96.1 %``, 19 characters wide."""
    percent = f"{100 * part / whole:.1f} %" if whole else "-"
    return f"{part:4} of {whole:4} {percent:>7}"


def never_run(coverage: Coverage) -> Iterator[str]:
    """Yield the lines that no test ran, with their source, and the functions."""
    for file in coverage.files:
        missing = [line.line for line in file.lines if not line.count]
        if missing:
            yield f"lines of {file.name} that did not run:"
            yield from source_lines(file.text, missing)
    functions = [
        f"{each.name}() of {file.name}"
        for file in coverage.files
        for each in file.functions
        if not each.count
    ]
    if functions:
        yield f"functions that did not run: {', '.join(functions)}"


def source_lines(text: Sequence[str], numbers: Iterable[int]) -> Iterator[str]:
    """Yield lines of a file with their numbers; dots stand where some are left out."""
    last: int | None = None
    for number in numbers:
        if last is not None and number > last + 1:
            yield "      ..."
        source = text[number - 1] if number <= len(text) else ""
        yield f"{number:6}  {source.expandtabs(4)[:_SOURCE_WIDTH].rstrip()}"
        last = number


def one_way(coverage: Coverage) -> Iterator[str]:
    """Yield the branches that ran and only ever went one way, but for those into a WARN."""
    for file in coverage.files:
        seen: dict[int, list[str]] = {}
        for branch in file.branches:
            if branch.never and not branch.warns:
                times = (branch.passes or 0) + (branch.jumps or 0)
                seen.setdefault(branch.line, []).append(f"never {branch.never}, {times} times")
        if seen:
            yield f"branches of {file.name} that only went one way:"
        for line, what in sorted(seen.items()):
            source = file.text[line - 1].strip() if line <= len(file.text) else ""
            text = f"{source[:_SOURCE_WIDTH]:{_SOURCE_WIDTH}}"
            yield f"{line:6}  {text}  {'; '.join(dict.fromkeys(what))}"


def difference_text(found: Difference, first: Coverage, names: tuple[str, str]) -> Iterator[str]:
    """Yield what two coverages differ in; ``names`` are the names of the two."""
    texts = {file.name: file.text for file in first.files}
    for lines, name in ((found.only_first, names[0]), (found.only_second, names[1])):
        if not lines:
            yield f"no line ran in {name} alone"
            continue
        yield f"{len(lines)} lines ran in {name} alone:"
        yield from _by_file(lines, texts)


def luck_text(times: Mapping[tuple[str, int], int], runs: Sequence[Coverage]) -> Iterator[str]:
    """Yield the lines that some runs reach and others do not."""
    if not times:
        yield f"each of the {len(runs)} runs reached the same lines"
        return
    yield f"{len(times)} lines ran in some of the {len(runs)} runs only:"
    texts = {file.name: file.text for file in runs[0].files}
    for (file, line), count in times.items():
        text = texts[file][line - 1].strip() if line <= len(texts[file]) else ""
        yield f"    {file}:{line}  in {count}  {text[:_SOURCE_WIDTH]}"


def _by_file(lines: Iterable[tuple[str, int]], texts: Mapping[str, Sequence[str]]) -> Iterator[str]:
    found: dict[str, list[int]] = {}
    for file, line in lines:
        found.setdefault(file, []).append(line)
    for file, numbers in found.items():
        yield f"  {file}"
        yield from source_lines(texts[file], numbers)
