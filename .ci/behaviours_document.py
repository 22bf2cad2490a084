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

One row is one rule of the kernel's livepatch subsystem. Each has tests that carry its id
(`@pytest.mark.behaviour("TR-01")`), run on a fresh guest, and fail when the rule is broken.
`klp-harness behaviours` prints this table with the tests of each rule and what they last came to on
each kernel; `klp-harness test -k TR-01` runs them.

This file is made from `harness/behaviours/table.toml` by
`.ci/behaviours_document.py docs/behaviours.md`. A unit test compares the two, and the
rules with the markers of the tests.

- **source**: what the rule rests on, beyond what its section names. Hexadecimal numbers are commits
  of the kernel.
{sources}
- **elsewhere**: the public suites that test it too: the kernel's own selftests (upstream), SUSE's,
  kpatch's, Red Hat's; "none" where none was found to, and beside a suite, for a part of the rule.
- **kernels**: where a kernel does not simply pass. Everywhere else
  ({series}) the rule is expected to pass. A test finds out by a feature what a kernel
  has, and never by its version.

{rules} rules. For {alone} of them no public suite was found to have a test.
"""


def document(table: Table) -> str:
    """Return docs/behaviours.md."""
    alone = sum("none" in rule.public for rule in table.rule)
    head = _HEAD.format(
        sources="\n".join(f"  `{name}`: {text}." for name, text in sorted(table.sources.items())),
        series=", ".join(table.series),
        rules=len(table.rule),
        alone=alone,
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
    return f"{series}{unless}: {outcome}{why}"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(document(load_table()), encoding="utf-8")
