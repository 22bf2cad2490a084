# SPDX-License-Identifier: GPL-2.0-only
"""A check that is a pytest file: a real pytest runs it, and what it came to is told apart."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from harness.deadline import Deadline, wait_until
from harness.errors import GuestPanic, LostConnection, UsageError
from harness.tools.verify import case, check_tests
from harness.tools.verify.check_tests import CheckTests, collect
from harness.tools.verify.request import VerifyRequest
from harness.tools.verify.scene import check_in
from harness.tools.verify.script import CheckScript, When
from harness.vm.guest.address import Address

if TYPE_CHECKING:
    from collections.abc import Callable

ADDRESS = Address(
    port=1, host_public="ssh-ed25519 A", keys="/nowhere", cpus=2, time_scale=1.0, folder="none"
)
MODULES = Path(__file__).parent / "data/modules"


class Guest:
    """A guest that is nowhere, and that dies when it is told to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.fate: Exception | None = None
        self.patience: Path | None = None  # it ends when that is there
        self.hypervisor: Any = SimpleNamespace(settle=self._settle)

    def scaled(self, seconds: float) -> Deadline:
        return Deadline.after(seconds)

    def wait(self, condition: Callable[[], bool], deadline: Deadline) -> bool:
        def ended() -> bool:
            self._settle()
            return condition() or (self.patience is not None and self.patience.exists())

        return wait_until(ended, deadline) and condition()

    def _settle(self) -> None:
        if self.fate is not None:
            raise self.fate


@pytest.fixture
def guest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Guest:
    monkeypatch.setattr(check_tests, "address_of", lambda _: ADDRESS)
    folder = tmp_path / "guest"
    folder.mkdir()
    return Guest(folder)


def behaves(folder: Path, text: str) -> Path:
    path = folder / "behaves.py"
    path.write_text(text)
    return path


def check(guest: Guest, text: str) -> CheckTests:
    path = behaves(guest.folder.parent, text)
    return CheckTests(guest, path, timeout_s=120.0)  # type: ignore[arg-type]


def test_the_moment_is_told(guest: Guest) -> None:
    """The same file, run anew for each."""
    made = check(guest, "def test_it(moment):\n    assert moment != 'during', f'{moment} is new'\n")
    assert made.run(When.BEFORE).ok
    said = made.run(When.DURING)
    assert not said.ok
    assert said.describe(60) == "failed: test_it: during is new"
    assert made.run(When.AFTER).ok
    logs = sorted(path.name for path in guest.folder.glob("*.log"))
    assert logs == ["check-1-before.log", "check-2-during.log", "check-3-after.log"]


def test_each_failure_is_a_line(guest: Guest) -> None:
    """A test, a fixture, and a name that is no fixture."""
    said = check(
        guest,
        """
import pytest
@pytest.fixture
def broken():
    raise OSError("no such thing")
def test_one():
    assert 1 + 1 == 3
def test_two(broken): pass
def test_three(no_such_fixture): pass
def test_four(): pass
""",
    ).run(When.BEFORE)
    assert said.code == 1
    assert said.lines[0] == "test_one: assert (1 + 1) == 3"
    assert said.lines[1] == "test_two: OSError: no such thing"
    assert "fixture 'no_such_fixture' not found" in said.lines[2]
    assert len(said.lines) == 3


def test_one_that_hangs_is_killed_with_all_that_it_started(guest: Guest) -> None:
    made = check(
        guest,
        """
import pathlib, subprocess
def test_it():
    child = subprocess.Popen(["sleep", "1000"])
    pathlib.Path(__file__).with_name("pid").write_text(str(child.pid))
    pathlib.Path(__file__).with_name("began").touch()
    child.wait()
""",
    )
    guest.patience = guest.folder.parent / "began"
    said = made.run(When.DURING)
    assert said.code is None
    _expect_gone(guest)


def test_the_start_of_pytest_is_not_the_checks_time(guest: Guest) -> None:
    """Nor is its end: a busy host is no fault of the patch."""
    made = check(guest, "def test_it():\n    pass\n")
    waits: list[str] = []
    wait = guest.wait

    def scaled(seconds: float) -> Deadline:
        waits.append("tests")
        return Deadline.after(seconds)

    def noted(condition: Callable[[], bool], deadline: Deadline) -> bool:
        waits.append("wait")
        return wait(condition, deadline)

    guest.scaled, guest.wait = scaled, noted  # type: ignore[method-assign]
    assert made.run(When.BEFORE).ok
    assert waits == ["wait", "tests", "wait", "wait"]


def test_what_a_test_leaves_running_ends_with_it(guest: Guest) -> None:
    made = check(
        guest,
        """
import pathlib, subprocess
def test_it():
    child = subprocess.Popen(["sleep", "1000"])
    pathlib.Path(__file__).with_name("pid").write_text(str(child.pid))
""",
    )
    assert made.run(When.DURING).ok
    _expect_gone(guest)


def _expect_gone(guest: Guest) -> None:
    pid = int((guest.folder.parent / "pid").read_text())
    state = Path(f"/proc/{pid}/stat")

    def gone() -> bool:
        try:
            return state.read_text().rpartition(")")[2].split()[0] == "Z"
        except FileNotFoundError:
            return True

    assert wait_until(gone, Deadline.after(10))


def test_the_guests_death_ends_it(guest: Guest) -> None:
    """And is what is told, not the check."""
    made = check(guest, "import time\ndef test_it():\n    time.sleep(1000)\n")
    guest.fate = GuestPanic("oops")
    started = time.monotonic()
    with pytest.raises(GuestPanic):
        made.run(When.DURING)
    assert time.monotonic() - started < 60


def test_a_guest_that_cannot_be_reached_is_no_verdict(guest: Guest) -> None:
    made = check(guest, "def test_it(guest):\n    pass\n")
    with pytest.raises(LostConnection, match=r"behaves\.py did not reach the guest: "):
        made.run(When.DURING)


def test_one_that_dies_is_told_by_its_signal(guest: Guest) -> None:
    said = check(guest, "import os\ndef test_it():\n    os.kill(os.getpid(), 9)\n").run(When.DURING)
    assert said.code == -9
    assert said.describe(60).startswith("was killed by signal 9")


def test_an_address_is_written_once_and_for_the_user_alone(tmp_path: Path) -> None:
    path = tmp_path / "address"
    ADDRESS.write(path)
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(FileExistsError):
        ADDRESS.write(path)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("import no_such_module\n", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("def test_it(:\n", "SyntaxError: invalid syntax"),
        ("def helper(): pass\n", "it has no test"),
        ("import pytest\npytest.exit('enough')\n", "_pytest.outcomes.Exit: enough"),
    ],
    ids=["import", "syntax", "none", "exit"],
)
def test_a_file_that_pytest_does_not_take_is_the_users_fault(
    tmp_path: Path, text: str, why: str
) -> None:
    """It is said before a guest starts."""
    path = behaves(tmp_path, text)
    with pytest.raises(UsageError) as refused:
        collect(path)
    assert refused.value.message == f"the check behaves.py cannot be used: {why}"


def test_a_test_file_is_read_with_the_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a script is not."""
    read: list[Path] = []
    monkeypatch.setattr(case, "collect", read.append)
    tests = behaves(tmp_path, "")
    script = tests.with_suffix(".sh")
    script.touch()
    for path in (tests, script):
        request = VerifyRequest(module=MODULES / "klp_test_cmdline_a.ko", check=path)
        case.read_case(request, None, {})  # type: ignore[arg-type]
    assert read == [tests]


def test_a_file_that_ends_pytest_in_the_middle_is_the_users_fault(guest: Guest) -> None:
    made = check(guest, "import pytest\ndef test_it():\n    pytest.exit('enough')\n")
    with pytest.raises(UsageError, match="pytest was interrupted"):
        made.run(When.DURING)


def test_the_settings_of_a_suite_around_it_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Options of its pytest.ini, of the environment, and our other plugin's fixtures."""
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --no-such-option\n")
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["harness.pytest_plugin"]\n')
    monkeypatch.setenv("PYTEST_ADDOPTS", "--no-such-option")
    collect(behaves(tmp_path, "def test_it(guest, moment):\n    pass\n"))


def test_a_file_that_takes_for_ever_is_the_users_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check_tests, "_COLLECT_S", 3.0)
    with pytest.raises(UsageError, match="pytest had not read it after 3 s"):
        collect(behaves(tmp_path, "import time\ntime.sleep(1000)\n"))


def test_what_runs_where_is_told_by_the_name(guest: Guest) -> None:
    machine: Any = guest
    assert isinstance(check_in(machine, Path("a.py"), timeout_s=1), CheckTests)
    for name in ("a.sh", "a", "a.py.sh"):
        assert isinstance(check_in(machine, Path(name), timeout_s=1), CheckScript)


def test_it_dies_with_who_started_it(guest: Guest) -> None:
    """prctl(2), PR_GET_PDEATHSIG: it is killed when the thread that started it ends."""
    text = """
import ctypes
def test_it():
    signal = ctypes.c_int()
    ctypes.CDLL(None).prctl(2, ctypes.byref(signal))
    assert signal.value == 9
"""
    assert check(guest, text).run(When.BEFORE).ok
