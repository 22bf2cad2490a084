# SPDX-License-Identifier: GPL-2.0-only
"""What a measure finds, and what its model promised. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.tools.models.results import Switch
from harness.tools.models.rows import LIMIT_S

if TYPE_CHECKING:
    from harness.tools.models.bench_guest import Ended
    from harness.tools.models.cells import Cell


NOT_TRIED = "not tried"
"""How the reason begins of what was not tried, since it would not end either."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What was found for a row: a number, words, or why it never ends.

    ``wrong`` says which promise of the model was broken, or that a promise which it does not make
    was not shown to break.
    """

    row: str
    value: float | None = None
    says: str | None = None
    never: str | None = None
    wrong: str | None = None


def ending(row: str, ended: Ended, says: str | None = None) -> Finding:
    """Return what is found of a transition that ended, or did not."""
    if ended.seconds is not None:
        return Finding(row=row, value=ended.seconds, says=says)
    return Finding(row=row, never=f"not within {LIMIT_S:.0f} s: {ended.why}")


def judge_mixed(cell: Cell, mixed: int) -> str | None:
    """Return what is wrong with so many mixed pairs: only SWITCH_FUNCTION has any, and has some."""
    if cell.switch is Switch.FUNCTION:
        return None if mixed else "no mixed pair was shown, though nothing prevents them"
    return f"{mixed} calls ran an old function that called a new one" if mixed else None


def judge_both(cell: Cell, *, both: bool) -> str | None:
    """Return what is wrong with old and new running at once: never where the kernel switches."""
    if cell.switch is Switch.KERNEL:
        return "a task ran the new function while another was inside the old one" if both else None
    return None if both else "nobody ran the new function while a task was inside the old one"


def judge_data(cell: Cell, read: str, right: str) -> tuple[str, str | None]:
    """Return words for what an old function read, and what is wrong with that.

    Without any consistency it has to misread: data are converted under it.
    """
    broken = read != right
    words = f"breaks: an old function read {read} in place of {right}" if broken else "works"
    if cell.switch is Switch.FUNCTION:
        return words, None if broken else "an old function read converted data, and read it right"
    return words, words if broken else None
