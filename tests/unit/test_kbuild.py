# SPDX-License-Identifier: GPL-2.0-only
"""A build's own Makefile, which must not name the place where the kernel was built."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.deadline import Deadline
from harness.vm.host.process import run
from harness.vm.kernel.kbuild import make_relocatable
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
