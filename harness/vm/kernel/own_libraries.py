# SPDX-License-Identifier: GPL-2.0-only
"""Programs of a kernel's headers that need a later C library than this machine has.

Kbuild starts them for each module: modpost, objtool. Where the C library is among the packages that
were unpacked, they are started with it, by its own loader (ld.so(8)).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from harness.vm.kernel.layout import first_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_LOADERS = (
    "lib64/ld-linux-x86-64.so.2",
    "usr/lib64/ld-linux-x86-64.so.2",
    "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
)
_LIBRARIES = ("usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu", "usr/lib64", "lib64")
_PLACES = ("usr/src", "usr/lib/linux-kbuild*")
_ELF = b"\x7fELF"
_START = """\
#!/bin/sh
# Written by klp-harness: the program beside this file, with the C library of its own release.
here=$(dirname "$(readlink -f "$0")")
root="$here/{root}"
exec "$root/{loader}" --argv0 "$0" --library-path "{libraries}" "$here/{program}" "$@"
"""


def use_own_libraries(root: Path) -> None:
    """Start the headers' programs below a root with the C library there, if it is there.

    Raises OSError.
    """
    loader = first_of(root, *_LOADERS)
    if loader is None:
        return
    libraries = [place for place in _LIBRARIES if (root / place).is_dir()]
    for program in list(_programs(root)):
        # A name as another of its programs is built from it: objtool.real-x86.
        moved = program.with_name(f".{program.name}.elf")
        program.rename(moved)
        program.write_text(
            _START.format(
                root=os.path.relpath(root, program.parent),
                loader=loader.relative_to(root),
                libraries=":".join(f"$root/{place}" for place in libraries),
                program=moved.name,
            )
        )
        program.chmod(0o755)


def _programs(root: Path) -> Iterator[Path]:
    for pattern in _PLACES:
        for folder in root.glob(pattern):
            for path in folder.rglob("*"):
                if path.is_symlink() or not path.is_file() or not os.access(path, os.X_OK):
                    continue
                with path.open("rb") as file:
                    if file.read(len(_ELF)) == _ELF and path.suffix != ".so":
                        yield path
