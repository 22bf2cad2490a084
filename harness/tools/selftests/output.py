# SPDX-License-Identifier: GPL-2.0-only
"""What a livepatch selftest script prints, line by line (functions.sh of the suite)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum

_TEST = re.compile(r"^TEST: (?P<name>.*) \.\.\. (?P<rest>.*)$")
SKIP_CODE = 4
"""The exit code of a script that could not test (kselftest.rst)."""


class Verdict(StrEnum):
    """What a script reports of a case."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


_ENDS = {"ok": Verdict.PASSED, "not ok": Verdict.FAILED}


@dataclass(kw_only=True)
class Case:
    """A case as its script reports it; ``verdict`` is None while it runs."""

    name: str
    verdict: Verdict | None = None
    seconds: float = 0.0
    detail: list[str] = field(default_factory=list)


class ScriptOutput:
    """Takes the lines of one script, each with its time, and finds the cases in them.

    ``planned`` are the cases that the script announces. A case that was not reached fails, and says
    so, when the script fails; it is skipped when the script skips.
    """

    def __init__(self, planned: tuple[str, ...], start_s: float) -> None:
        self._planned = planned
        self._last_s = start_s
        self._cases: list[Case] = []
        self._loose: list[str] = []

    def take(self, line: str, at_s: float) -> None:
        """Add a line that was printed at that time, in seconds."""
        match = _TEST.match(line)
        if match is None:
            # Something was printed between the case's name and its end: a shell reports children
            # that a signal ended.
            if line in _ENDS and self._cases and self._cases[-1].verdict is None:
                self._cases[-1].verdict = _ENDS[line]
            else:
                self._detail().append(line)
            return
        case = Case(name=match["name"], seconds=max(at_s - self._last_s, 0.0))
        self._last_s = at_s
        self._cases.append(case)
        rest = match["rest"]
        if rest in _ENDS:
            case.verdict = _ENDS[rest]
        elif rest:
            case.detail.append(rest)

    def finish(self, code: int, errors: tuple[str, ...] = ()) -> tuple[Case, ...]:
        """Return all cases, given the script's exit code and what else is known of its end."""
        end = {0: Verdict.PASSED, SKIP_CODE: Verdict.SKIPPED}.get(code, Verdict.FAILED)
        why = [*errors, *(() if end is Verdict.PASSED else (f"the script ended with {code}",))]
        for case in self._cases:
            if case.verdict is None:
                # It never printed "ok", so it has not passed even where the script ended well.
                case.verdict = Verdict.FAILED if end is Verdict.PASSED else end
                case.detail += why
            elif case.verdict is Verdict.FAILED:
                case.detail += errors
        for name in self._planned[len(self._cases) :]:
            self._cases.append(
                Case(
                    name=name,
                    verdict=Verdict.FAILED if end is Verdict.PASSED else end,
                    detail=["was not reached", *self._loose, *why],
                )
            )
        if end is Verdict.FAILED and all(one.verdict is Verdict.PASSED for one in self._cases):
            self._cases.append(Case(name="end", verdict=Verdict.FAILED, detail=why))
        return tuple(self._cases)

    def _detail(self) -> list[str]:
        return self._cases[-1].detail if self._cases else self._loose
