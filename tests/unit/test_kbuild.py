# SPDX-License-Identifier: GPL-2.0-only
"""A build's own Makefile, which must not name the place where the kernel was built."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.deadline import Deadline
from harness.vm.host.process import run
from harness.vm.kernel.kbuild import GDB_SCRIPTS, make_relocatable
from harness.vm.kernel.kernel import BUILD

if TYPE_CHECKING:
    from pathlib import Path

SOURCES = "all:\n\t@echo made with $(realpath $(KBUILD_OUTPUT))\n"


def tree_with(folder: Path, makefile: str) -> Path:
    tree = folder / "linux"
    (tree / BUILD).mkdir(parents=True)
    (tree / "Makefile").write_text(SOURCES)
    (tree / BUILD / "Makefile").write_text(makefile)
    return tree


def test_a_build_can_be_moved(tmp_path: Path) -> None:
    """Newer kernels write full paths; after the move make finds the sources all the same."""
    tree = tmp_path / "partial" / "linux"
    text = f"export KBUILD_OUTPUT = {tree / BUILD}\ninclude {tree}/Makefile\n"
    assert tree_with(tmp_path / "partial", text) == tree
    make_relocatable(tree)
    moved = (tmp_path / "partial").rename(tmp_path / "done") / "linux" / BUILD
    done = run(["make", "--no-print-directory", "-C", moved], deadline=Deadline.after(60))
    assert done.stdout.strip() == f"made with {moved.resolve()}"


def test_a_build_that_names_no_place_stays_as_it_is(tmp_path: Path) -> None:
    """A Makefile that can be moved already is not written to."""
    text = "include ../Makefile\n"
    tree = tree_with(tmp_path, text)
    make_relocatable(tree)
    assert (tree / BUILD / "Makefile").read_text() == text


def test_the_scripts_of_gdb_are_found_after_a_move(tmp_path: Path) -> None:
    """The kernel links them by full paths; what another program linked stays as it is."""
    tree = tree_with(tmp_path / "partial", "include ../Makefile\n")
    names = [GDB_SCRIPTS, "linux/tasks.py"]
    for name in names:
        script = tree / "scripts/gdb" / name
        script.parent.mkdir(parents=True, exist_ok=True)
        script.write_text(f"# {name}\n")
    linked = tree / BUILD / "scripts/gdb/linux"
    linked.mkdir(parents=True)
    (tree / BUILD / GDB_SCRIPTS).symlink_to(tree.resolve() / "scripts/gdb" / GDB_SCRIPTS)
    (linked / "tasks.py").symlink_to(tree.resolve() / "scripts/gdb/linux/tasks.py")
    (linked / "other.py").symlink_to("/dev/null")
    make_relocatable(tree)
    build = (tmp_path / "partial").rename(tmp_path / "done") / "linux" / BUILD
    assert (build / GDB_SCRIPTS).read_text() == f"# {GDB_SCRIPTS}\n"
    assert (build / "scripts/gdb/linux/tasks.py").read_text() == "# linux/tasks.py\n"
    assert str((build / "scripts/gdb/linux/other.py").readlink()) == "/dev/null"
