# SPDX-License-Identifier: GPL-2.0-only
"""klp-harness dump: the memory of a kept guest as a file, and a first report on its livepatches."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.exits import guarded
from harness.cli.invocation import check_writable
from harness.errors import ExitCode, UsageError
from harness.report.terminal import Terminal
from harness.tools.guests.livepatches import report_lines
from harness.vm.guest import kept
from harness.vm.guest.control import ask
from harness.vm.guest.kept import KeptGuest, note_of_dump

if TYPE_CHECKING:
    from collections.abc import Iterator

_DUMP_S = 330.0


@guarded
def dump(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME", help="A kept guest; without it, the only one.", show_default=False
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="The file to write; default: NAME.vmcore."),
    ] = None,
    compressed: Annotated[
        bool, typer.Option("--kdump", help="Write kdump's format with zlib in place of ELF.")
    ] = False,
    read: Annotated[
        Path | None,
        typer.Option(
            "--read", metavar="FILE", help="Report on an earlier dump; no guest is needed."
        ),
    ] = None,
) -> int:
    """Dump the memory of a kept guest to a file; with drgn, report its livepatches."""
    terminal = Terminal()
    if read is not None:
        if name is not None or out is not None or compressed:
            raise UsageError("--read takes a dump that is there already, and nothing else")
        guest, path = _of_dump(read), read
    else:
        guest = kept.find(name)
        path = (out or Path(f"{guest.name}.vmcore")).absolute()
        check_writable(path)
        if path.exists():
            raise UsageError(f"{path} exists already", hint="name another file with --out")
        began_s = time.monotonic()
        with _removed_unless_whole(path):
            words = {"format": "kdump-zlib"} if compressed else {}
            ask(guest.folder, "dump", timeout_s=_DUMP_S, path=str(path), **words)
            note_of_dump(guest, path)
        size = path.stat().st_size >> 20
        terminal.print(f"{path}: {size} MiB in {time.monotonic() - began_s:.1f} s")
    for line in report_lines(guest, path):
        terminal.print(line)
    return ExitCode.HELD


def _of_dump(path: Path) -> KeptGuest:
    if not path.is_file():
        raise UsageError(f"there is no dump {path}")
    try:
        return kept.read_note_of_dump(path)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"there is no description beside {path}, or it cannot be read",
            hint="klp-harness writes FILE.json beside each dump; they belong together",
        ) from error


@contextlib.contextmanager
def _removed_unless_whole(path: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        path.unlink(missing_ok=True)
        raise
