# SPDX-License-Identifier: GPL-2.0-only
"""How many guests run at a time where the user gives no number."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.cli.exits import Terminated
from harness.tools.suite.guest_count import count_tests, guests_for, selected
from harness.tools.suite.pytest_words import PytestWords
from harness.tools.suite.run_suite import _spread

if TYPE_CHECKING:
    from pathlib import Path

TESTS = """\
import pytest

@pytest.mark.parametrize("n", range(5))
def test_a(n):
    assert n

def test_b():
    assert False
"""


@pytest.mark.parametrize(
    ("tests", "guests"),
    [(0, 1), (1, 1), (2, 2), (3, 3), (6, 3), (7, 4), (15, 8), (19, 8), (100, 8), (None, 8)],
)
def test_few_tests_have_few_workers(tests: int | None, guests: int) -> None:
    """A worker takes as long to start as a test takes, so each has two at least."""
    assert guests_for(tests, 8) == guests


def test_each_worker_has_an_option() -> None:
    """The plan of a run counts them, and gives a guest more time where there are many."""
    assert _spread(8, "popen//python=x").count("--tx=popen//python=x") == 8
    assert _spread(1, "") == ["-n", "0"]


@pytest.mark.parametrize(
    ("words", "number"),
    [
        ([], 6),
        (["-k", "test_a"], 5),
        (["-k", "nothing"], 0),
        (["-q", "--tb=short", "-k", "test_b"], 1),
        (["--no-such-option"], None),
    ],
)
def test_the_tests_are_counted(
    words: list[str], number: int | None, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """What -k leaves is counted, and nothing of it is printed, no error of pytest's either."""
    # Each has a name of its own, as the modules of one process need.
    file = tmp_path / f"test_counted_{number}.py"
    file.write_text(TESTS)
    assert selected([*words, f"--rootdir={tmp_path}", str(file)]) == number
    assert capfd.readouterr() == ("", "")


KNOWN = ("transition/test_x.py::test_a[1]", "transition/test_x.py::test_a[2]", "test_y.py::test_b")


@pytest.mark.parametrize(
    ("paths", "number"),
    [
        (["tests/behaviours/transition/test_x.py::test_a"], 2),
        (["/a/tests/behaviours/transition/test_x.py::test_a[2]", "test_y.py::test_b"], 2),
        (["tests/behaviours/test_y.py::test_new[1]"], 1),
    ],
)
def test_tests_that_have_run_are_not_collected(paths: list[str], number: int) -> None:
    """Their number is known from the records; these do not exist, so pytest could not tell."""
    words = PytestWords(words=tuple(paths), paths=tuple(paths), selects=True, names_tests=True)
    assert count_tests(words, paths, known=KNOWN) == number


def test_each_runs_on_each_kernel() -> None:
    """Unless it is named with its parameters, of which the kernel is one then."""
    paths = ("tests/behaviours/test_y.py::test_b", "tests/behaviours/test_y.py::test_b[6.1]")
    words = PytestWords(words=paths, paths=paths, selects=True, names_tests=True)
    assert count_tests(words, paths, known=KNOWN, kernels=3) == 4


def test_others_are_collected(tmp_path: Path) -> None:
    """A test without a record, and a file: pytest counts them. Of a folder nothing is counted."""
    file = tmp_path / "test_counted_once.py"
    file.write_text(TESTS)
    arguments = [f"--rootdir={tmp_path}", str(file)]
    new = PytestWords(paths=("test_y.py::test_new",), selects=True, names_tests=True)
    assert count_tests(new, arguments, known=KNOWN) == 6
    assert count_tests(PytestWords(paths=(str(file),), selects=True), arguments, known=KNOWN) == 6
    assert count_tests(PytestWords(paths=(str(tmp_path),)), arguments, known=KNOWN) is None


def test_a_file_that_cannot_be_read_is_not_counted(tmp_path: Path) -> None:
    """The run itself then reports what is wrong with it."""
    file = tmp_path / "test_broken.py"
    file.write_text("import no_such_module\n")
    assert selected([f"--rootdir={tmp_path}", str(file)]) is None


@pytest.mark.parametrize("signal", [KeyboardInterrupt, Terminated])
def test_an_interrupt_is_not_lost(signal: type[BaseException], tmp_path: Path) -> None:
    """Ctrl-C and SIGTERM during the count end the command."""
    file = tmp_path / f"test_interrupted_{signal.__name__}.py"
    file.write_text(f"from harness.cli.exits import Terminated\nraise {signal.__name__}\n")
    with pytest.raises(signal) as caught:
        selected([f"--rootdir={tmp_path}", str(file)])
    assert caught.type is signal
