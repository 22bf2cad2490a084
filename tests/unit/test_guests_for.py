# SPDX-License-Identifier: GPL-2.0-only
"""How many guests run at a time where the user gives no number."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.cli.exits import Terminated
from harness.tools.suite.run_suite import _selected, _spread, guests_for

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
    [(0, 1), (1, 1), (2, 2), (3, 3), (9, 3), (10, 4), (19, 7), (24, 8), (100, 8), (None, 8)],
)
def test_few_tests_have_few_workers(tests: int | None, guests: int) -> None:
    """A worker takes as long to start as two or three tests take."""
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
    assert _selected([*words, f"--rootdir={tmp_path}", str(file)]) == number
    assert capfd.readouterr() == ("", "")


def test_a_file_that_cannot_be_read_is_not_counted(tmp_path: Path) -> None:
    """The run itself then reports what is wrong with it."""
    file = tmp_path / "test_broken.py"
    file.write_text("import no_such_module\n")
    assert _selected([f"--rootdir={tmp_path}", str(file)]) is None


@pytest.mark.parametrize("signal", [KeyboardInterrupt, Terminated])
def test_an_interrupt_is_not_lost(signal: type[BaseException], tmp_path: Path) -> None:
    """Ctrl-C and SIGTERM during the count end the command."""
    file = tmp_path / f"test_interrupted_{signal.__name__}.py"
    file.write_text(f"from harness.cli.exits import Terminated\nraise {signal.__name__}\n")
    with pytest.raises(signal) as caught:
        _selected([f"--rootdir={tmp_path}", str(file)])
    assert caught.type is signal
