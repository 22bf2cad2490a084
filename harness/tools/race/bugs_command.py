# SPDX-License-Identifier: GPL-2.0-only
"""klp-harness bugs: what unmodified kernels get wrong, and how each bug is shown and fixed."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.exits import guarded
from harness.cli.invocation import Invocation
from harness.cli.options import ResultFiles
from harness.report.base import CheckOutcome
from harness.tools.race.bugs import Bug, installed, load_bugs
from harness.tools.race.results import BugResult, BugState
from harness.vm.kernel.spec import NEWEST, SERIES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.report.terminal import Terminal
    from harness.tools.race.results import BugFix, BugOnSeries

_STATE = 7
_SHORT = {BugState.SHOWN: "shown", BugState.HOLDS: "holds", BugState.NOT_APPLICABLE: "n/a"}
_COMMENT_END = "-->\n"


@guarded
def bugs(
    names: Annotated[
        tuple[str, ...],
        typer.Argument(
            metavar="NAME",
            help="Only these bugs, each with its commands and its report.",
            show_default=False,
        ),
    ] = (),
    *,
    files: ResultFiles,
) -> int:
    """List the bugs that reproducers show on unmodified kernels: which kernels have each.

    Nothing is run here. The states are expectations of the behaviour suite, which fails on a kernel
    of which they are not true.
    """
    with Invocation("bugs", files) as invocation:
        found = load_bugs(names)
        invocation.results += [_result(bug) for bug in found]
        if names:
            for bug in found:
                _print_bug(invocation.terminal, bug)
        else:
            _print_table(invocation.terminal, found)
    return invocation.exit_code


def _result(bug: Bug) -> BugResult:
    return BugResult(
        id=bug.name,
        outcome=CheckOutcome.NOT_RUN,
        seconds=0.0,
        title=bug.title,
        rule=bug.rule,
        report=bug.page,
        kernels=bug.series,
        fixes=bug.fixes,
    )


def _print_table(terminal: Terminal, found: Sequence[Bug]) -> None:
    """Print two lines for each bug: its name with its states, and what happens."""
    names = max((len(bug.name) for bug in found), default=0)
    series = (on.series for on in found[0].series) if found else ()
    heads = "".join(f"{name:{_STATE}}" for name in series)
    terminal.print(f"{'bug':{names}}  {heads}rule   fix")
    for bug in found:
        states = "".join(f"{_short(on):{_STATE}}" for on in bug.series)
        fix = "yes" if bug.fixes else "none"
        terminal.print(f"{bug.name:{names}}  {states}{bug.rule:7}{fix}")
        terminal.prose(f"  {bug.title}", indent="  ")
    if any(on.only or on.without for bug in found for on in bug.series):
        terminal.print("* depends on an option, which `klp-harness bugs NAME` names")
    count = "1 bug" if len(found) == 1 else f"{len(found)} bugs"
    terminal.print(f"{count}; `klp-harness bugs NAME` prints a report")


def _short(on: BugOnSeries) -> str:
    return f"{_SHORT[on.state]}{'*' if on.only or on.without else ''}"


def _print_bug(terminal: Terminal, bug: Bug) -> None:
    terminal.prose(f"{bug.name}: {bug.title}", indent="  ")
    for state, names in _by_state(bug):
        terminal.prose(f"  {', '.join(names)}: {state}", indent="    ")
    terminal.print(f"  rule {bug.rule}, report {bug.page}")
    newest = bug.newest
    if newest is not None:
        terminal.print("shown by", f"  {_command(bug, newest)}")
    if bug.fixes:
        terminal.print("not shown with the fix")
    on = {each.series: each for each in bug.series}
    for fix in bug.fixes:
        for series in fix.series:
            terminal.print(f"  {_command(bug, on[series])} --patch {_path(fix)}")
    terminal.print("", bug.report.partition(_COMMENT_END)[2].strip(), "")


def _by_state(bug: Bug) -> Iterator[tuple[str, list[str]]]:
    """Yield each state, with its reason, and the series next to each other that have it."""
    for state, group in groupby(bug.series, key=_state):
        yield state, [on.series for on in group]


def _state(on: BugOnSeries) -> str:
    option = f" without CONFIG_{on.without}" if on.without else ""
    option += f" with CONFIG_{on.only}" if on.only else ""
    return f"{on.state.value}{option}{f', {on.why}' if on.why else ''}"


def _command(bug: Bug, on: BugOnSeries) -> str:
    # The table names the newest series by its number.
    words = ["klp-harness race run", bug.name]
    words += ["--kernel", on.series if on.series in SERIES else NEWEST]
    if on.only and bug.race.fragment:
        words += ["--kernel-config", bug.race.fragment]
    return " ".join(words)


def _path(fix: BugFix) -> Path:
    """Return where the patch is: as in a checkout, when that is the current folder."""
    return Path(fix.file) if Path(fix.file).is_file() else installed(fix)
