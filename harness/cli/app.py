# SPDX-License-Identifier: GPL-2.0-only
"""The command line: one typer application, one function for each command.

A command's module is imported when it is asked for: all of them together take a second.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from harness import __version__
from harness.cli.guard import interrupted
from harness.report.terminal import Terminal, log_to

# What such a command does not know is pytest's.
_FOR_PYTEST = {"ignore_unknown_options": True, "allow_interspersed_args": True}


@dataclass(frozen=True, kw_only=True)
class _Command:
    """A function of a module beside this one."""

    module: str
    function: str
    short_help: str
    settings: dict[str, Any] | None = None

    def register(self, app: typer.Typer, name: str) -> None:
        module = importlib.import_module(f"{__package__}.{self.module}")
        command = app.command(name, short_help=self.short_help, context_settings=self.settings)
        command(getattr(module, self.function))


@dataclass(frozen=True, kw_only=True)
class _Group:
    """The ``app`` of a module beside this one, to which the others add theirs."""

    module: str
    others: tuple[str, ...] = ()

    def register(self, app: typer.Typer, name: str) -> None:
        for other in self.others:
            importlib.import_module(f"{__package__}.{other}")
        app.add_typer(importlib.import_module(f"{__package__}.{self.module}").app, name=name)


_COMMANDS: Mapping[str, _Command | _Group] = {
    "doctor": _Command(
        module="doctor",
        function="doctor",
        short_help="What this machine can do, and what it lacks.",
    ),
    "kernel": _Group(module="kernel"),
    "boot": _Command(
        module="boot",
        function="boot",
        short_help="A shell in a guest.",
    ),
    "test": _Command(
        module="test",
        function="run_tests",
        short_help="Run the behaviour suite, every rule on a fresh guest.",
        settings=_FOR_PYTEST,
    ),
    "matrix": _Command(
        module="matrix",
        function="matrix",
        short_help="The behaviour suite on several kernels: rule x kernel.",
        settings=_FOR_PYTEST,
    ),
    "behaviours": _Command(
        module="behaviours",
        function="behaviours",
        short_help="The rules, their tests, and the last results.",
    ),
    "classify": _Command(
        module="classify",
        function="run_classify",
        short_help="The consistency model of a kernel, by experiment.",
    ),
    "selftests": _Command(
        module="selftests",
        function="selftests",
        short_help="The kernel's own livepatch selftests, in guests.",
    ),
    "compare": _Command(
        module="compare",
        function="compare",
        short_help="Which rules changed between two kernels.",
    ),
    "race": _Group(module="race", others=("race_record",)),
    "mutants": _Group(module="mutants", others=("module_mutants",)),
    "run": _Command(
        module="run",
        function="run",
        short_help="Load a livepatch, watch it, unload it.",
    ),
    "verify": _Command(
        module="verify",
        function="verify",
        short_help="Is a livepatch safe to load, to run, to take back?",
    ),
    "demo": _Command(
        module="demo",
        function="demo",
        short_help="Show a transition from 0 to 1 and back.",
    ),
    "bench": _Command(
        module="bench",
        function="bench",
        short_help="What things cost, against their budgets.",
    ),
}


class _Imported(MutableMapping[str, Any]):
    """The commands by their names, each imported when it is looked up."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            alone = typer.Typer(add_completion=False, rich_markup_mode=None)
            try:
                _COMMANDS[name].register(alone, name)
            except KeyboardInterrupt as interrupt:
                # No command is there yet to guard itself; typer takes SIGTERM for Ctrl-C.
                raise typer.Exit(interrupted(interrupt)) from None
            self._made[name] = typer.main.get_group(alone).commands[name]
        return self._made[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self._made[name] = command

    def __delitem__(self, name: str) -> None:
        del self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(_COMMANDS)

    def __len__(self) -> int:
        return len(_COMMANDS)

    def __contains__(self, name: object) -> bool:
        return name in _COMMANDS


class _LazyGroup(TyperGroup):
    """The application as typer makes it, but for its commands."""

    def __init__(self, **attrs: Any) -> None:
        super().__init__(**attrs)
        self.commands = _Imported()


app = typer.Typer(
    name="klp-harness",
    cls=_LazyGroup,
    help="Tests Linux kernel live patching on real kernels in QEMU.",
    epilog="Exit codes: 0 all held; 1 the kernel or patch under test failed; 2 wrong usage; "
    "3 the harness or host failed; 130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(asked: bool | None) -> None:
    if asked:
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
        bool, typer.Option("--verbose", "-v", help="Tell on standard error how things are done.")
    ] = False,
) -> None:
    log_to(Terminal(), verbose=verbose)
