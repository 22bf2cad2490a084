# SPDX-License-Identifier: GPL-2.0-only
"""A plugin of QEMU's translator, and the file that each guest's QEMU shares with the harness.

What the plugin does, and what is in the file, is its maker's business (harness/observer/).
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    from harness.vm.kernel.kernel import Bootable

SUFFIX = ".observed"
"""Ends the names of the shared files. The rest is the name of the guest's folder."""


@dataclass(frozen=True, kw_only=True)
class Plugin:
    """A plugin for guests of one kernel.

    Each guest's file is in ``folder``. It begins with ``head``, and has ``size`` bytes, which take
    room on the disk when they are written to.
    """

    library: Path
    head: bytes = field(repr=False)
    size: int
    folder: Path

    def make_file(self, name: str) -> Path:
        """Make the file of a guest and return its path; raises OSError."""
        path = file_of(name, self.folder)
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        # One of a guest that did not boot, and is booted again.
        path.unlink(missing_ok=True)
        with path.open("xb") as file:
            file.write(self.head)
            os.truncate(file.fileno(), self.size)
        return path


class PluginMaker(Protocol):
    """Chooses the plugin for the guests of a kernel."""

    def __call__(self, kernel: Bootable) -> Plugin | None:
        """Return the plugin, or None for a guest without one; raises KlpError."""


def no_plugin(kernel: Bootable) -> Plugin | None:  # noqa: ARG001
    """Return None, whatever the kernel."""
    return None


def file_of(name: str, folder: Path) -> Path:
    """Return the path of the shared file of the guest with that folder."""
    return folder / f"{name}{SUFFIX}"


def observed_by(plugin: Plugin | None, name: str) -> tuple[tuple[str, str] | None, Path | None]:
    """Return the library and the shared file for QEMU's command line, and the file's path.

    ``name`` is that of the guest's folder. Both are None without a plugin; raises OSError.
    """
    if plugin is None:
        return None, None
    path = plugin.make_file(name)
    return (str(plugin.library), str(path)), path
