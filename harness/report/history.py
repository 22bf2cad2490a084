# SPDX-License-Identifier: GPL-2.0-only
"""The history of a job: a file of JSON lines for each run, which is written once and never changed.

So a history can be kept in git or in object storage, and two machines may add to it at a time. The
first line of a file says what the run was; each further line is one result.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from harness.report.base import CheckOutcome, HostFacts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SUFFIX = ".jsonl"
_ID_CHARACTERS = 10


class _Model(BaseModel):
    # A line of a later version may have more: it is not damaged.
    model_config = ConfigDict(frozen=True, extra="ignore")


class HistoryRun(_Model):
    """A run of a command. ``at`` is when it ended, ISO 8601 in UTC; ``id`` is of its content."""

    format: Literal[1] = 1
    kind: Literal["run"] = "run"
    id: str
    at: str
    command: str
    outcome: str
    partial: bool = False
    seconds: float
    harness: str
    host: HostFacts
    accelerator: str | None = None


class HistoryResult(_Model):
    """One result of a run. ``parts`` are its checks, each with outcome and seconds."""

    kind: Literal["result"] = "result"
    id: str
    outcome: CheckOutcome
    seconds: float
    kernel: str | None = None
    codes: tuple[str, ...] = ()
    detail: str = ""
    parts: dict[str, tuple[CheckOutcome, float]] = {}


class RecordedRun(_Model):
    """A file of the history."""

    run: HistoryRun
    results: tuple[HistoryResult, ...]


def recorded(report: Mapping[str, Any], *, at: str) -> RecordedRun:
    """Return what a history keeps of a report, as JSON has it, that ended ``at``.

    Raises pydantic.ValidationError, KeyError for what is no report.
    """
    results = tuple(_results(report))
    text = json.dumps([each.model_dump(mode="json") for each in results], sort_keys=True)
    key = hashlib.sha256(f"{at} {report['command']} {text}".encode()).hexdigest()
    run = HistoryRun(id=key[:_ID_CHARACTERS], at=at, **{n: report[n] for n in _COPIED})
    return RecordedRun(run=run, results=results)


_COPIED = ("command", "outcome", "partial", "seconds", "harness", "host", "accelerator")


def file_name(run: HistoryRun) -> str:
    """Return the name of a run's file: the order of names is that of runs."""
    plain = "".join(c for c in run.at if c.isdigit() or c in "TZ+-")
    return f"{plain.partition('+')[0]}-{run.id}{SUFFIX}"


def to_lines(recording: RecordedRun) -> str:
    """Return the text of a run's file."""
    lines = (recording.run, *recording.results)
    return "".join(f"{line.model_dump_json()}\n" for line in lines)


def from_lines(text: str, name: str) -> tuple[RecordedRun | None, list[str]]:
    """Return the run that a file has, and what of the file is damaged: ``NAME:LINE: why``.

    A result that is damaged is left out, and its run is partial. Without its first line a file is
    of no use: None.
    """
    damaged: list[str] = []
    run: HistoryRun | None = None
    results: list[HistoryResult] = []
    lines = text.splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            if number == 1:
                run = HistoryRun.model_validate_json(line)
            else:
                results.append(HistoryResult.model_validate_json(line))
        except ValidationError as error:
            why = error.errors()[0]["msg"]
            damaged.append(f"{name}:{number}: {why}")
            if number == 1:
                return None, damaged
    if not lines:
        damaged.append(f"{name}:1: the file is empty")
    elif not text.endswith("\n"):
        damaged.append(f"{name}:{len(lines)}: the file was cut off")
    if run is None:
        return None, damaged
    if damaged:
        run = run.model_copy(update={"partial": True})
    return RecordedRun(run=run, results=tuple(results)), damaged


def _results(report: Mapping[str, Any]) -> Iterator[HistoryResult]:
    kernel = report.get("kernel")
    common = kernel["version"] if kernel else None
    if report["command"] == "verify":
        for verdict in report["verdicts"]:
            checks = [each for each in report["results"] if each["module"] == verdict["module"]]
            spec = kernel["spec"] if kernel else "?"
            yield HistoryResult(
                # As a matrix names it, so that both have one history.
                id=f"{verdict['module']}@{spec}",
                outcome=verdict["outcome"],
                seconds=verdict["seconds"],
                kernel=common,
                codes=tuple(verdict["codes"]),
                detail=_first_finding(checks),
                parts=_parts(checks),
            )
        return
    for result in report["results"]:
        own = result.get("kernel")
        yield HistoryResult(
            id=result["id"],
            outcome=result["outcome"],
            seconds=result["seconds"],
            kernel=own["version"] if isinstance(own, dict) else own or common,
            codes=tuple(result.get("codes") or ()),
            detail=str(result.get("detail") or "").partition("\n")[0],
            parts=_parts(result.get("checks") or ()),
        )


def _parts(checks: Any) -> dict[str, tuple[CheckOutcome, float]]:
    return {each["id"]: (each["outcome"], each["seconds"]) for each in checks}


def _first_finding(checks: list[Any]) -> str:
    for outcome in ("failed", "warned"):
        for each in checks:
            if each["outcome"] == outcome:
                return f"{each['id']}: {each['detail']}"
    return ""
