# SPDX-License-Identifier: GPL-2.0-only
"""Which tests run which lines of a kernel: what runs with --coverage have seen, by kernel.

Each build of a kernel has one file below the cache, which a run with coverage brings up to date
(`keep_test_lines`), and which is read with `known_test_lines`. A run of some tests changes what is
known of them and keeps the rest. What was seen of a test file that has changed since is left out.

    known = known_test_lines(kernel.digest, store=runs.store(), suite=folder)
    if known is not None:
        known.tests_of([("kernel/livepatch/core.c", 1050)])   # {"enable/test_x.py::test_y": 1, ...}
"""

from __future__ import annotations

import bisect
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harness.deadline import Deadline
from harness.log import LOGGER
from harness.observer.coverage import BOOT, OTHERS
from harness.vm.host.files import locked, replace_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from harness.observer.coverage import Coverage
    from harness.vm.host.cache import Store

KIND = "test-lines"

_PREFIX = "tests/behaviours/"
_LOCK_S = 30.0
# A line without code, as a comment or a declaration, is taken for the last line with code before
# it, unless that is farther away.
_NEAR = 3

Place = tuple[str, int]
"""A file, by the kernel's own name for it, and the number of a line."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Seen(_Model):
    # The digest of the test's file, and the lines that it ran.
    file: str
    lines: dict[str, tuple[int, ...]]


class _Known(_Model):
    format: Literal[1] = 1
    code: dict[str, tuple[int, ...]] = Field(default_factory=dict)
    tests: dict[str, _Seen] = Field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class TestLines:
    """The lines that tests run on one build of a kernel.

    ``code`` has the numbers of all lines with code of each file, in order. ``tests`` has, by the
    test's name in the folder of the suite and without parameters, the lines that it ran.
    """

    __test__ = False

    code: Mapping[str, tuple[int, ...]]
    tests: Mapping[str, Mapping[str, frozenset[int]]]

    def with_code(self, places: Iterable[Place]) -> frozenset[Place]:
        """Return the lines with code for some lines: their own, or the last one just before."""
        return frozenset(near for place in places if (near := self._near(place)) is not None)

    def tests_of(self, places: Iterable[Place]) -> dict[str, int]:
        """Return the tests that run one of these lines or more, and how many of them.

        Those that run the most come first; among equals, those that run the fewest lines in all,
        since they are about less. Lines without code count as `with_code` says.
        """
        wanted = self.with_code(places)
        found = {
            name: count
            for name, lines in self.tests.items()
            if (count := sum(line in lines.get(file, ()) for file, line in wanted))
        }

        def rank(name: str) -> tuple[int, int, str]:
            return -found[name], sum(len(lines) for lines in self.tests[name].values()), name

        return {name: found[name] for name in sorted(found, key=rank)}

    def _near(self, place: Place) -> Place | None:
        file, line = place
        numbers = self.code.get(file, ())
        at = bisect.bisect_right(numbers, line)
        return (file, numbers[at - 1]) if at and line - numbers[at - 1] <= _NEAR else None


def keep_test_lines(coverage: Coverage, *, store: Store, suite: Path) -> None:
    """Keep which lines each test of a suite ran, for the kernel that the coverage is of.

    Tests of other folders are left out. Raises OSError when it cannot be written, HarnessError
    when another process writes for too long.
    """
    covered = {file.name: tuple(line.line for line in file.lines) for file in coverage.files}
    seen = _by_name(coverage, suite)
    path = _path(store, coverage.digest)
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(
        path.with_suffix(".lock"),
        Deadline.after(_LOCK_S),
        busy=lambda: f"another process writes {path}",
    ):
        known = _read(path)
        tests = dict(known.tests)
        for name, test in seen.items():
            before = tests.get(name)
            # What was seen of other files, with the same test, still holds.
            kept = {} if before is None or before.file != test.file else before.lines
            others = {file: lines for file, lines in kept.items() if file not in covered}
            tests[name] = test.model_copy(update={"lines": {**others, **test.lines}})
        made = _Known(code={**known.code, **covered}, tests=tests)
        replace_text(path, made.model_dump_json() + "\n")


def known_test_lines(digest: str, *, store: Store, suite: Path) -> TestLines | None:
    """Return which lines the tests of a suite run on the kernel with a digest; None: not known.

    Tests that have changed since they were observed are left out.
    """
    known = _read(_path(store, digest))
    files: dict[str, str | None] = {}
    tests = {}
    for name, seen in known.tests.items():
        file = name.partition("::")[0]
        if file not in files:
            files[file] = _digest(suite / file)
        if files[file] == seen.file:
            tests[name] = {each: frozenset(lines) for each, lines in seen.lines.items()}
    return TestLines(code=known.code, tests=tests) if tests else None


def _by_name(coverage: Coverage, suite: Path) -> dict[str, _Seen]:
    """Return what each test ran, all its parameters together."""
    found: dict[str, dict[str, set[int]]] = {}
    for test in coverage.tests:
        if test.name in (BOOT, OTHERS):
            continue
        lines = found.setdefault(test.name.rpartition(_PREFIX)[2].partition("[")[0], {})
        for file, numbers in test.lines.items():
            lines.setdefault(file, set()).update(numbers)
    return {
        name: _Seen(file=digest, lines={file: tuple(sorted(n)) for file, n in lines.items()})
        for name, lines in found.items()
        if (digest := _digest(suite / name.partition("::")[0])) is not None
    }


def _path(store: Store, digest: str) -> Path:
    return store.root / KIND / f"{digest}.json"


def _digest(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    except OSError:
        return None


def _read(path: Path) -> _Known:
    try:
        return _Known.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return _Known()
    except (OSError, ValidationError):
        LOGGER.warning("what is known of the lines that tests run, %s, cannot be read", path)
        return _Known()
