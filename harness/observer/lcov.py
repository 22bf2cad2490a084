# SPDX-License-Identifier: GPL-2.0-only
"""Coverage as a tracefile of lcov (geninfo(1)), which genhtml and most CI systems read."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from harness.observer.coverage import sides_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.observer.coverage import Coverage, FileCoverage

_NOT_IN_A_NAME = re.compile(r"\W+")


def to_lcov(coverage: Coverage) -> str:
    """Return the tracefile; files have the kernel's names.

    A side of a branch that the counters do not show is left out.
    """
    lines = [line for file in coverage.files for line in _file(file)]
    title = _NOT_IN_A_NAME.sub("_", coverage.kernel).strip("_")
    return "".join(f"{line}\n" for line in (f"TN:{title}", *lines))


def _file(file: FileCoverage) -> Iterator[str]:
    yield f"SF:{file.name}"
    for function in file.functions:
        yield f"FN:{function.line},{function.name}"
    for function in file.functions:
        yield f"FNDA:{function.count},{function.name}"
    yield f"FNF:{len(file.functions)}"
    yield f"FNH:{file.functions_run}"
    for number, branch in enumerate(file.branches):
        if branch.passes is None or branch.jumps is None:
            continue
        for side, count in enumerate((branch.passes, branch.jumps)):
            yield f"BRDA:{branch.line},{number},{side},{count if branch.ran else '-'}"
    sides = sides_of(file.branches)
    yield f"BRF:{sides.known}"
    yield f"BRH:{sides.taken}"
    for line in file.lines:
        yield f"DA:{line.line},{line.count}"
    yield f"LF:{len(file.lines)}"
    yield f"LH:{file.lines_run}"
    yield "end_of_record"
