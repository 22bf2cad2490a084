# SPDX-License-Identifier: GPL-2.0-only
"""The guest programs beside the agent, as far as they run on any kernel."""

from __future__ import annotations

import errno
import json
import os
import select
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.deadline import Deadline, wait_until
from harness.resources import Resource, resource_dir
from harness.vm.host.process import PIPE, Process, run, spawn
from tests.unit.speaking_agent import build, soon

if TYPE_CHECKING:
    from collections.abc import Iterator

HAS_PATCH_STATE = Path("/proc/self/patch_state").exists()


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the programs, built once for all tests of a run."""
    folder = tmp_path_factory.getbasetemp() / "guest-programs"
    build(folder, "klp-sampler", "klp-gate", "klp-caller", "klp-fork", "klp-leaver", "klp-storm")
    build(folder, "klp-hold", "klp-stall", "klp-spinner", "klp-exec", "klp-traced")
    build(folder, "klp-fifo")
    return folder


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "called"
    path.write_text("original\n")
    return path


@pytest.fixture
def caller(programs: Path, file: Path) -> Iterator[Process[bytes]]:
    with spawn([programs / "klp-caller", file, "100"], stdin=PIPE, stdout=PIPE) as child:
        yield child


def says(child: Process[bytes]) -> dict[str, Any]:
    assert child.stdout is not None
    line: dict[str, Any] = json.loads(child.stdout.readline())
    return line


def state(child: Process[bytes]) -> str:
    """Its scheduler state, as a letter."""
    return Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[0]


def sleeps(child: Process[bytes]) -> int:
    """How often it has slept: the caller does so once after each call."""
    status = Path(f"/proc/{child.pid}/status").read_text()
    return int(status.split("\nvoluntary_ctxt_switches:")[1].split()[0])


def test_the_caller_tells_each_change_once(caller: Process[bytes], file: Path) -> None:
    """klp-caller reports a body when it changes, and not at each call."""
    first = says(caller)
    assert first["text"] == "original\n"
    assert first["patch_state_before"] == first["patch_state_after"]
    assert first["patch_state_before"] == (-1 if HAS_PATCH_STATE else None)
    before = sleeps(caller)
    assert wait_until(lambda: sleeps(caller) >= before + 3, soon())
    replacement = file.with_name("new")
    replacement.write_text("patched\n")
    replacement.rename(file)
    second = says(caller)
    assert second["text"] == "patched\n"
    assert second["t_us"] > first["t_us"]
    file.unlink()
    gone = says(caller)
    assert (gone["text"], gone["errno"]) == (None, errno.ENOENT)
    assert caller.stdin is not None
    caller.stdin.close()
    assert says(caller)["calls"] >= 3
    assert caller.wait(timeout=soon().remaining_s) == 0


def test_the_caller_ends_by_signal(caller: Process[bytes]) -> None:
    """klp-caller goes on until a signal ends it."""
    says(caller)
    caller.terminate()
    assert says(caller)["calls"] >= 1
    assert caller.wait(timeout=soon().remaining_s) == 0


def test_the_sampler_needs_patch_states(programs: Path) -> None:
    """klp-sampler fails on a kernel without patch_state, and says so."""
    done = run([programs / "klp-sampler", "1", "1"], deadline=soon(), check=False)
    if not HAS_PATCH_STATE:
        assert done.returncode == 1
        assert "patch_state" in done.stderr
    elif done.returncode == 0:
        assert any("ready" in json.loads(line) for line in done.stdout.splitlines())
    else:
        assert "Permission denied" in done.stderr  # only root may read others' states


def test_the_gate_is_missed(programs: Path) -> None:
    """klp-gate fails when the module with the gates is not loaded."""
    assert not Path("/dev/klp_gate").exists()
    done = run([programs / "klp-gate", "read", "0"], deadline=soon(), check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "/dev/klp_gate: No such file or directory" in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("klp-gate",),
        ("klp-gate", "read"),
        ("klp-gate", "read", "8"),
        ("klp-gate", "read", "-1"),
        ("klp-gate", "write", "1"),
        ("klp-sampler",),
        ("klp-sampler", "0"),
        ("klp-sampler", "1", "x"),
        ("klp-caller",),
        ("klp-caller", "/none", "1ms"),
        ("klp-fork", "0", "1"),
        ("klp-fork", "args=8"),
        ("klp-fork", "args=1", "tid=1"),
        ("klp-fork", "pidfd=2", "ptid=1", "tid=2"),
        ("klp-fork", "tid=1", "spin", "vfork"),
        ("klp-exec", "0"),
        ("klp-exec", "thread", "8", "/bin/true"),
        ("klp-traced", "8"),
        ("klp-spinner",),
        ("klp-spinner", "-1"),
        ("klp-storm", "1ms"),
        ("klp-storm", "1", "1"),
        ("klp-stall", "1"),
        ("klp-fifo", "1"),
        ("klp-fifo", "0", "1"),
        ("klp-fifo", "1", "x"),
        ("klp-fifo", "1", "--"),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_told(programs: Path, words: tuple[str, ...]) -> None:
    """Each program refuses wrong arguments with a line and exit code 2."""
    done = run([programs / words[0], *words[1:]], deadline=soon(), check=False)
    assert done.returncode == 2
    assert f"usage: {words[0]}" in done.stderr


def test_a_priority_that_cannot_be_set_is_told(programs: Path) -> None:
    """klp-fifo ends with code 1, and names the thread that did not get its priority."""
    nobody = 2**31 - 1
    done = run([programs / "klp-fifo", "1", str(nobody)], deadline=soon(), check=False)
    assert done.returncode == 1
    assert f"priority 1 for thread {nobody}" in done.stderr


def test_a_stop_is_seen_as_the_longest_stall(programs: Path) -> None:
    """klp-stall reports how long it was stopped, once, and in the span in which it was."""
    start_s = time.monotonic()
    with spawn([programs / "klp-stall"], stdin=PIPE, stdout=PIPE) as child:
        assert says(child)["spinning"] == child.pid
        assert child.stdin is not None
        child.send_signal(signal.SIGSTOP)
        assert wait_until(lambda: state(child) == "T", soon())
        stopped_us = 300_000
        until = Deadline.after(stopped_us / 1e6)
        assert wait_until(lambda: until.expired, soon())
        child.send_signal(signal.SIGCONT)
        assert wait_until(lambda: state(child) != "T", soon())
        child.stdin.write(b"first\n")
        child.stdin.flush()
        first = says(child)
        assert stopped_us <= first["longest_us"] <= first["us"]
        child.stdin.write(b"second\n")
        child.stdin.flush()
        second = says(child)
        assert first["us"] + second["us"] <= (time.monotonic() - start_s) * 1e6
        assert second["longest_us"] <= second["us"]
        child.stdin.close()
        assert "rounds" in says(child)
        assert child.wait(timeout=soon().remaining_s) == 0


def test_a_thread_leaves_its_process_behind(programs: Path) -> None:
    """klp-leaver ends a thread while its process goes on."""
    with spawn([programs / "klp-leaver"], stdin=PIPE, stdout=PIPE) as child:
        tid = says(child)["leaving"]
        assert tid != child.pid
        gone = Path(f"/proc/{child.pid}/task/{tid}")
        assert wait_until(lambda: not gone.exists(), soon())
        assert child.poll() is None
        assert child.stdin is not None
        child.stdin.close()
        assert child.wait(timeout=soon().remaining_s) == 0


def test_files_are_held_until_they_are_used(programs: Path, tmp_path: Path) -> None:
    """They stay open until a line arrives; one that is missing or cannot be mapped does no harm."""
    fifo, empty = tmp_path / "fifo", tmp_path / "empty"
    os.mkfifo(fifo)
    empty.touch()
    files = (fifo, empty, tmp_path / "missing", "/proc/self/maps", "/dev/zero")
    with spawn([programs / "klp-hold", *files], stdin=PIPE, stdout=PIPE) as child:
        held = says(child)["held"]
        opened = {str(each.readlink()) for each in Path(f"/proc/{child.pid}/fd").iterdir()}
        assert {str(fifo), str(empty), "/dev/zero"} <= opened
        assert child.stdin is not None
        child.stdin.write(b"use\n")
        child.stdin.flush()
        assert says(child)["used"] == held
        assert child.wait(timeout=soon().remaining_s) == 0


@pytest.mark.parametrize("interval", [(), ("1000",)])
def test_a_storm_reaps_what_it_forks(programs: Path, interval: tuple[str, ...]) -> None:
    """klp-storm leaves no zombie of its own behind."""
    with spawn([programs / "klp-storm", *interval], stdin=PIPE, stdout=PIPE) as child:
        assert says(child)["storming"] == child.pid
        assert wait_until(lambda: sleeps(child) >= 3, soon())
        assert child.stdin is not None
        child.stdin.close()
        said = says(child)
        assert said["forks"] == said["reaped"] > 0
        assert child.wait(timeout=soon().remaining_s) == 0


def test_a_storm_that_is_told_to_end_leaves_nobody(programs: Path) -> None:
    """The signal mostly comes while it waits for a child; and no child keeps its output open."""
    for _ in range(10):
        with spawn([programs / "klp-storm"], stdin=PIPE, stdout=PIPE) as child:
            assert says(child)["storming"] == child.pid
            assert wait_until(lambda: sleeps(child) >= 3, soon())
            child.send_signal(signal.SIGTERM)
            assert child.wait(timeout=soon().remaining_s) == 0
            said = says(child)
            assert said["forks"] == said["reaped"] > 0


def test_a_storm_that_is_killed_takes_its_children_along(programs: Path) -> None:
    """A killed klp-storm leaves no child that runs on."""
    with spawn([programs / "klp-storm"], stdin=PIPE, stdout=PIPE) as child:
        says(child)
        assert wait_until(lambda: sleeps(child) >= 3, soon())
        child.kill()
        assert child.stdout is not None
        assert select.select([child.stdout], [], [], soon().remaining_s)[0]
        assert child.stdout.read() == b""


def test_a_storm_pauses_as_it_is_told(programs: Path) -> None:
    """klp-storm makes the pause that its argument asks for."""
    with spawn([programs / "klp-storm", "3600000000"], stdin=PIPE, stdout=PIPE) as child:
        says(child)
        assert child.stdin is not None
        child.stdin.close()
        assert says(child) == {"forks": 1, "reaped": 1}
        assert child.wait(timeout=soon().remaining_s) == 0


def test_each_source_is_a_program_of_its_name(programs: Path) -> None:
    """All are one file, which is the program whose name is argv[0]."""
    build(programs)
    names = {path.name for path in programs.glob("klp-*") if path.is_symlink()}
    sources = resource_dir(Resource.GUEST_PROGRAMS).glob("klp_*.c")
    assert names == {path.stem.replace("_", "-") for path in sources}
    assert {(programs / name).resolve() for name in names} == {programs / "klp-programs"}
    named = run([programs / "klp-fifo"], deadline=soon(), check=False)
    assert named.stderr.startswith("klp-fifo: usage: ")
    # klp-duel executes /proc/self/exe, and is klp-duel again.
    again: list[str | Path] = ["bash", "-c", 'exec -a klp-exec "$0"', programs / "klp-programs"]
    renamed = run(again, deadline=soon(), check=False)
    assert renamed.stderr.startswith("klp-exec: usage: ")


def test_another_name_is_no_program(programs: Path) -> None:
    """It says by which name it was started, and does nothing."""
    done = run([programs / "klp-programs"], deadline=soon(), check=False)
    assert done.returncode == 2
    assert "started as klp-programs, and has no program of that name" in done.stderr
