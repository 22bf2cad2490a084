# SPDX-License-Identifier: GPL-2.0-only
"""klp-harness ssh: a shell in a kept guest, or one command there."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.cli.exits import guarded
from harness.vm.guest import kept
from harness.vm.host.process import foreground


@guarded
def ssh(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME", help="A kept guest; without it, the only one.", show_default=False
        ),
    ] = None,
    command: Annotated[
        tuple[str, ...],
        typer.Argument(metavar="COMMAND", help="Run this in place of a shell.", show_default=False),
    ] = (),
) -> int:
    """Open a shell in a kept guest, or run a command there; the exit code is ssh's."""
    guest = kept.find(name)
    return foreground([*kept.ssh_argv(guest), *command])
