# SPDX-License-Identifier: GPL-2.0-only
"""klp-harness gdb: the kernel of a kept guest under gdb, with the symbols of its modules."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.exits import guarded
from harness.errors import UsageError
from harness.report.terminal import Terminal
from harness.tools.guests.symbols import moved_by
from harness.vm.guest import kept
from harness.vm.guest.control import ask
from harness.vm.guest.gdb_server import GDB_SOCKET
from harness.vm.host.process import find_program, foreground
from harness.vm.kernel.kbuild import GDB_SCRIPTS

if TYPE_CHECKING:
    from harness.vm.guest.kept import KeptGuest

_ASK_S = 60.0


@guarded
def gdb(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME", help="A kept guest; without it, the only one.", show_default=False
        ),
    ] = None,
    execute: Annotated[
        tuple[str, ...],
        typer.Option("--ex", metavar="COMMAND", help="A command for gdb. Repeatable."),
    ] = (),
    batch: Annotated[
        bool, typer.Option("--batch", help="End after the commands, and let the guest go on.")
    ] = False,
) -> int:
    """Debug a kept guest: its kernel stands still until gdb ends. The exit code is gdb's."""
    guest = kept.find(name)
    find_program("gdb")
    words = gdb_commands(guest)
    for note in missing(guest):
        Terminal().note(note)
    ask(guest.folder, "gdb", timeout_s=_ASK_S)
    more = [*words, *execute]
    argv = ["gdb", "-q", *(["-batch"] if batch else [])]
    return foreground([*argv, *(word for each in more for word in ("-ex", each))])


def gdb_commands(guest: KeptGuest) -> list[str]:
    """Return what gdb is to do first: read the symbols, and connect to the guest.

    Raises UsageError where the kernel came without its vmlinux.
    """
    if guest.vmlinux is None or not Path(guest.vmlinux).is_file():
        raise UsageError(
            f"there is no vmlinux of {guest.kernel} on this machine, which gdb needs",
            hint="packaged kernels come without it",
        )
    words = ["set pagination off", "set confirm off", "set architecture i386:x86-64"]
    # The kernel's scripts are read below, once; gdb itself would not, and say so at length.
    words.append("set auto-load python-scripts off")
    if guest.build_dir is not None:
        # The names of sources are relative to it.
        words.append(f'directory "{guest.build_dir}"')
    offset = moved_by(guest)
    words.append(f'symbol-file "{guest.vmlinux}"' + (f" -o {offset:#x}" if offset else ""))
    for module in guest.modules.values():
        text = module.sections.get(".text")
        if text is None:
            continue
        others = (
            f"-s {section} {address:#x}"
            for section, address in sorted(module.sections.items())
            if section != ".text" and _is_loaded(section)
        )
        words.append(f'add-symbol-file "{module.file}" {text:#x} {" ".join(others)}')
    if guest.build_dir is not None and (scripts := Path(guest.build_dir, GDB_SCRIPTS)).exists():
        # gdb takes the rest of the line as it is: a quotation mark would belong to the name.
        words.append(f"source {scripts}")
    return [*words, f"target remote {guest.folder / GDB_SOCKET}"]


def missing(guest: KeptGuest) -> list[str]:
    """Return a sentence for each thing that gdb will lack."""
    notes = []
    if guest.text is None:
        notes.append(
            "the guest did not answer when it was kept: gdb gets no symbols of its modules"
        )
    if guest.build_dir is not None and not Path(guest.build_dir, GDB_SCRIPTS).exists():
        notes.append("there are no lx- commands: the kernel is built without CONFIG_GDB_SCRIPTS")
    return notes


def _is_loaded(section: str) -> bool:
    return section.startswith((".rodata", ".data", ".bss", ".text", ".init"))
