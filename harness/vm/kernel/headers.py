# SPDX-License-Identifier: GPL-2.0-only
"""A distribution's kernel headers, changed so that they work wherever they lie.

They are made for one place: a Makefile includes another by its full path, and links lead to
/usr/src or /usr/lib.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from harness.vm.kernel.layout import within

if TYPE_CHECKING:
    from collections.abc import Iterator

# "include /usr/src/linux-headers-V-common/Makefile", "KBUILD_OUTPUT=/usr/src/linux-headers-V"
_FULL_PATH = re.compile(
    r"^(?:-?include +|(?P<name>\w+)[ \t]*:?=[ \t]*)(?P<path>/usr/(?:src|lib)/\S+)$", re.MULTILINE
)
_PLACES = (("usr", "src"), ("usr", "lib"), ("lib",))
_NAME = "linux"


def copy_headers(headers: Path, root: Path, to: Path) -> Path:
    """Copy a folder of headers and those that it refers to; return the copy of the first.

    Each lies below ``to`` where it lies below ``root``; what the folders refer to elsewhere, for
    example programs, is left as it is.
    """
    first = headers.relative_to(root)
    pending, done = [first], set[Path]()
    while pending:
        part = pending.pop()
        if part in done:
            continue
        done.add(part)
        shutil.copytree(root / part, to / part, symlinks=True, dirs_exist_ok=True)
        pending += _references(root, part)
    make_movable(to)
    return to / first


def make_movable(root: Path) -> None:
    """Change headers below a root so that they may lie anywhere. Raises OSError."""
    for makefile in _makefiles(root):
        text = makefile.read_text(errors="surrogateescape")
        changed = _FULL_PATH.sub(functools.partial(_relative, makefile, root), text)
        if changed != text:
            makefile.write_text(changed, errors="surrogateescape")
    for link in _links(root):
        target = link.readlink()
        if target.is_absolute():
            leads_to = within(root, str(target))
            if leads_to is not None and leads_to.exists():
                link.unlink()
                link.symlink_to(os.path.relpath(leads_to, link.parent))


def _relative(makefile: Path, root: Path, match: re.Match[str]) -> str:
    named = within(root, match["path"])
    if named is None or not named.exists():
        return match[0]
    there = os.path.relpath(named, makefile.parent)
    place = f"$(abspath $(dir $(lastword $(MAKEFILE_LIST))){there})"
    return f"include {place}" if match["name"] is None else f"{match['name']} := {place}"


def _makefiles(root: Path) -> Iterator[Path]:
    for pattern in ("usr/src/*/Makefile", "usr/src/*/*/Makefile", "usr/src/*/*/*/Makefile"):
        yield from (path for path in root.glob(pattern) if not path.is_symlink())


def _links(root: Path) -> Iterator[Path]:
    for place in ("usr/src", "usr/lib", "lib"):
        for folder, folders, files in os.walk(root / place):
            for name in (*folders, *files):
                path = Path(folder, name)
                if path.is_symlink():
                    yield path


def _references(root: Path, part: Path) -> Iterator[Path]:
    """Yield the folders, by their paths below the root, that one refers to."""
    makefile = root / part / "Makefile"
    named = []
    if makefile.is_file():
        text = makefile.read_text(errors="replace")
        named += [within(root, match["path"]) for match in _FULL_PATH.finditer(text)]
    for folder, folders, files in os.walk(root / part):
        for name in (*folders, *files):
            path = Path(folder, name)
            if path.is_symlink():
                named.append(within(root, str(path.relative_to(root))))
    for leads_to in named:
        whole = _whole(leads_to.relative_to(root)) if leads_to is not None else None
        if whole is not None and (root / whole).is_dir():
            yield whole


def _whole(path: Path) -> Path | None:
    """Return the folder of a package of headers that a path lies in."""
    parts = path.parts
    for place in _PLACES:
        count = len(place) + 1
        if parts[: count - 1] == place and parts[count - 1 : count]:
            return Path(*parts[:count]) if parts[count - 1].startswith(_NAME) else None
    return None
