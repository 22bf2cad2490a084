# SPDX-License-Identifier: GPL-2.0-only
"""The table of rules: rules.toml of the behaviour suite, beside the tests that prove them."""

from __future__ import annotations

import functools
import tomllib
from enum import StrEnum
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from harness.errors import HarnessError
from harness.resources import Resource, resource_dir

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_TABLE = "rules.toml"
ALL = "all"


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Expected(StrEnum):
    """The outcome of a rule on a kernel that keeps it, or is known not to."""

    PASSED = "passed"
    EXPECTED_FAILURE = "expected-failure"
    NOT_APPLICABLE = "not-applicable"


class Expectation(_Model):
    """What is known of a rule on some kernels: ``series`` as in the table, or "all".

    ``unless`` names an option, such as TASKS_RCU, with which those kernels keep the rule, ``only``
    one, such as KASAN, without which they keep it, or do not show that they break it.
    """

    series: tuple[str, ...]
    outcome: Expected
    why: str
    unless: str | None = None
    only: str | None = None


class Section(_Model):
    """Rules of one kind. ``id`` begins each of their ids; all of them rest on ``source``."""

    id: str
    title: str
    source: str


class Rule(_Model):
    """A rule of the kernel's livepatch subsystem.

    ``source`` are commits of the kernel and names of mails that it rests on beyond its section's
    source, ``public`` the public test suites that test it too; "none" when none was found.
    """

    id: str
    holds: str
    source: tuple[str, ...]
    public: tuple[str, ...]
    expect: tuple[Expectation, ...] = ()

    @property
    def section(self) -> str:
        """The id of its section."""
        return self.id.partition("-")[0]

    def expected(
        self, version: str, enabled: Callable[[str], bool] = lambda _: False
    ) -> Expectation | None:
        """Return what is known of it on a kernel release such as 6.1.192; None: it passes.

        ``enabled`` returns whether the kernel has an option; by default it has our configuration.
        """
        for expectation in self.expect:
            if expectation.unless is not None and enabled(expectation.unless):
                continue
            if expectation.only is not None and not enabled(expectation.only):
                continue
            if any(_of_series(version, series) for series in expectation.series):
                return expectation
        return None


class Table(_Model):
    """All rules, in order, with ``pending``: those that have no test yet."""

    series: tuple[str, ...]
    pending: tuple[str, ...]
    sources: dict[str, str]
    section: tuple[Section, ...]
    rule: tuple[Rule, ...]

    def rules_of(self, section: Section) -> tuple[Rule, ...]:
        """Return the rules of one section, in order."""
        return tuple(rule for rule in self.rule if rule.section == section.id)


def load_table(path: Path | None = None) -> Table:
    """Return the table; raises HarnessError when it cannot be read: the installation is broken."""
    return _read(resource_dir(Resource.BEHAVIOUR_TESTS) / _TABLE if path is None else path)


# Once a process for each file: it takes a twentieth of a second, and no command changes it.
@functools.cache
def _read(path: Path) -> Table:
    try:
        return Table.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError) as error:
        raise HarnessError(f"the table of rules {path.name} cannot be read: {error}") from error


def _of_series(version: str, series: str) -> bool:
    return series == ALL or version == series or version.startswith((f"{series}.", f"{series}-"))
