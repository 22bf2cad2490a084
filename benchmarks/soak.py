# SPDX-License-Identifier: GPL-2.0-only
"""make soak: everything in turns for a long time; then whether anything grew or went wrong."""

from __future__ import annotations

import json
import os
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from benchmarks.commands_here import Place
from benchmarks.signals import Shooting
from benchmarks.soak_parts import PARTS, Restores, Soak, signal_words
from benchmarks.soak_samples import FIGURES, sample
from benchmarks.trend import Trend, trend_of
from harness.cli.exits import guarded
from harness.cli.invocation import Invocation
from harness.cli.options import Accel, AccelAsked, CleanKernel
from harness.cli.prepare import prepare_accel, prepare_kernel, prepare_modules
from harness.deadline import Deadline
from harness.errors import ExitCode, UsageError
from harness.vm.guest import runs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.report.terminal import Terminal

_SEEDS = 1 << 32


@guarded
def soak(
    *,
    kernel: CleanKernel,
    accel: Accel = AccelAsked.AUTO,
    seconds: Annotated[
        int, typer.Option("--seconds", min=1, metavar="S", help="Begin no part after S seconds.")
    ] = 3600,
    seed: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Seed of all that is chosen at random.")
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="PART", help=f"This part only: {', '.join(PARTS)}."),
    ] = None,
    file: Annotated[
        Path, typer.Option("--file", metavar="FILE", help="Where each part's result is added.")
    ] = Path("build/soak.jsonl"),
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with what FILE has; its seconds count.")
    ] = False,
) -> int:
    """Run all that the harness can do in turns, and watch what it uses, for its developers.

    Exit code 1: a part had an unexpected result, or something grew. Nothing else may use the cache
    meanwhile; KLP_HARNESS_CACHE names another one.
    """
    unknown = set(only or ()) - PARTS.keys()
    if unknown:
        raise UsageError(f"no part is named {min(unknown)}", hint=f"there are: {', '.join(PARTS)}")
    earlier = _read(file) if resume else []
    file.parent.mkdir(parents=True, exist_ok=True)
    if not resume:
        file.unlink(missing_ok=True)
    drawn = seed if seed is not None else random.SystemRandom().randrange(_SEEDS)
    with Invocation("soak") as invocation:
        terminal = invocation.terminal
        choice = prepare_accel(invocation, accel)
        made = prepare_kernel(invocation, kernel)
        prepare_modules(terminal, made)
        invocation.print_facts(seed=str(drawn), file=str(file))
        place = Place(runs.folder_for("soak").absolute(), kernel.as_arguments())
        with (
            runs.open_session(choice, name="soak-restores") as session,
            file.open("a", encoding="utf-8") as log,
        ):
            state = Soak(
                place=place,
                restores=Restores(session, made),
                shooting=Shooting(place=place, seed=drawn, number=len(earlier) * 100),
            )
            records = earlier
            for record in _parts(state, only or list(PARTS), drawn, seconds, records):
                records.append(record)
                log.write(json.dumps(record) + "\n")
                log.flush()
                terminal.print(_line(record))
        return _verdict(terminal, records, place)


def _parts(
    state: Soak, names: Sequence[str], seed: int, seconds: int, done: Sequence[dict[str, Any]]
) -> Any:
    """Yield one record for each part, in turns, until the time is over."""
    number = len(done)
    deadline = Deadline.after(seconds - sum(record["seconds"] for record in done))
    while not deadline.expired:
        name = names[number % len(names)]
        turn = number // len(names) + 1
        start = time.monotonic()
        problems, did = PARTS[name](state, random.Random(f"{seed}-{number}"), turn)  # noqa: S311
        problems += [f"processes are left: {found}" for found in [state.place.orphans()] if found]
        problems += [f"a bug was reported: {path.read_text()}" for path in state.place.bug_logs()]
        for path in state.place.bug_logs():
            path.unlink()
        state.place.forget()
        samples = [*state.samples, sample(state.place)]
        state.samples.clear()
        yield {
            "part": name,
            "turn": turn,
            "did": did,
            "seconds": time.monotonic() - start,
            "at": time.strftime("%H:%M:%S"),
            "process": os.getpid(),
            "problems": problems,
            "samples": samples,
        }
        number += 1


def _read(file: Path) -> list[dict[str, Any]]:
    """Return the records of an earlier soak; a last line that was cut off is left out."""
    found = []
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from error
    for number, line in enumerate(lines, start=1):
        try:
            found.append(json.loads(line))
        except ValueError as error:
            if number < len(lines):
                raise UsageError(f"{file}:{number} is no record of a soak") from error
    return found


def _line(record: dict[str, Any]) -> str:
    figures = " ".join(f"{name} {value:.0f}" for name, value in record["samples"][-1].items())
    verdict = "ok" if not record["problems"] else "UNEXPECTED"
    head = f"{record['at']} turn {record['turn']} {record['part']:<9} {record['seconds']:5.0f} s"
    text = f"{head} {verdict}: {record['did']} | {figures}"
    return "\n".join((text, *(f"  {problem}" for problem in record["problems"])))


def trends(records: Sequence[dict[str, Any]]) -> list[Trend]:
    """Return the trend of each figure; what one process uses is taken of the last process alone."""
    last = records[-1]["process"] if records else None
    return [
        trend_of(
            figure.name,
            figure.unit,
            [
                taken[figure.name]
                for record in records
                for taken in record["samples"]
                if not figure.of_process or record["process"] == last
            ],
            tolerated=figure.tolerated,
        )
        for figure in FIGURES
    ]


def _verdict(terminal: Terminal, records: Sequence[dict[str, Any]], place: Place) -> int:
    found = trends(records)
    problems = sum(len(record["problems"]) for record in records)
    terminal.print("")
    for trend in found:
        terminal.print(trend.describe())
    for line in signal_words(records):
        terminal.print(line)
    total = sum(record["seconds"] for record in records)
    growing = [trend.name for trend in found if trend.grows]
    terminal.print(
        f"soak: {len(records)} parts in {total:.0f} s, {problems} unexpected results, "
        f"growing: {', '.join(growing) or 'nothing'}"
    )
    if problems or growing:
        terminal.print(f"what commands left is in {place.folder}")
        return ExitCode.VERDICT
    place.remove()
    return ExitCode.HELD
