# SPDX-License-Identifier: GPL-2.0-only
"""Guests that are kept: their registry, their owner's socket, the command that goes on."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from harness.cli.app import app
from harness.cli.keeping import KeepOptions, keeping
from harness.deadline import Deadline, wait_until
from harness.errors import HarnessError, UsageError
from harness.tools.guests import ssh_command
from harness.tools.guests.gdb_command import gdb_commands, missing
from harness.vm.guest import kept
from harness.vm.guest.control import ControlServer, ask
from harness.vm.guest.dump import has_five_levels, phys_base
from harness.vm.guest.kept import KeptGuest, KeptModule
from harness.vm.guest.run_folder import claim, sweep
from harness.vm.host.process import run

if TYPE_CHECKING:
    from collections.abc import Mapping

GUEST = KeptGuest(
    name="idle-00ff",
    owner=1,
    qemu=2,
    port=4022,
    host_public="ssh-ed25519 AAAA",
    kernel="6.1.192 (a tree)",
    vmlinux=None,
    build_dir=None,
    memory_mib=256,
    cpus=2,
    logs="/logs",
    modules={"klp_test": KeptModule(file="/klp_test.ko", sections={".text": 0x1000})},
)


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "runs"
    monkeypatch.setenv("KLP_HARNESS_RUNS", str(folder))
    return folder


def register(guest: KeptGuest) -> Any:
    claimed = claim(guest.folder)
    guest.write(guest.folder / kept.NOTE)
    (guest.folder / kept.KEY).write_text("secret")
    kept.write_ssh_files(guest, guest.folder)
    return claimed


def test_a_guest_is_listed_while_its_owner_holds_it(runs: Path) -> None:
    """One whose owner has ended is not kept any more, and what it left is named."""
    claimed = register(GUEST)
    assert kept.kept_guests() == (GUEST,)
    assert kept.left_behind() == ()
    assert GUEST.folder.stat().st_mode & 0o777 == 0o700
    claimed.release()
    assert kept.kept_guests() == ()
    assert kept.left_behind() == (GUEST,)


def test_what_an_owner_left_is_swept_with_its_key(runs: Path) -> None:
    """The key of a guest that is gone does not stay."""
    register(GUEST).release()
    sweep(runs)
    assert not GUEST.folder.exists()


def test_a_guest_that_is_held_is_not_swept(runs: Path) -> None:
    """A run that begins meanwhile leaves it alone."""
    with register(GUEST):
        sweep(runs)
        assert (GUEST.folder / kept.KEY).exists()


def test_a_name_is_found_by_its_beginning(runs: Path) -> None:
    """Without a name the only guest is meant; what is not clear is refused with the names."""
    with pytest.raises(UsageError, match="no guest is kept"):
        kept.find(None)
    other = replace(GUEST, name="cycles-00aa", started=1.0)
    with register(GUEST):
        assert kept.find(None) == GUEST
        with register(other):
            assert kept.find("cyc") == other
            assert kept.find(GUEST.name) == GUEST
            with pytest.raises(UsageError, match="which guest"):
                kept.find(None)
            with pytest.raises(UsageError, match="no guest of the name held"):
                kept.find("held")


def test_ssh_reads_a_pinned_key_and_the_loopback(runs: Path) -> None:
    """ssh(1) itself says what it makes of the file: no other host, no other key, no question."""
    with register(GUEST):
        words = run([*kept.ssh_argv(GUEST), "-G"], deadline=Deadline.after(10)).stdout
    settings = dict(line.partition(" ")[::2] for line in words.splitlines())
    assert settings["hostname"] == "127.0.0.1"
    assert settings["port"] == "4022"
    assert settings["stricthostkeychecking"] == "true"
    assert settings["userknownhostsfile"].endswith("known_hosts")
    assert settings["forwardagent"] == "no"


def test_the_options_of_a_command_are_its_own(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with ssh(1): what follows the name is run in the guest as it is."""
    ran: list[list[str]] = []

    def foreground(argv: list[str]) -> int:
        ran.append(argv)
        return 0

    monkeypatch.setattr(ssh_command, "foreground", foreground)
    with register(GUEST):
        done = CliRunner().invoke(app, ["ssh", GUEST.name, "uname", "-r", "--", "-x"])
    assert done.exit_code == 0, done.output
    assert ran[0][-4:] == ["uname", "-r", "--", "-x"]


def test_the_owner_answers_or_says_why_not(tmp_path: Path) -> None:
    """At a path longer than a unix socket's address too."""
    folder = tmp_path / ("long-" * 30)
    folder.mkdir()
    asked: list[Mapping[str, str]] = []

    def refuse(_arguments: Mapping[str, str]) -> None:
        raise HarnessError("QEMU is gone")

    with ControlServer(folder, {"dump": asked.append, "gdb": refuse}):
        ask(folder, "dump", timeout_s=10, path="/x")
        assert asked == [{"path": "/x"}]
        with pytest.raises(HarnessError, match="QEMU is gone"):
            ask(folder, "gdb", timeout_s=10)
    with pytest.raises(HarnessError, match="does not answer"):
        ask(folder, "dump", timeout_s=10)


def test_gdb_needs_the_kernels_symbols() -> None:
    """A packaged kernel comes without them, and one sentence says so."""
    with pytest.raises(UsageError, match=r"there is no vmlinux of 6\.1\.192"):
        gdb_commands(GUEST)


def test_gdb_reads_the_kernels_own_commands_once(tmp_path: Path) -> None:
    """By the name as it is, and not by itself, which it would refuse; without them it is said."""
    build = tmp_path / "a build"
    build.mkdir()
    vmlinux = build / "vmlinux"
    vmlinux.write_bytes(b"")
    guest = replace(GUEST, vmlinux=str(vmlinux), build_dir=str(build), text=None)
    assert not [word for word in gdb_commands(guest) if word.startswith("source")]
    assert any("no lx- commands" in note for note in missing(guest))
    (build / "vmlinux-gdb.py").write_text("")
    words = gdb_commands(guest)
    assert f"source {build}/vmlinux-gdb.py" in words
    assert f'directory "{build}"' in words
    by_itself = words.index("set auto-load python-scripts off")
    assert by_itself < words.index(f'symbol-file "{vmlinux}"')
    assert not any("no lx- commands" in note for note in missing(guest))


class Monitor:
    """Answers the human monitor."""

    def __init__(self, said: str) -> None:
        self._said = said

    def human(self, command: str, *, deadline: Deadline) -> str:
        assert command
        return self._said


def test_where_kaslr_has_put_the_kernel() -> None:
    """phys_base is the physical address of the text less its place in the kernel's map."""
    monitor: Any = Monitor("gpa: 0x3a00000\r\n")
    assert phys_base(monitor, 0xFFFFFFFF81000000, Deadline.after(1)) == 0x2A00000
    assert phys_base(monitor, None, Deadline.after(1)) == 0
    unmapped: Any = Monitor("Unmapped\r\n")
    assert phys_base(unmapped, 0xFFFFFFFF81000000, Deadline.after(1)) == 0


@pytest.mark.parametrize(("cr4", "five"), [("003506f0", False), ("003516f0", True)])
def test_levels_of_page_tables(cr4: str, five: bool) -> None:
    """CR4.LA57 says how many there are."""
    monitor: Any = Monitor(f"CR0=80050033 CR2=0 CR3=0 CR4={cr4}\n")
    assert has_five_levels(monitor, Deadline.after(1)) is five


def test_options_that_exclude_each_other() -> None:
    """A guest cannot be held and left behind."""
    options = KeepOptions(keep_guest=True, stop_at_failure=True)
    with pytest.raises(UsageError, match="exclude each other"), keeping(options):
        raise AssertionError


def test_nothing_is_kept_that_nobody_asked_for() -> None:
    """Without an option there is no keeper, and nothing of it is imported."""
    with keeping(KeepOptions()) as keeper:
        assert keeper is None


_DETACHED = """
import os, sys
from pathlib import Path
from harness.cli import detach

def hold():
    with open(sys.argv[1] + ".fifo") as fifo:  # until the test writes there
        fifo.read()
    Path(sys.argv[1]).write_text("held")

detach.begin(holds=lambda: sys.argv[2] == "holds", hold=hold)
if sys.argv[2] == "killed":
    os.kill(os.getpid(), 9)
detach.end(7)
"""


def detached(marker: Path, *words: str) -> int:
    argv = [sys.executable, "-c", _DETACHED, str(marker), *words]
    return run(argv, deadline=Deadline.after(30), check=False).returncode


def test_a_child_that_is_killed_is_the_commands_end(tmp_path: Path) -> None:
    """Its exit code is that of a shell for a signal; nobody waits for ever."""
    assert detached(tmp_path / "marker", "killed") == 137


def test_a_command_that_holds_goes_on_after_its_exit_code(tmp_path: Path) -> None:
    """Whoever started it has the exit code at once; what it holds ends later."""
    marker = tmp_path / "marker"
    fifo = tmp_path / "marker.fifo"
    os.mkfifo(fifo)
    assert detached(marker, "nothing") == 7
    assert detached(marker, "holds") == 7
    assert not marker.exists()
    fifo.write_text("go on")
    assert wait_until(marker.exists, Deadline.after(30))


def test_kept_text_is_written_as_a_whole(tmp_path: Path) -> None:
    """What is read is what was written, modules too."""
    dump = tmp_path / "vmcore"
    kept.note_of_dump(GUEST, dump)
    assert kept.read_note_of_dump(dump) == GUEST
    assert (tmp_path / "vmcore.json").stat().st_mode & 0o077 == 0
