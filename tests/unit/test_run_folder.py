# SPDX-License-Identifier: GPL-2.0-only
"""The private folder of a run: nobody else's is taken, and what a dead run left is removed."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import stat
import sys
import tempfile
import time
from typing import TYPE_CHECKING

import pytest

from harness.deadline import Deadline, wait_until
from harness.errors import HarnessError, NoSpace, UsageError
from harness.vm.guest import runs
from harness.vm.guest.run_folder import EVIDENCE_DAYS, FETCHED, LOCK, claim, sweep, writing
from harness.vm.host.accel import Accel, AccelChoice
from harness.vm.host.process import spawn

if TYPE_CHECKING:
    from pathlib import Path

_HOLDS = """
import sys, time
from pathlib import Path
from harness.vm.guest.run_folder import claim
held = claim(Path(sys.argv[1]))
Path(sys.argv[2]).touch()
time.sleep(600)
"""


def _fill(folder: Path) -> None:
    """Make what a run has in its folder."""
    for name in ("client_key", "host_key", "keys.json", "initrd", "initrd-0123"):
        (folder / name).write_text("secret")
    for name in ("templates/a", "kernels-1", f"{FETCHED}/modules", "guests/one"):
        (folder / name).mkdir(parents=True)
    (folder / "guests" / "one" / "console.log").write_text("the last words")


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_folder_is_private(tmp_path: Path) -> None:
    """It is made with its parents, and only this user can enter it."""
    with claim(tmp_path / "runs" / "one") as held:
        assert stat.S_IMODE(held.path.stat().st_mode) == 0o700


def test_several_processes_share_one(tmp_path: Path) -> None:
    """The workers of a run use its folder side by side; a wider mode of one's own is narrowed."""
    folder = tmp_path / "one"
    folder.mkdir(mode=0o755)
    with claim(folder), claim(folder):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_link_is_refused(tmp_path: Path) -> None:
    """A symbolic link that somebody put there leads nowhere."""
    (tmp_path / "theirs").mkdir()
    (tmp_path / "one").symlink_to(tmp_path / "theirs")
    with pytest.raises(UsageError, match="it is a symbolic link"):
        claim(tmp_path / "one")


def test_what_others_can_write_is_refused(tmp_path: Path) -> None:
    """What lies in such a folder may be anybody's."""
    folder = tmp_path / "one"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(UsageError, match="others can write there"):
        claim(folder)


def test_another_users_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder made earlier by another user is not taken, whatever its mode."""
    folder = tmp_path / "one"
    folder.mkdir(mode=0o700)
    owner = folder.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(UsageError, match="another user's"):
        claim(folder)


def test_a_file_is_refused(tmp_path: Path) -> None:
    """A file in its place is said to be one."""
    (tmp_path / "one").write_text("")
    with pytest.raises(UsageError, match="it is no folder"):
        claim(tmp_path / "one")


def test_names_cannot_be_known_before() -> None:
    """Two folders of one process in one second have different names, that nobody can guess."""
    one, two = runs.folder_for("run"), runs.folder_for("run")
    assert one != two
    assert len(one.name.rpartition("-")[2]) == 8


def test_a_killed_run_leaves_its_logs_only(tmp_path: Path) -> None:
    """SIGKILL leaves keys and initrd; the next run removes them, and keeps what may say why."""
    folder, ready = tmp_path / "runs" / "one", tmp_path / "ready"
    with spawn([sys.executable, "-c", _HOLDS, folder, ready]) as child:
        assert wait_until(ready.exists, Deadline.after(60))
        _fill(folder)
        sweep(tmp_path / "runs")
        assert "client_key" in _names(folder), "a run that lives was swept"
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    sweep(tmp_path / "runs")
    assert _names(folder) == {LOCK, "guests"}
    assert (folder / "guests" / "one" / "console.log").read_text() == "the last words"


def test_old_logs_go(tmp_path: Path) -> None:
    """Logs are kept for some weeks; a folder without any goes at once."""
    for name in ("old", "new", "empty"):
        claim(tmp_path / name).release()
    for name in ("old", "new"):
        _fill(tmp_path / name)
    before_s = time.time() - (EVIDENCE_DAYS + 1) * 86400
    os.utime(tmp_path / "old" / LOCK, (before_s, before_s))
    sweep(tmp_path)
    assert _names(tmp_path) == {"new"}


def test_other_folders_stay(tmp_path: Path) -> None:
    """Results of races, the history of rules, files of the user are no runs of guests."""
    (tmp_path / "behaviours").mkdir()
    (tmp_path / "behaviours" / "history.json").write_text("{}")
    (tmp_path / "bug.log").write_text("")
    sweep(tmp_path)
    sweep(tmp_path / "none")
    assert _names(tmp_path) == {"behaviours", "bug.log"}


def test_a_folder_of_an_older_release(tmp_path: Path) -> None:
    """One without a lock is taken for dead when its key is a day old."""
    for name, age_s in (("old", 2 * 86400), ("new", 60)):
        (tmp_path / name).mkdir()
        _fill(tmp_path / name)
        at_s = time.time() - age_s
        os.utime(tmp_path / name / "client_key", (at_s, at_s))
    sweep(tmp_path)
    assert _names(tmp_path / "old") == {"guests"}
    assert "client_key" in _names(tmp_path / "new")


def test_a_folder_that_goes_while_it_is_claimed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sweep that comes between makes no folder without a lock: it is made again."""
    folder = tmp_path / "one"
    real = os.utime
    swept: list[bool] = []

    def utime(*args: object) -> None:
        if not swept:
            swept.append(True)
            (folder / LOCK).unlink()
        real(args[0])  # type: ignore[arg-type]

    monkeypatch.setattr(os, "utime", utime)
    with claim(folder):
        assert (folder / LOCK).exists()


@pytest.mark.parametrize(
    ("number", "kind"), [(errno.ENOSPC, NoSpace), (errno.EDQUOT, NoSpace), (errno.EROFS, None)]
)
def test_a_disk_without_room(tmp_path: Path, number: int, kind: type[NoSpace] | None) -> None:
    """What cannot be written is the host's fault, in a sentence."""
    with (
        pytest.raises(HarnessError, match="cannot write to the folder") as raised,
        writing(tmp_path),
    ):
        raise OSError(number, os.strerror(number))
    assert type(raised.value) is (kind or HarnessError)


@pytest.mark.parametrize("fails", [False, True], ids=["success", "failure"])
def test_a_signal_while_a_run_is_tidied_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    """Ctrl-C in the middle of the removal, after success or failure, leaves no key."""
    monkeypatch.setenv("KLP_HARNESS_RUNS", str(tmp_path))
    # What another process has left in the usual place is removed by the same function.
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    removal = shutil.rmtree
    signals = [KeyboardInterrupt()]

    def interrupted(folder: Path, *, ignore_errors: bool) -> None:
        if signals:
            raise signals.pop()
        removal(folder, ignore_errors=ignore_errors)

    monkeypatch.setattr("harness.vm.guest.runs.shutil.rmtree", interrupted)

    def run() -> None:
        choice = AccelChoice(accel=Accel.TCG, reason="a test", probed_s=0.0)
        with runs.open_session(choice, name="tidied") as session:
            (session.folder / "client_key").write_text("a key")
            if fails:
                raise ValueError("a failure")

    with pytest.raises(KeyboardInterrupt):
        run()
    assert not signals
    assert list(tmp_path.rglob("client_key")) == []
