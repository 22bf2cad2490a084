# SPDX-License-Identifier: GPL-2.0-only
"""A failing guest in hand, and files and loads of one's own: as a user types it."""

from __future__ import annotations

import json
import os
import re
import sys
from typing import TYPE_CHECKING

import pytest

from harness.deadline import Deadline, wait_until
from harness.vm.host.process import PIPE, run, spawn

if TYPE_CHECKING:
    from pathlib import Path

    from harness.vm.host.process import Finished

KLP = (sys.executable, "-m", "harness.cli")
CHECK = """#!/bin/sh
[ "$1" != during ] || grep -q "{word}" /proc/cmdline
"""
SPLAT = """// SPDX-License-Identifier: GPL-2.0-only
#include <linux/livepatch.h>
#include <linux/module.h>
#include <linux/seq_file.h>

static int klp_splat_show(struct seq_file *m, void *v)
{
	seq_puts(m, "splat\\n");
	return 0;
}

static struct klp_func funcs[] = {
	{ .old_name = "cmdline_proc_show", .new_func = klp_splat_show },
	{ }
};
static struct klp_object objs[] = { { .funcs = funcs }, { } };
static struct klp_patch patch = { .mod = THIS_MODULE, .objs = objs };

static int __init klp_splat_init(void)
{
	WARN_ON(1);
	return klp_enable_patch(&patch);
}

static void __exit klp_splat_exit(void)
{
}

module_init(klp_splat_init);
module_exit(klp_splat_exit);
MODULE_DESCRIPTION("Livepatch test: a warning in init");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
"""
LOAD = """#!/bin/sh
cp /etc/mine/word /tmp/load-saw
while :; do cat /proc/cmdline >/dev/null; done
"""
LOAD_CHECK = """#!/bin/sh
[ "$1" != during ] || [ ! -e /tmp/load-saw ] || grep -qx unlikely /tmp/load-saw
"""


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of this test's own for runs, so that it sees no other guests."""
    folder = tmp_path / "runs"
    monkeypatch.setenv("KLP_HARNESS_RUNS", str(folder))
    return folder


def klp(*words: str, stdin: str | None = None) -> Finished:
    return run([*KLP, *words], deadline=Deadline.after(300), stdin=stdin, check=False)


@pytest.mark.slow(25)
def test_a_guest_is_kept(runs: Path, tmp_path: Path) -> None:
    """verify ends with its verdict; the guest goes on until it is stopped, and leaves no key."""
    check = tmp_path / "check.sh"
    check.write_text(CHECK.format(word="no such word"))
    failed = klp(
        *("verify", "klp_test_cmdline_a", "--scene", "idle", "--check", str(check)),
        "--keep-guest",
    )
    try:
        assert failed.returncode == 1
        named = re.search(r"^kept: guest (\S+) ", failed.stderr, re.MULTILINE)
        assert named is not None, failed.stderr
        listed = klp("guests").stdout
        assert named[1] in listed
        assert "check" in listed
        inside = klp("ssh", named[1], "cat", "/proc/cmdline")
        assert (inside.returncode, "live patched" in inside.stdout) == (0, True)
        assert klp("ssh", named[1], "false").returncode == 1
        again = [line for line in failed.stderr.splitlines() if line.strip().startswith("ssh -F ")]
        words = again[0].replace("~", os.path.expanduser("~")).split()  # noqa: PTH111
        reached = run([*words, "uname", "-r"], deadline=Deadline.after(60))
        assert reached.stdout.strip()
        dump = tmp_path / "vmcore"
        assert klp("dump", named[1], "--out", str(dump)).returncode == 0
        assert dump.stat().st_size > 100 << 20
    finally:
        stopped = klp("guests", "stop", "--all")
    assert stopped.returncode == 0
    assert klp("guests").stdout == "no guest is kept\n"
    assert not list(runs.glob("kept-*"))
    assert not list(runs.rglob("client_key"))


@pytest.mark.slow(25)
def test_a_guest_that_panicked_is_kept(runs: Path, tmp_path: Path) -> None:
    """It stands where it panicked: gdb finds the panic on a stack, its memory can be dumped."""
    script = "insmod klp_test_cmdline_a.ko; echo c >/proc/sysrq-trigger; sleep 60"
    words = ("boot", "klp_test_cmdline_a", "--keep-guest")
    panicked = klp(*words, stdin=f"cd /root; {script}")
    try:
        assert panicked.returncode == 1, panicked.stderr
        assert "sysrq triggered crash" in klp("guests").stdout
        stacks = klp("gdb", "--batch", "--ex", "thread apply all x/200a $rsp")
        assert "<panic+" in stacks.stdout, stacks.stdout + stacks.stderr
        for name, *more in (["vmcore"], ["kdump", "--kdump"]):
            dump = tmp_path / name
            dumped = klp("dump", "--out", str(dump), *more)
            assert dumped.returncode == 0, dumped.stderr
            # QEMU writes kdump's format flattened, as makedumpfile -F does.
            assert dump.read_bytes().startswith(b"makedumpfile" if more else b"\x7fELF")
        assert (
            b"Kernel panic - not syncing: sysrq triggered crash"
            in (tmp_path / "vmcore").read_bytes()
        )
    finally:
        klp("guests", "stop", "--all")
    assert not list(runs.glob("kept-*"))


@pytest.mark.slow(15)
def test_modules_of_a_guest_with_a_splat(runs: Path, tmp_path: Path) -> None:
    """The splat that it is kept for is no reason to know nothing of its modules."""
    folder = tmp_path / "klp_splat"
    folder.mkdir()
    (folder / "Kbuild").write_text("obj-m := klp_splat.o\n")
    (folder / "klp_splat.c").write_text(SPLAT)
    failed = klp("run", str(folder), "--keep-guest")
    try:
        assert failed.returncode == 1, failed.stderr
        assert "WARNING in klp_splat_init" in klp("guests").stdout
        found = klp("gdb", "--batch", "--ex", "info address klp_splat_show")
        assert 'Symbol "klp_splat_show" is at 0xffffffff' in found.stdout, found.stderr
    finally:
        klp("guests", "stop", "--all")
    assert not list(runs.glob("kept-*"))


@pytest.mark.slow(15)
def test_a_failure_stops_the_run(runs: Path, tmp_path: Path) -> None:
    """The command waits with the guest and then ends with its verdict, the rest not begun."""
    result = tmp_path / "results.json"
    words = (
        *("run", "klp_test_refused", "klp_test_cmdline_a", "--no-check"),
        *("--stop-at-failure", "--json", str(result)),
    )
    with spawn([*KLP, *words], stdout=PIPE, stderr=PIPE) as child:
        deadline = Deadline.after(300)
        held = wait_until(
            lambda: child.poll() is not None or any(runs.glob("kept-*/kept.json")),
            deadline,
            interval_s=0.5,
        )
        assert held
        assert child.poll() is None, child.stderr.read() if child.stderr else ""
        assert "klp_test_refused" in klp("guests").stdout
        assert klp("ssh", "klp", "true").returncode == 0
        assert child.poll() is None
        assert klp("guests", "stop", "--all").returncode == 0
        assert wait_until(lambda: child.poll() is not None, deadline, interval_s=0.2)
    assert child.returncode == 1
    report = json.loads(result.read_text())
    assert [(each["id"], each["outcome"]) for each in report["results"]] == [
        ("klp_test_refused", "failed")
    ]
    assert klp("guests").stdout == "no guest is kept\n"


@pytest.mark.slow(25)
@pytest.mark.parametrize(("word", "code"), [("unlikely", 0), ("other", 1)])
def test_files_and_a_load_of_ones_own(runs: Path, tmp_path: Path, word: str, code: int) -> None:
    """The load finds the file in the guest; the check, which finds what it wrote, decides."""
    mine, load, check = tmp_path / "mine", tmp_path / "load.sh", tmp_path / "check.sh"
    mine.mkdir()
    (mine / "word").write_text(f"{word}\n")
    load.write_text(LOAD)
    load.chmod(0o755)
    check.write_text(LOAD_CHECK)
    result = tmp_path / "results.json"
    ended = klp(
        *("verify", "klp_test_cmdline_a", "--scene", "load", "--check", str(check)),
        *("--load", str(load), "--file", f"{mine}:/etc/mine", "--json", str(result)),
    )
    assert ended.returncode == code, ended.stdout + ended.stderr
    outcomes = {each["id"]: each["outcome"] for each in json.loads(result.read_text())["results"]}
    assert outcomes["under-load.sh"] == ("passed" if code == 0 else "failed")
