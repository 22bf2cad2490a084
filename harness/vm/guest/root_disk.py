# SPDX-License-Identifier: GPL-2.0-only
"""A root file system on a disk of the guest, and the layers of that disk.

The image is never written to. A guest writes to a layer of its own (qcow2) above it, in a file that
has no name any more: it is gone when the guest is. A template's layer stays as long as the template
does, and a clone has it below its own: so a clone finds its disk as the template left it.

QEMU gets the layers as sets of descriptors (-add-fd), which it duplicates: it opens nothing, so it
needs no right to the files.
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.vm.host.process import run

if TYPE_CHECKING:
    from contextlib import ExitStack
    from pathlib import Path

    from harness.deadline import Deadline

_MAKE_S = 30.0


@dataclass(frozen=True, kw_only=True)
class RootDisk:
    """A root file system in a file.

    ``image`` is raw, and the file system in it begins at ``offset`` and has ``size`` bytes. With
    ``init`` its own init is process 1 of guests, and ``systemd`` says whether that is what this is.
    ``source`` names it in sentences.
    """

    image: Path
    file_system: str
    size: int
    source: str
    offset: int = 0
    init: bool = False
    systemd: bool = False


@dataclass(frozen=True, kw_only=True)
class Layers:
    """A guest's disk: descriptors from the image, the lowest, to its own layer, the highest."""

    descriptors: tuple[int, ...]


def open_layers(
    root: RootDisk, folder: Path, opened: ExitStack, *, below: str | None, deadline: Deadline
) -> Layers:
    """Return the layers of a new guest; ``below`` is the path of its template's own layer.

    They are closed with ``opened``. Raises MissingTool, CommandFailed, OSError.
    """
    paths = [(str(root.image), os.O_RDONLY), *([(below, os.O_RDONLY)] if below else [])]
    descriptors = [_opened(path, flags, opened) for path, flags in paths]
    own = folder / f"disk-{secrets.token_hex(4)}"
    try:
        run(
            ["qemu-img", "create", "-q", "-f", "qcow2", own, str(root.size)],
            deadline=deadline.within(_MAKE_S),
        )
        descriptors.append(_opened(str(own), os.O_RDWR, opened))
    finally:
        own.unlink(missing_ok=True)
    return Layers(descriptors=tuple(descriptors))


def _opened(path: str, flags: int, opened: ExitStack) -> int:
    descriptor = os.open(path, flags | os.O_CLOEXEC)
    opened.callback(os.close, descriptor)
    return descriptor


def disk_arguments(root: RootDisk, layers: Layers) -> list[str]:
    """Return the options of QEMU that give a guest its disk."""
    arguments: list[str] = []
    top = ""
    for number, descriptor in enumerate(layers.descriptors):
        own = number == len(layers.descriptors) - 1
        mode = "off" if own else "on"
        file = f"driver=file,filename=/dev/fdset/{number},locking=off"
        node = f"root{number}"
        if number == 0:
            place = f"offset={root.offset},size={root.size}"
            above = f"driver=raw,node-name={node},read-only=on,file={node}-file,{place}"
        else:
            above = f"driver=qcow2,node-name={node},read-only={mode},file={node}-file,backing={top}"
        arguments += [
            *("-add-fd", f"fd={descriptor},set={number}"),
            *("-blockdev", f"{file},node-name={node}-file,read-only={mode}"),
            *("-blockdev", above),
        ]
        top = node
    return [*arguments, "-device", f"virtio-blk-pci,drive={top}"]
