# SPDX-License-Identifier: GPL-2.0-only
"""A check that is a pytest file: a real pytest runs it; each way to end has its own result."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.deadline import Deadline, wait_until
from harness.errors import GuestHang, GuestPanic, HarnessError, LostConnection, UsageError
from harness.tools.verify import case, check_tests
from harness.tools.verify.check_guest import MAY_USE
from harness.tools.verify.check_plugin import started_file
from harness.tools.verify.check_tests import CheckTests, check_in, collect
from harness.tools.verify.request import VerifyRequest
from harness.tools.verify.script import CheckScript, When
from harness.vm.guest.address import Address
from harness.vm.guest.machine import Machine

if TYPE_CHECKING:
    from collections.abc import Callable

ADDRESS = Address(
    port=1,
    host_public="ssh-ed25519 A",
    keys="/nowhere",
    cpus=2,
    time_scale=1.0,
    folder="none",
    qemu=1,
)
MODULES = Path(__file__).parent / "data/modules"


class Guest:
    """A guest that does not exist, and that dies when ``fate`` is set."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.fate: Exception | None = None
        self.patience: Path | None = None  # waits end when that file exists

    def scaled(self, seconds: float) -> Deadline:
        return Deadline.after(seconds)

    def wait(self, condition: Callable[[], bool], deadline: Deadline) -> bool:
        def ended() -> bool:
            self.check_splats()
            return condition() or (self.patience is not None and self.patience.exists())

        return wait_until(ended, deadline) and condition()

    def check_splats(self) -> None:
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


def test_the_moment(guest: Guest) -> None:
    """The file is run for each moment, which its tests know; each run has a log."""
    made = check(guest, "def test_it(moment):\n    assert moment != 'during', f'{moment} is new'\n")
    assert made.run(When.BEFORE).ok
    run = made.run(When.DURING)
    assert not run.ok
    assert run.describe(60) == "failed: test_it: during is new"
    assert made.run(When.AFTER).ok
    logs = sorted(path.name for path in guest.folder.glob("*.log"))
    assert logs == ["check-1-before.log", "check-2-during.log", "check-3-after.log"]


def test_each_failure_is_a_line(guest: Guest) -> None:
    """A failure of a test and one of a fixture are a line each."""
    run = check(
        guest,
        """
import pytest
@pytest.fixture
def broken():
    raise OSError("no such thing")
def test_one():
    assert 1 + 1 == 3
def test_two(broken): pass
def test_three(): pass
""",
    ).run(When.BEFORE)
    assert run.code == 1
    assert run.lines[0] == "test_one: assert (1 + 1) == 3"
    assert run.lines[1] == "test_two: OSError: no such thing"
    assert len(run.lines) == 2


ATTACHED = """
import contextlib
import pytest
from harness.tools.verify import check_plugin

class Machine:
    time_scale = 1.0
    folder = hypervisor = keys = None
    def read(self, path): return "text of " + path
    def run(self, argv): return argv
    def check_splats(self): raise AssertionError("called")
    expect_splat = write = connect = disconnect = check_splats

@contextlib.contextmanager
def attached(address):
    yield Machine()

check_plugin.attached = attached
check_plugin.Address.read = classmethod(lambda cls, path: None)
"""


@pytest.mark.parametrize("use", ["check_splats()", "expect_splat('x')", "hypervisor", "reed"])
def test_what_only_the_owner_may_use(guest: Guest, use: str) -> None:
    """It is the file's mistake, exit code 2, and never a failure of the patch."""
    (guest.folder.parent / "conftest.py").write_text(ATTACHED)
    made = check(guest, f"def test_it(guest):\n    guest.{use}\n")
    with pytest.raises(UsageError) as refused:
        made.run(When.DURING)
    name = use.partition("(")[0]
    assert f"a check file may not use guest.{name}" in refused.value.message
    assert refused.value.hint is not None
    assert "list_dir" in refused.value.hint
    assert "check_splats" not in refused.value.hint


def test_what_a_check_may_use(guest: Guest) -> None:
    """The guest's files and programs, and the fixtures that need them; hasattr says what is not."""
    (guest.folder.parent / "conftest.py").write_text(ATTACHED)
    text = """
def test_it(guest, livepatch, tasks):
    assert guest.read("/x") == "text of /x"
    assert guest.run(["a"]) == ["a"]
    assert guest.time_scale == 1.0
    assert not hasattr(guest, "check_splats")
    assert guest == guest and repr(guest)
"""
    run = check(guest, text).run(When.DURING)
    assert run.ok, run.lines


def test_the_protocol_is_what_the_machine_has() -> None:
    """Each name that a check may use is one of Machine's; none is of its owner alone."""
    assert all(hasattr(Machine, name) for name in MAY_USE)
    assert {"run", "read", "write", "scaled", "tasks", "stack"} <= set(MAY_USE)
    owners = {"check_splats", "expect_splat", "hypervisor", "folder", "keys", "disconnect"}
    assert not owners & set(MAY_USE)


@pytest.mark.parametrize(
    "text",
    [
        "def test_it(no_such_fixture): pass\n",
        "def test_it(): undefined_name\n",
        "def test_it(): import no_such_module\n",
    ],
    ids=["fixture", "name", "import"],
)
def test_a_mistake_of_the_file_is_no_verdict(guest: Guest, text: str) -> None:
    """What fails on whatever kernel says nothing of the patch."""
    with pytest.raises(UsageError, match=r"behaves\.py cannot be used: test_it: "):
        check(guest, text).run(When.DURING)


def test_one_that_hangs_is_killed_with_all_that_it_started(guest: Guest) -> None:
    """A hanging check leaves no process behind."""
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
    run = made.run(When.DURING)
    assert run.code is None
    assert any("behaves.py" in line and "in test_it" in line for line in run.lines), run.lines
    _expect_gone(guest)


def test_temporary_folders_are_the_guests(guest: Guest) -> None:
    """At its end pytest removes old ones beside its own: those of others are left alone."""
    text = "def test_it(tmp_path):\n    assert 'guest/check-1-tmp' in str(tmp_path), tmp_path\n"
    assert check(guest, text).run(When.BEFORE).ok


def test_pytest_that_does_not_end_after_its_tests(guest: Guest) -> None:
    """It is no failure of the patch, and where pytest is shows in the details."""
    (guest.folder.parent / "conftest.py").write_text(
        "import time\ndef pytest_sessionfinish():\n    time.sleep(1000)\n"
    )
    made = check(guest, "def test_it():\n    pass\n")
    guest.patience = guest.folder / "check-1.json"
    with pytest.raises(HarnessError, match=r"the tests of behaves\.py ended") as raised:
        made.run(When.DURING)
    assert any("in pytest_sessionfinish" in line for line in raised.value.details)


def test_the_timeout_begins_with_the_first_test(guest: Guest) -> None:
    """The time that pytest takes to start on a busy host is no fault of the patch."""
    made = check(guest, "def test_it():\n    pass\n")
    report = guest.folder / "check-1.json"
    started: list[bool] = []

    def scaled(seconds: float) -> Deadline:
        started.append(started_file(report).exists())
        return Deadline.after(seconds)

    guest.scaled = scaled  # type: ignore[method-assign]
    assert made.run(When.BEFORE).ok
    assert started == [True]


def test_what_a_test_leaves_running_ends_with_it(guest: Guest) -> None:
    """A process that a test started does not outlive the check."""
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
    """The guest's fate is raised, and not a failure of the check."""
    made = check(guest, "import time\ndef test_it():\n    time.sleep(1000)\n")
    guest.fate = GuestPanic("oops")
    started = time.monotonic()
    with pytest.raises(GuestPanic):
        made.run(When.DURING)
    assert time.monotonic() - started < 60


def test_a_guest_that_cannot_be_reached_is_no_verdict(guest: Guest) -> None:
    """It is a failure of the harness, which is tried again."""
    made = check(guest, "def test_it(guest):\n    pass\n")
    with pytest.raises(LostConnection, match=r"behaves\.py did not reach the guest: "):
        made.run(When.DURING)


UNREACHED = """
from harness.tools.verify import check_plugin

def attached(address):
    raise TimeoutError("the guest did not answer `hello` in time")

check_plugin.attached = attached
check_plugin.Address.read = classmethod(lambda cls, path: None)
"""


@pytest.mark.parametrize(
    "text",
    [
        "def test_it(guest):\n    pass\n",
        "from harness.errors import GuestHang\ndef test_it():\n    raise GuestHang('silent')\n",
    ],
    ids=["no-connection", "hang"],
)
@pytest.mark.parametrize("fate", [None, GuestHang("it hangs")], ids=["host", "guest"])
def test_whether_the_guest_hangs_is_known_to_its_owner(
    guest: Guest, text: str, fate: Exception | None
) -> None:
    """A guest that a test does not reach is the host's fault, unless it hangs for its owner too."""
    (guest.folder.parent / "conftest.py").write_text(UNREACHED)
    made = check(guest, text)
    guest.wait = lambda condition, deadline: wait_until(condition, deadline)  # type: ignore[method-assign]
    guest.fate = fate
    with pytest.raises(LostConnection if fate is None else GuestHang):
        made.run(When.DURING)


def test_one_that_is_killed(guest: Guest) -> None:
    """The signal that ended pytest is named."""
    run = check(guest, "import os\ndef test_it():\n    os.kill(os.getpid(), 9)\n").run(When.DURING)
    assert run.code == -9
    assert run.describe(60).startswith("was killed by signal 9")


def test_an_address_is_written_once_and_for_the_user_alone(tmp_path: Path) -> None:
    """It names a key, so no other user may read it."""
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
def test_a_file_that_pytest_cannot_collect(tmp_path: Path, text: str, why: str) -> None:
    """It is a usage error with pytest's reason, before a guest starts."""
    path = behaves(tmp_path, text)
    with pytest.raises(UsageError) as refused:
        collect(path)
    assert refused.value.message == f"the check behaves.py cannot be used: {why}"


def test_a_test_file_is_read_with_the_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test file is collected before a guest starts; a script is not."""
    read: list[Path] = []
    monkeypatch.setattr(case, "collect", read.append)
    tests = behaves(tmp_path, "")
    script = tests.with_suffix(".sh")
    script.touch()
    for path in (tests, script):
        request = VerifyRequest(module=MODULES / "klp_test_cmdline_a.ko", check=path)
        case.read_case(request, None, {})  # type: ignore[arg-type]
    assert read == [tests]


def test_a_file_that_ends_pytest_in_the_middle(guest: Guest) -> None:
    """It is a usage error: not all of its tests were run."""
    made = check(guest, "import pytest\ndef test_it():\n    pytest.exit('enough')\n")
    with pytest.raises(UsageError, match="pytest was interrupted"):
        made.run(When.DURING)


def test_the_settings_of_a_suite_around_it_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its pytest.ini, PYTEST_ADDOPTS, and the plugin for its own guests have no effect."""
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --no-such-option\n")
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["harness.pytest_plugin"]\n')
    monkeypatch.setenv("PYTEST_ADDOPTS", "--no-such-option")
    collect(behaves(tmp_path, "def test_it(guest, moment):\n    pass\n"))


def test_a_file_that_takes_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that pytest cannot collect in time is a usage error."""
    monkeypatch.setattr(check_tests, "_COLLECT_S", 3.0)
    with pytest.raises(UsageError, match="pytest had not read it after 3 s"):
        collect(behaves(tmp_path, "import time\ntime.sleep(1000)\n"))


def test_what_runs_where(guest: Guest) -> None:
    """A name that ends in .py is a test file; any other is a script for the guest."""
    machine: Any = guest
    assert isinstance(check_in(machine, Path("a.py"), timeout_s=1), CheckTests)
    for name in ("a.sh", "a", "a.py.sh"):
        assert isinstance(check_in(machine, Path(name), timeout_s=1), CheckScript)


def test_it_dies_with_who_started_it(guest: Guest) -> None:
    """It is killed when the thread that started it ends (prctl(2), PR_GET_PDEATHSIG)."""
    text = """
import ctypes
def test_it():
    signal = ctypes.c_int()
    ctypes.CDLL(None).prctl(2, ctypes.byref(signal))
    assert signal.value == 9
"""
    assert check(guest, text).run(When.BEFORE).ok
