# SPDX-License-Identifier: GPL-2.0-only
"""The one line of a failure that says most, for lists with room for one line. Pure."""

from __future__ import annotations

import re

_ERROR = re.compile(r"[A-Z]\w+: |\[XPASS")
# xdist writes above a failure which worker it was.
_WORKER = re.compile(r"\[gw\d+\] ")
_LENGTH = 300


def reason_of(detail: str | None) -> str:
    """Return the error that a failure begins with, else its assertion, else its first line.

    ``detail`` is the text that pytest wrote. The result has at most 300 characters.
    """
    lines = (detail or "").strip().splitlines() or [""]
    if len(lines) > 1 and _WORKER.match(lines[0]):
        lines = lines[1:]
    asserted = (line[1:].strip() for line in lines if re.match(r"E\s", line))
    named = _ERROR.match(lines[0])
    return (lines[0] if named else next(asserted, lines[0])).strip()[:_LENGTH]
