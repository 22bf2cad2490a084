# SPDX-License-Identifier: GPL-2.0-only
"""mutants sweep --module of a small livepatch, as a user types it."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

from harness.deadline import Deadline
from harness.vm.host.process import run

if TYPE_CHECKING:
    from pathlib import Path

SOURCE = """\
// SPDX-License-Identifier: GPL-2.0-only
#include <linux/livepatch.h>
#include <linux/module.h>
#include <linux/seq_file.h>

static int klp_small_show(struct seq_file *m, void *v)
{
	seq_puts(m, "patched\\n");
	seq_puts(m, "and more\\n");
	return 0;
}

static struct klp_func funcs[] = {
	{ .old_name = "cmdline_proc_show", .new_func = klp_small_show },
	{ }
};
static struct klp_object objs[] = {
	{ .funcs = funcs },
	{ }
};
static struct klp_patch patch = {
	.mod = THIS_MODULE,
	.objs = objs,
};

static int __init klp_small_init(void)
{
	return klp_enable_patch(&patch);
}
static void __exit klp_small_exit(void)
{
}
module_init(klp_small_init);
module_exit(klp_small_exit);
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
"""
CHECK = """#!/bin/sh
[ "$1" != during ] || grep -q ^patched /proc/cmdline
"""
WANTED = ("klp_small-8-delete-call", "klp_small-9-delete-call", "klp_small-14-delete-entry")


@pytest.mark.slow(60)
def test_check_that_reads_one_line_of_two(tmp_path: Path) -> None:
    """The mutant that leaves out the other line survives; the check and the kernel catch two."""
    (tmp_path / "small").mkdir()
    (tmp_path / "small/Kbuild").write_text("obj-m += klp_small.o\n")
    (tmp_path / "small/klp_small.c").write_text(SOURCE)
    (tmp_path / "check.sh").write_text(CHECK)
    code, report = sweep(tmp_path, *WANTED)
    assert code == 1
    assert {each["id"]: each["outcome"] for each in report["results"]} == {
        WANTED[0]: "caught",
        WANTED[1]: "survived",
        WANTED[2]: "caught",
    }
    by = {each["id"]: each["noticed"] for each in report["results"]}
    assert by[WANTED[0]]["test"] == "check-during"
    assert report["scenes"] == ["idle"]
    assert "klp_small-9-delete-call survived" in (tmp_path / "sweep.html").read_text()


def sweep(folder: Path, *names: str) -> tuple[int, dict[str, Any]]:
    """Sweep some mutants in a process of their own; return its exit code and its report."""
    words = [
        *(sys.executable, "-m", "harness.cli", "mutants", "sweep", *names),
        *("--module", "small", "--check", "check.sh", "--scene", "idle"),
        *("--results", "results", "--json", "sweep.json", "--html", "sweep.html"),
    ]
    done = run(words, deadline=Deadline.after(900), cwd=folder, check=False)
    return done.returncode, json.loads((folder / "sweep.json").read_text())
