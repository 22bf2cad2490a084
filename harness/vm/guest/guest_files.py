# SPDX-License-Identifier: GPL-2.0-only
"""Files of the user that are in each guest of a run, as part of its initramfs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import UsageError
from harness.inputs import shown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# What makes a guest one: without these it would not boot, or not be reached.
_OURS = ("init", "etc/rc", "etc/inittab", "etc/dropbear", "root/.ssh", "proc", "sys", "dev")


def guest_files(texts: Sequence[str]) -> Mapping[str, Path]:
    """Return the host files of ``SRC:DST`` by their paths in the guest; a folder gives all in it.

    Raises UsageError for what is not there, cannot be read, or would replace what a guest needs.
    """
    found: dict[str, Path] = {}
    for text in texts:
        source, colon, target = text.rpartition(":")
        if not colon or not source or not target.startswith("/") or ".." in Path(target).parts:
            raise UsageError(
                f"--file {shown(text)} is not of the form SRC:DST",
                hint="DST is a full path in the guest: --file ./daemon:/bin/daemon",
            )
        path = Path(source).expanduser()
        place = "/" + target.strip("/")
        if any(f"{place}/".startswith(f"/{ours}/") for ours in _OURS):
            raise UsageError(f"--file {shown(text)} would replace what a guest needs to work")
        if path.is_dir():
            below = {f"{place}/{each.relative_to(path)}": each for each in _files_of(path)}
            if not below:
                raise UsageError(f"--file {shown(text)}: there is no file in {shown(source)}")
            found |= below
        elif path.is_file():
            found[place] = _readable(path)
        else:
            raise UsageError(f"--file {shown(text)}: there is no file {shown(source)}")
    return found


def _files_of(folder: Path) -> list[Path]:
    return [_readable(each) for each in sorted(folder.rglob("*")) if each.is_file()]


def _readable(path: Path) -> Path:
    try:
        with path.open("rb"):
            return path.absolute()
    except OSError as error:
        raise UsageError(f"{shown(path)} cannot be read: {error.strerror}") from error
