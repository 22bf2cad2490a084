# SPDX-License-Identifier: GPL-2.0-only
"""Patch files as users give them, and which files of a kernel tree they change.

What is read is the unified format, with paths as git writes them (``a/kernel/fork.c``), since
patch(1) is given -p1.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from harness.errors import PatchDoesNotApply
from harness.inputs import MIB, read_file, shown, user_path

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

# Those of a stable release from the one before have up to 10 MiB.
_MOST_BYTES = 256 * MIB
_HUNK = re.compile(r"@@ -\d{1,9}(?:,(\d{1,9}))? \+\d{1,9}(?:,(\d{1,9}))? @@")
_OTHER_KINDS = ("GIT binary patch", "rename from ", "copy from ")
_FIRST_DIFF = re.compile(rb"^(?:diff --git |--- \S)", re.MULTILINE)
_NOWHERE = "/dev/null"
_FIELD = re.compile(r"([A-Z][a-z]+): +(.+)\Z")
# What the build of a module depends on: headers below an include folder, Kbuild, Kconfig, tools.
_SEEN_BY_MODULES = re.compile(
    r"(?:^|/)(?:include/.*|Makefile[^/]*|Kbuild[^/]*|Kconfig[^/]*|[^/]*\.lds(?:\.S)?)$"
    r"|^(?:scripts|tools)/|(?:^|/)(?:asm-offsets\w*|bounds)\.c$"
)
_OPTIONS = re.compile(r"(?:^|/)Kconfig[^/]*$")


@dataclass(frozen=True, kw_only=True)
class PatchFile:
    """A patch as it was read. ``files`` are the paths in the tree that it names."""

    name: str
    content: bytes
    files: tuple[str, ...]

    @property
    def digest(self) -> str:
        """Return the SHA-256 of the content, without the text before the first diff."""
        begin = _FIRST_DIFF.search(self.content)
        return hashlib.sha256(self.content[begin.start() if begin else 0 :]).hexdigest()

    @property
    def text(self) -> str:
        """Return the content, with replacement characters where it is no UTF-8."""
        return self.content.decode(errors="replace")


def read_patch(path: Path) -> PatchFile:
    """Read one patch file. Raises UsageError, or PatchDoesNotApply for one that is no patch."""
    content = read_file(user_path(path, "the patch"), "the patch", at_most=_MOST_BYTES)
    return PatchFile(name=path.name, content=content, files=changed_files(content, path.name))


def header_fields(text: str, names: Collection[str]) -> dict[str, str]:
    """Return the fields with these names in the text before the first diff of a patch.

    A field is ``Name: text`` on a line; the text may go on in lines that begin with a blank.
    """
    fields: dict[str, str] = {}
    last = None
    for line in text.splitlines():
        if line.startswith(("--- ", "diff ")):
            break
        if line.startswith((" ", "\t")) and last is not None:
            fields[last] += " " + line.strip()
            continue
        match = _FIELD.match(line)
        last = match[1] if match is not None and match[1] in names else None
        if match is not None and last is not None:
            fields[last] = match[2].strip()
    return fields


def changed_files(content: bytes, name: str) -> tuple[str, ...]:
    """Return the paths that a unified diff changes, in their order, without the first component.

    Raises PatchDoesNotApply when it has none, is cut off, leaves the tree, or renames.
    """
    lines = content.decode(errors="surrogateescape").removesuffix("\n").split("\n")
    found: dict[str, None] = {}
    number = 0
    while number < len(lines):
        line = lines[number]
        number += 1
        if line.startswith(_OTHER_KINDS):
            raise PatchDoesNotApply(
                f"{name} renames or copies files, or has binary data",
                hint="write it with git diff --no-renames",
            )
        after = lines[number] if number < len(lines) else ""
        if line.startswith("--- ") and after.startswith("+++ "):
            found |= dict.fromkeys(_paths(line, after, name))
            number = _after_hunks(lines, number + 1, name)
    if not found:
        raise PatchDoesNotApply(
            f"{name} is no patch: it holds no unified diff", hint="see diff -u, or git diff"
        )
    return tuple(found)


def modules_see(files: Iterable[str]) -> bool:
    """Return whether a module may be built differently when these files of a kernel change.

    Headers outside of include folders, such as kernel/livepatch/core.h, are the kernel's own.
    """
    return any(_SEEN_BY_MODULES.search(name) for name in files)


def changes_options(files: Iterable[str]) -> bool:
    """Return whether options of the configuration may be added or removed."""
    return any(_OPTIONS.search(name) for name in files)


def _paths(before: str, after: str, name: str) -> list[str]:
    named = [line[4:].partition("\t")[0].rstrip() for line in (before, after)]
    paths = []
    for text in named:
        if text == _NOWHERE:
            continue
        path = PurePosixPath(text)
        inner = path.parts[1:]
        if path.is_absolute() or ".." in path.parts or not inner or '"' in text or "\0" in text:
            raise PatchDoesNotApply(
                f"{name} changes {shown(text)}, which is no path in a kernel tree",
                hint="paths are as git diff writes them: a/kernel/livepatch/core.c",
            )
        paths.append(str(PurePosixPath(*inner)))
    return paths


def _after_hunks(lines: Sequence[str], number: int, name: str) -> int:
    """Return the number of the first line after the hunks that begin at one."""
    while number < len(lines) and (match := _HUNK.match(lines[number])):
        number += 1
        old, new = (int(count) if count is not None else 1 for count in match.groups())
        while old > 0 or new > 0:
            # An editor may have removed the blank of an empty line of context; patch(1) allows it.
            mark = lines[number][:1] if number < len(lines) else "end"
            if mark == "end" or mark not in ("", " ", "+", "-", "\\"):
                raise PatchDoesNotApply(f"{name} is cut off or damaged in line {number + 1}")
            old -= mark in ("", " ", "-")
            new -= mark in ("", " ", "+")
            number += 1
    return number
