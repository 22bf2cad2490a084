# SPDX-License-Identifier: GPL-2.0-only
"""Violations of consistency in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.observer.versions import Verdict


def in_words(
    verdict: Verdict, name_of: Callable[[int], str], *, clock: bool = True
) -> Sequence[str]:
    """Return the violations as sentences, the first of each kind; ``name_of`` names a task.

    ``clock``: the guest's instructions were counted.
    """
    lines = []
    seen: set[str] = set()
    for each in verdict.violations:
        kind = f"{each.rule}: {each.what}"
        if kind in seen:
            continue
        seen.add(kind)
        count = verdict.kinds[kind]
        often = "" if count == 1 else f" ({count} times)"
        since = "" if each.ago is None else f", {each.ago} instructions after it was switched"
        when = f", at instruction {each.clock}" if clock else ""
        since = since if clock else ""
        lines.append(
            f"{each.rule}: {name_of(each.task)} {each.what}{since}; on CPU {each.cpu}{when}{often}"
        )
    return lines
