# SPDX-License-Identifier: GPL-2.0-only
"""The commands of klp-harness: where each lives, and the report that it writes.

A new tool is a folder below harness/tools/ and a line here. A command is imported when it is used:
to import all of them takes a second.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel, ConfigDict

from harness.report.base import BaseReport

if TYPE_CHECKING:
    from collections.abc import Mapping

    import typer


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command that is the function ``function`` of a module in ``folder``.

    Without a function it is a group: the ``app`` of that module, to which the modules in ``others``
    add their own commands. ``runs_words``: what follows its first argument is a command of another
    program, options included.
    """

    folder: str
    help: str = ""
    module: str = "command"
    function: str | None = None
    others: tuple[str, ...] = ()
    for_pytest: bool = False
    runs_words: bool = False

    def register(self, app: typer.Typer, name: str) -> None:
        """Import the command and add it to the application."""
        module = self._import(self.module)
        for other in self.others:
            self._import(other)
        if self.function is None:
            app.add_typer(module.app, name=name)
            return
        # An option that such a command does not know is pytest's.
        settings = {"ignore_unknown_options": True} if self.for_pytest else {}
        if self.runs_words:
            settings["allow_interspersed_args"] = False
        command = app.command(name, short_help=self.help, context_settings=settings)
        command(getattr(module, self.function))

    def results(self) -> Any:
        """Return the module that has the command's reports."""
        return self._import("results")

    def _import(self, name: str) -> Any:
        return importlib.import_module(f"harness.tools.{self.folder}.{name}")


COMMANDS: Mapping[str, Command] = {
    "doctor": Command(
        folder="doctor",
        function="doctor",
        help="Show what this machine can do, and what it lacks.",
    ),
    "kernel": Command(folder="kernel", help="Build, list and prune kernels."),
    "boot": Command(folder="boot", function="boot", help="Open a shell in a guest."),
    "test": Command(
        folder="suite",
        function="run_tests",
        help="Run the behaviour suite, each test on a fresh guest.",
        for_pytest=True,
    ),
    "coverage": Command(
        folder="coverage", help="Show, add and compare the coverage of earlier runs."
    ),
    "matrix": Command(
        folder="suite",
        module="matrix",
        function="matrix",
        help="Run the behaviour suite on several kernels; print rules by kernels.",
        for_pytest=True,
    ),
    "behaviours": Command(
        folder="suite",
        module="behaviours",
        function="behaviours",
        help="Show the rules, their tests, and the latest results.",
    ),
    "classify": Command(
        folder="models",
        module="classify_command",
        function="run_classify",
        help="Find by experiment which consistency model a kernel has.",
    ),
    "models": Command(
        folder="models",
        others=("compare_command",),
        help="List consistency models that can be booted, and compare them.",
    ),
    "costs": Command(
        folder="costs",
        function="costs",
        help="Measure what live patching costs, in instructions of the guest.",
    ),
    "selftests": Command(
        folder="selftests",
        function="selftests",
        help="Run the kernel's own livepatch selftests in guests.",
    ),
    "compare": Command(
        folder="suite",
        module="compare",
        function="compare",
        help="Run the behaviour suite on two kernels; show the rules that differ.",
    ),
    "race": Command(
        folder="race",
        others=("record_command", "explore.command"),
        help="Reproduce known races, or look for races in many trials.",
    ),
    "bugs": Command(
        folder="race",
        module="bugs_command",
        function="bugs",
        help="List the bugs of unmodified kernels, with reports, reproducers and fixes.",
    ),
    "mutants": Command(
        folder="mutants", help="Break the kernel on purpose; show which tests notice it."
    ),
    "run": Command(
        folder="run", function="run", help="Load a livepatch, watch its transitions, unload it."
    ),
    "verify": Command(
        folder="verify",
        function="verify",
        help="Check whether a livepatch is safe to load, run under load, replace and unload.",
    ),
    "history": Command(
        folder="history",
        function="history",
        help="Show what became slower, what began to fail, and when.",
    ),
    "rerun": Command(
        folder="rerun",
        function="rerun",
        help="Run again what a result says, on the same kernel.",
    ),
    "guests": Command(folder="guests", help="List the guests that are kept, and stop them."),
    "ssh": Command(
        folder="guests",
        module="ssh_command",
        function="ssh",
        help="Open a shell in a kept guest, or run a command there.",
        runs_words=True,
    ),
    "gdb": Command(
        folder="guests",
        module="gdb_command",
        function="gdb",
        help="Debug the kernel of a kept guest with gdb.",
    ),
    "dump": Command(
        folder="guests",
        module="dump_command",
        function="dump",
        help="Write the memory of a kept guest to a file, and report its livepatches.",
    ),
    "demo": Command(
        folder="run",
        module="demo",
        function="demo",
        help="Show a transition from patch state 0 to 1 and back.",
    ),
}
MOVED: Mapping[str, str] = {
    "bench": '`make bench` in a checkout; options go into ARGS="..."',
    "mutants modules": '`make grade` in a checkout; options go into ARGS="..."',
}
"""The old names of commands, and how each is run now."""


def report_class(command: str) -> type[BaseReport]:
    """Return the model of what that command (``test``, ``race run``) writes with --json.

    Raises KeyError when there is no such command.
    """
    module = COMMANDS[command.partition(" ")[0]].results()
    for value in vars(module).values():
        if (
            isinstance(value, type)
            and issubclass(value, BaseReport)
            and command in get_args(value.model_fields["command"].annotation)
        ):
            return value
    raise KeyError(command)


def make_report(**fields: object) -> BaseReport:
    """Return the report of ``fields["command"]``; raises pydantic.ValidationError, KeyError."""
    return report_class(str(fields["command"])).model_validate(fields)


class _Head(BaseModel):
    model_config = ConfigDict(extra="ignore")

    command: str


def read_report(text: str) -> BaseReport:
    """Return a report from its JSON text; raises pydantic.ValidationError, KeyError."""
    return report_class(_Head.model_validate_json(text).command).model_validate_json(text)
