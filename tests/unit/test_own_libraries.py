# SPDX-License-Identifier: GPL-2.0-only
"""Programs of headers that run with the C library among their packages, wherever that lies."""

from __future__ import annotations

import shutil
from pathlib import Path

from harness.deadline import Deadline
from harness.vm.host.process import run
from harness.vm.kernel.own_libraries import use_own_libraries

LIBRARY = "usr/lib/x86_64-linux-gnu"


def headers_in(root: Path) -> Path:
    """Make headers with a program, as Debian has them; return the program."""
    program = root / "usr/lib/linux-kbuild-7/scripts/mod/modpost"
    program.parent.mkdir(parents=True)
    shutil.copy("/usr/bin/readlink", program)
    (program.parent / "script").write_text("#!/bin/sh\n")
    (program.parent / "script").chmod(0o755)
    return program


def test_they_are_started_by_their_own_loader(tmp_path: Path) -> None:
    """Also after the folder was moved, as a cache entry is when it is complete."""
    root = tmp_path / "root"
    program = headers_in(root)
    for name in ("ld-linux-x86-64.so.2", "libc.so.6"):
        (root / LIBRARY).mkdir(parents=True, exist_ok=True)
        shutil.copy(Path("/lib64/ld-linux-x86-64.so.2").resolve().parent / name, root / LIBRARY)
    use_own_libraries(root)
    moved = tmp_path / "elsewhere/root"
    moved.parent.mkdir()
    root.rename(moved)
    said = run(
        [moved / program.relative_to(root), "/proc/self/exe"], deadline=Deadline.after(30)
    ).stdout
    assert said.strip() == str(moved / LIBRARY / "ld-linux-x86-64.so.2")
    assert (moved / program.relative_to(root)).with_name("script").read_text() == "#!/bin/sh\n"


def test_without_a_library_among_the_packages(tmp_path: Path) -> None:
    """The programs stay as they are."""
    program = headers_in(tmp_path)
    before = program.read_bytes()
    use_own_libraries(tmp_path)
    assert program.read_bytes() == before
