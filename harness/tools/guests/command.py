# SPDX-License-Identifier: GPL-2.0-only
"""klp-harness guests: the guests that are kept, and their end."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.exits import guarded
from harness.deadline import Deadline, wait_until
from harness.errors import ExitCode, HarnessError, UsageError
from harness.report.terminal import Terminal
from harness.vm.guest import kept
from harness.vm.guest.control import ask

if TYPE_CHECKING:
    from pathlib import Path

_STOP_S = 20.0

app = typer.Typer(help="List the guests that are kept, and stop them.", invoke_without_command=True)


@app.callback()
def _list(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        list_guests()


@guarded
def list_guests() -> int:
    """List the guests that are kept: how each is reached, why it is kept, when it ends."""
    terminal = Terminal()
    guests = kept.kept_guests()
    if not guests:
        terminal.print("no guest is kept")
    for guest in guests:
        minutes = max(0, round((guest.until - time.time()) / 60))
        terminal.print(
            f"{guest.name}",
            f"  kernel   {guest.kernel}, {guest.cpus} CPUs, {guest.memory_mib} MiB",
            f"  failed   {guest.why}",
            f"  command  {guest.command}",
            f"  ssh      {kept.ssh_line(guest)}",
            f"  logs     {guest.logs}",
            f"  ends     in {minutes} min",
        )
    for guest in kept.left_behind():
        terminal.print(f"{guest.name}: its owner was killed, and it ended; the next run removes it")
    return ExitCode.HELD


app.command("list")(list_guests)


@app.command("stop")
@guarded
def stop(
    name: Annotated[
        tuple[str, ...], typer.Argument(metavar="NAME", help="A kept guest.", show_default=False)
    ] = (),
    every: Annotated[bool, typer.Option("--all", help="Stop all of them.")] = False,
) -> int:
    """End kept guests, and remove their keys."""
    if not name and not every:
        raise UsageError("which guest is to be stopped?", hint="name it, or use --all")
    guests = kept.kept_guests() if every else tuple(kept.find(each) for each in name)
    for guest in guests:
        ask(guest.folder, "stop", timeout_s=_STOP_S)
        if not _is_gone(guest.folder):
            raise HarnessError(f"the guest {guest.name} does not end", artefacts=guest.folder)
        Terminal().print(f"{guest.name}: stopped")
    return ExitCode.HELD


def _is_gone(folder: Path) -> bool:
    return wait_until(lambda: not folder.exists(), Deadline.after(_STOP_S))
