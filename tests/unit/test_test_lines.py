# SPDX-License-Identifier: GPL-2.0-only
"""Which tests run which lines: kept by kernel, brought up to date, forgotten with the test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.observer.coverage import BOOT, Coverage, FileCoverage, LineCoverage, SeenTest
from harness.observer.test_lines import KIND, TestLines, keep_test_lines, known_test_lines
from harness.vm.host.cache import Store

if TYPE_CHECKING:
    from pathlib import Path

CORE, PATCH = "kernel/livepatch/core.c", "kernel/livepatch/patch.c"
CODE = (5, 6, 20)


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """A suite of two files of tests."""
    for name in ("a", "b"):
        path = tmp_path / f"suite/sub/test_{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# {name}")
    return tmp_path / "suite"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty cache."""
    return Store(tmp_path / "cache")


def covered(tests: dict[str, tuple[int, ...]], *, digest: str = "d", file: str = CORE) -> Coverage:
    """Return the coverage of a file in which tests ran these lines."""
    return Coverage(
        kernel="6.1",
        digest=digest,
        instructions=0,
        instructions_run=0,
        files=(
            FileCoverage(
                name=file,
                text=(),
                lines=tuple(LineCoverage(line=line, count=0) for line in CODE),
                functions=(),
                branches=(),
            ),
        ),
        tests=tuple(
            SeenTest(name=name, lines={file: lines} if lines else {})
            for name, lines in tests.items()
        ),
    )


def known(store: Store, suite: Path, digest: str = "d") -> TestLines:
    """Return what is known, which has to be something."""
    found = known_test_lines(digest, store=store, suite=suite)
    assert found is not None
    return found


def test_tests_of_a_line(store: Store, suite: Path) -> None:
    """The tests of lines are found by name; most lines first, then the one that runs least else.

    All parameters of a test are one test, a line without code is the last one before it, and the
    boot of a guest is no test.
    """
    coverage = covered(
        {
            "/x/tests/behaviours/sub/test_a.py::test_one[6.1-x]": (5,),
            "tests/behaviours/sub/test_a.py::test_one[6.1-y]": (6,),
            "tests/behaviours/sub/test_a.py::test_two[6.1]": (5, 20),
            "tests/behaviours/sub/test_b.py::test_three": (5,),
            "tests/guest/test_other.py::test_x": (5,),
            BOOT: (5,),
        }
    )
    keep_test_lines(coverage, store=store, suite=suite)
    found = known(store, suite)
    one, two, three = (
        "sub/test_a.py::test_one",
        "sub/test_a.py::test_two",
        "sub/test_b.py::test_three",
    )
    assert list(found.tests_of([(CORE, 5)]).items()) == [(three, 1), (one, 1), (two, 1)]
    assert list(found.tests_of([(CORE, 5), (CORE, 8)]).items()) == [(one, 2), (three, 1), (two, 1)]
    assert found.tests_of([(CORE, 22)]) == {two: 1}
    assert found.tests_of([(CORE, 24), (CORE, 4), (PATCH, 5)]) == {}
    assert found.with_code([(CORE, 7), (CORE, 4)]) == {(CORE, 6)}


def test_brought_up_to_date(store: Store, suite: Path) -> None:
    """A later run changes what is known of its tests and files, and keeps the rest."""
    test, other = "sub/test_a.py::test_one", "sub/test_b.py::test_two"
    keep_test_lines(covered({test: (5,), other: (6,)}), store=store, suite=suite)
    keep_test_lines(covered({test: (6,)}, file=PATCH), store=store, suite=suite)
    keep_test_lines(covered({test: (20,)}), store=store, suite=suite)
    found = known(store, suite)
    assert found.tests[test] == {CORE: {20}, PATCH: {6}}
    assert found.tests[other] == {CORE: {6}}
    assert known_test_lines("another", store=store, suite=suite) is None


def test_a_changed_test_is_not_known(store: Store, suite: Path) -> None:
    """What was seen of a test's earlier text says nothing of the test, nor is it added to."""
    test, other = "sub/test_a.py::test_one", "sub/test_b.py::test_two"
    keep_test_lines(covered({test: (5,), other: (6,)}), store=store, suite=suite)
    (suite / "sub/test_a.py").write_text("# another")
    assert set(known(store, suite).tests) == {other}
    keep_test_lines(covered({test: (6,)}, file=PATCH), store=store, suite=suite)
    assert known(store, suite).tests[test] == {PATCH: {6}}
    (suite / "sub/test_a.py").unlink()
    (suite / "sub/test_b.py").unlink()
    assert known_test_lines("d", store=store, suite=suite) is None


def test_a_damaged_file(store: Store, suite: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file that cannot be read is said, and replaced by the next run."""
    test = "sub/test_a.py::test_one"
    keep_test_lines(covered({test: (5,)}), store=store, suite=suite)
    (path,) = (store.root / KIND).glob("*.json")
    path.write_text("{")
    assert known_test_lines("d", store=store, suite=suite) is None
    assert "cannot be read" in caplog.text
    keep_test_lines(covered({test: (6,)}), store=store, suite=suite)
    assert known(store, suite).tests[test] == {CORE: {6}}
