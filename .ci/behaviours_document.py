# SPDX-License-Identifier: GPL-2.0-only
"""The table as a document: ``.ci/behaviours_document.py docs/behaviours.md``."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from harness.behaviours.table import ALL, load_table

if TYPE_CHECKING:
    from harness.behaviours.table import Expectation, Rule, Table

_COMMIT = re.compile(r"[0-9a-f]{8}")
_HEAD = """\
<!-- SPDX-License-Identifier: GPL-2.0-only -->
# The rules of live patching

Each row is one rule of the kernel's livepatch subsystem. The tests of a rule carry its id
(`@pytest.mark.behaviour("TR-01")`), run on a fresh guest, and fail when the rule is broken.
`klp-harness behaviours` prints this table with the tests of each rule and their latest results on
each kernel; `klp-harness test -k TR-01` runs them. The [glossary](glossary.md) explains the words.

This file is generated from `tests/behaviours/rules.toml` by
`.ci/behaviours_document.py docs/behaviours.md`. A unit test compares the two, and the rules with
the markers of the tests.

- **source**: on what the rule rests, beyond the source of its section. Hexadecimal numbers are
  commits of the kernel.
{sources}
- **elsewhere**: the public suites that test the rule too: the kernel's own selftests (upstream),
  SUSE's, kpatch's, Red Hat's. "none": these suites were searched, and none tests the rule; beside a
  suite, none was found for a part of the rule. An empty cell: the suites were not searched for it.
- **kernels**: the kernels on which the rule does not simply pass. The series are
  {series}; on those that a cell does not name, and on all if it is empty, the rule
  is expected to pass. A test finds out what a kernel has by a feature, never by its version.

There are {rules} rules. For {alone} of them no public test was found, for {part} more none for a
part of the rule, and for {unsearched} the public suites were not searched.
"""


def document(table: Table) -> str:
    """Return docs/behaviours.md."""
    sources = (f"    - `{name}`: {text}." for name, text in sorted(table.sources.items()))
    head = _HEAD.format(
        sources="\n".join(sources),
        series=", ".join(table.series),
        rules=len(table.rule),
        alone=sum(rule.public == ("none",) for rule in table.rule),
        part=sum("none" in rule.public and len(rule.public) > 1 for rule in table.rule),
        unsearched=sum(not rule.public for rule in table.rule),
    )
    parts = [head]
    for section in table.section:
        parts.append(f"\n## {section.id}: {section.title}\n\nSource: {section.source}.\n")
        parts.append(
            "\n| rule | what holds | source | elsewhere | kernels |\n|---|---|---|---|---|\n"
        )
        parts += [_row(rule) for rule in table.rules_of(section)]
    return "".join(parts)


def _row(rule: Rule) -> str:
    cells = (
        rule.id,
        rule.holds,
        ", ".join(f"`{name}`" for name in rule.source),
        ", ".join(rule.public),
        "; ".join(_kernels(expectation) for expectation in rule.expect),
    )
    return f"| {' | '.join(cells)} |\n".replace("|  |", "| |").replace("|  |", "| |")


def _kernels(expectation: Expectation) -> str:
    series = "all" if ALL in expectation.series else ", ".join(expectation.series)
    outcome = "" if expectation.outcome == "passed" else f"{expectation.outcome}, "
    why = _COMMIT.sub(lambda found: f"`{found[0]}`", expectation.why)
    unless = f" without `CONFIG_{expectation.unless}`" if expectation.unless else ""
    only = f" with `CONFIG_{expectation.only}`" if expectation.only else ""
    return f"{series}{unless}{only}: {outcome}{why}"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(document(load_table()), encoding="utf-8")
