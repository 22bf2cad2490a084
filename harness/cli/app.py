# SPDX-License-Identifier: GPL-2.0-only
"""The command line: one typer application, of which each command is imported when it is used."""

from __future__ import annotations

from collections import UserDict
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from harness import __version__
from harness.cli.exits import interrupted
from harness.cli.registry import COMMANDS, MOVED, Command
from harness.errors import ExitCode, UsageError
from harness.report.terminal import Terminal, log_to


class _Imported(UserDict[str, Any]):
    """The commands by their names, each imported when it is looked up."""

    def __getitem__(self, name: str) -> Any:
        if isinstance(self.data[name], Command):
            alone = typer.Typer(add_completion=False, rich_markup_mode=None)
            try:
                self.data[name].register(alone, name)
            except KeyboardInterrupt as interrupt:
                # @guarded is not there yet, and typer takes SIGTERM for Ctrl-C.
                raise typer.Exit(interrupted(interrupt)) from None
            self.data[name] = typer.main.get_group(alone).commands[name]
        return self.data[name]


class _LazyGroup(TyperGroup):
    """The application as typer makes it, but for its commands."""

    def __init__(self, **attrs: Any) -> None:
        super().__init__(**attrs)
        self.commands = _Imported(COMMANDS)

    def format_commands(self, _ctx: Any, formatter: Any) -> None:
        """List the commands from the registry: none is imported to show its help in a line."""
        rows = [(name, command.help) for name, command in COMMANDS.items()]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find a command; the old name of one is refused with its new name."""
        for name in (args[0], " ".join(args[:2])):
            if name in MOVED:
                Terminal().error(UsageError(f"klp-harness {name} is now {MOVED[name]}"))
                raise typer.Exit(ExitCode.USAGE)
        return super().resolve_command(ctx, args)


app = typer.Typer(
    name="klp-harness",
    cls=_LazyGroup,
    help="Tests Linux kernel live patching, and livepatches, on real kernels in QEMU.",
    epilog="Exit codes: 0 all held; 1 the kernel or patch under test failed; 2 wrong usage; "
    "3 the harness or host failed; 130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool | None) -> None:
    if wanted:
        typer.echo(f"klp-harness {__version__}")
        raise typer.Exit


@app.callback()
def _global_options(
    *,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Log on standard error what is being done.")
    ] = False,
) -> None:
    log_to(Terminal(), verbose=verbose)
