# SPDX-License-Identifier: GPL-2.0-only
"""The options that keep the guest in which something failed, and how a command holds it."""

from __future__ import annotations

import contextlib
import signal
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import detach
from harness.cli.again import words_again
from harness.errors import UsageError
from harness.report.terminal import Terminal
from harness.vm.host.process import command_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.vm.guest.keeper import Keeper

_MINUTE_S = 60.0


@dataclass(frozen=True, kw_only=True)
class KeepOptions:
    """The options that say what becomes of the first guest in which something fails."""

    keep_guest: Annotated[
        bool,
        typer.Option(
            "--keep-guest",
            help="Leave the first guest in which something fails running; `klp-harness guests` "
            "lists it.",
        ),
    ] = False
    stop_at_failure: Annotated[
        bool,
        typer.Option(
            "--stop-at-failure",
            help="At the first failure, hold the guest until `klp-harness guests stop`, and begin "
            "nothing more.",
        ),
    ] = False
    dump_on_failure: Annotated[
        bool,
        typer.Option(
            "--dump-on-failure",
            help="Write the memory of the first guest in which something fails beside its logs.",
        ),
    ] = False
    keep_for: Annotated[
        float,
        typer.Option(
            "--keep-for", min=1, metavar="MINUTES", help="How long a guest is kept at most."
        ),
    ] = 240.0

    @property
    def is_asked(self) -> bool:
        """Whether any of them is given."""
        return self.keep_guest or self.stop_at_failure or self.dump_on_failure


@contextlib.contextmanager
def keeping(options: KeepOptions) -> Iterator[Keeper | None]:
    """Give the keeper of a command, None where the options ask for none.

    With --keep-guest the command runs in a child from here on: see harness.cli.detach. Raises
    UsageError for options that exclude each other.
    """
    if not options.is_asked:
        yield None
        return
    if options.keep_guest and options.stop_at_failure:
        raise UsageError(
            "--keep-guest and --stop-at-failure exclude each other",
            hint="the first leaves the guest behind, the second holds it while the command waits",
        )
    if options.keep_guest:
        detach.begin(holds=lambda: keeper.guest is not None, hold=lambda: _hold(keeper))
    # Imported after the fork: it takes time that others need not pay, and starts no thread.
    from harness.vm.guest.keeper import Keeper, KeepPlan

    plan = KeepPlan(
        command=command_line(("klp-harness", *words_again({}))),
        keep=options.keep_guest or options.stop_at_failure,
        wait=options.stop_at_failure,
        dump=options.dump_on_failure,
        limit_s=options.keep_for * _MINUTE_S,
    )
    keeper = Keeper(plan, Terminal(stdout=sys.stderr).note)
    try:
        yield keeper
    finally:
        if options.keep_guest:
            with contextlib.suppress(OSError, ValueError):
                sys.stdout.flush()  # the report comes first
            keeper.announce()
        else:
            keeper.close()


def _hold(keeper: Keeper) -> None:
    def stop(_number: int, _frame: object) -> None:
        keeper.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    keeper.wait()
