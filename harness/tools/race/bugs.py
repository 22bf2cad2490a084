# SPDX-License-Identifier: GPL-2.0-only
"""Bugs of unmodified kernels: reports, reproducers, rules and fixes that belong together by name.

docs/bugs/NAME.md is the report, NAME a reproducer, its rule says which kernels have the bug, and
kernel-fixes/ has the fix: NAME.patch, and the same below a series' name where the code differs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.behaviours.table import ALL, Expected, load_table
from harness.errors import HarnessError, UsageError
from harness.resources import Resource, resource_dir
from harness.tools.race.catalogue import CATALOGUE
from harness.tools.race.results import BugFix, BugOnSeries, BugState
from harness.vm.kernel.patch_file import header_fields, read_patch

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from harness.behaviours.table import Expectation, Rule
    from harness.tools.race.reproducer import Reproducer

_SUFFIX, _INDEX = ".md", "README.md"
_STATES = {
    Expected.PASSED: BugState.HOLDS,
    Expected.EXPECTED_FAILURE: BugState.SHOWN,
    Expected.NOT_APPLICABLE: BugState.NOT_APPLICABLE,
}


@dataclass(frozen=True, kw_only=True)
class Bug:
    """A bug that some unmodified kernel has.

    ``title`` and ``report`` are the first line and the whole text of its page, which ``page``
    names as in a checkout. ``series`` has one entry for each series of the table.
    """

    race: Reproducer
    rule: str
    title: str
    report: str
    page: str
    series: tuple[BugOnSeries, ...]
    fixes: tuple[BugFix, ...]

    @property
    def name(self) -> str:
        """Its name, which is the reproducer's."""
        return self.race.name

    @property
    def newest(self) -> BugOnSeries | None:
        """The newest series that has it; None when none has."""
        return next((on for on in reversed(self.series) if on.state is BugState.SHOWN), None)


def load_bugs(names: Sequence[str] = ()) -> tuple[Bug, ...]:
    """Return the bugs of these names, all without one, in the order of the reproducers.

    Raises UsageError for a name that is none, and HarnessError for a report without a reproducer.
    """
    folder = resource_dir(Resource.BUG_REPORTS)
    pages = {path.stem: path for path in sorted(folder.glob(f"*{_SUFFIX}")) if path.name != _INDEX}
    strangers = sorted(pages.keys() - {race.name for race in CATALOGUE})
    if strangers:
        raise HarnessError(f"these reports have no reproducer: {', '.join(strangers)}")
    for name in names:
        if name not in pages:
            raise UsageError(f"there is no bug {name}", hint=f"known: {', '.join(pages)}")
    table = load_table()
    rules = {rule.id: rule for rule in table.rule}
    return tuple(
        _bug(race, rules[race.rule], pages[race.name], table.series)
        for race in CATALOGUE
        if race.name in (names or pages)
    )


def _bug(race: Reproducer, rule: Rule, page: Path, series: Sequence[str]) -> Bug:
    text = page.read_text(encoding="utf-8")
    heading = next((line for line in text.splitlines() if line.startswith("# ")), "")
    return Bug(
        race=race,
        rule=rule.id,
        title=heading.removeprefix("# "),
        report=text,
        page=f"{Resource.BUG_REPORTS.value}/{page.name}",
        series=tuple(_on(rule, each) for each in series),
        fixes=tuple(_fixes(race.name, series)),
    )


def _on(rule: Rule, series: str) -> BugOnSeries:
    """Return what the table says of the rule on that series, with the options it depends on."""
    found: Expectation | None = next(
        (each for each in rule.expect if series in each.series or ALL in each.series), None
    )
    if found is None:
        return BugOnSeries(series=series, state=BugState.HOLDS)
    return BugOnSeries(
        series=series,
        state=_STATES[found.outcome],
        without=found.unless,
        only=found.only,
        why=found.why,
    )


def _fixes(name: str, series: Sequence[str]) -> Sequence[BugFix]:
    folder = resource_dir(Resource.KERNEL_FIXES)
    found = []
    for path in folder.rglob(f"{name}.patch"):
        kernels = header_fields(read_patch(path).text, ("Kernels",)).get("Kernels", "").split()
        file = f"{Resource.KERNEL_FIXES.value}/{path.relative_to(folder)}"
        found.append(BugFix(file=file, series=tuple(each for each in series if each in kernels)))
    return sorted(found, key=lambda fix: [series.index(each) for each in fix.series])


def installed(fix: BugFix) -> Path:
    """Return the fix as a file of this installation."""
    folder = resource_dir(Resource.KERNEL_FIXES)
    return folder / fix.file.removeprefix(f"{Resource.KERNEL_FIXES.value}/")
