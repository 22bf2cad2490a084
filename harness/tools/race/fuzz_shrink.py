# SPDX-License-Identifier: GPL-2.0-only
"""Shortens what the fuzzer found, and gives it steps of the user's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.errors import UsageError
from harness.tools.race.reproducers.fuzz import is_fuzzer, steps_of, with_steps
from harness.tools.race.reproducers.fuzz_model import parse_steps
from harness.tools.race.reproducers.fuzz_plan import meaningful, shrink
from harness.tools.race.trial_results import hit_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from harness.report.terminal import Terminal
    from harness.tools.race.campaign import ReproducerTrials, Trial, TryOne
    from harness.tools.race.known_bugs import KnownBug
    from harness.tools.race.reproducer import Reproducer
    from harness.tools.race.reproducers.fuzz_model import Step
    from harness.tools.race.results import RaceResult

_MOST_TRIALS = 40


def given_steps(races: Sequence[Reproducer], text: str) -> tuple[Reproducer, ...]:
    """Return the reproducers, the fuzzer with the steps of that text; raises UsageError."""
    if [race for race in races if not is_fuzzer(race)] or not races:
        raise UsageError("--steps is for the fuzzer alone", hint="klp-harness race run fuzz")
    steps = meaningful(parse_steps(text))
    if not steps:
        raise UsageError(f"no step of {text!r} has a meaning at its place")
    return tuple(with_steps(race, steps) for race in races)


def shorten_hits(
    terminal: Terminal,
    found: Iterable[ReproducerTrials],
    try_one: TryOne,
    *,
    given: str | None = None,
    known: Sequence[KnownBug] = (),
) -> Mapping[int, str]:
    """Return, by its seed, the shortest sequence for the fuzzer's first hit; a guest for each try.

    With ``known`` bugs, for the first hit of each of them, and the first that is new; a shorter
    sequence has to show the same one. ``given`` are the steps of all trials, where they are not
    those of the seeds.
    """
    shortest: dict[int, str] = {}
    for trials in found:
        if not is_fuzzer(trials.race):
            continue
        firsts: dict[str | None, Trial] = {}
        for trial in trials.hits:
            firsts.setdefault(hit_of(trial, known).bug, trial)
        for bug, trial in firsts.items():
            steps = steps_of(trial.seed) if given is None else parse_steps(given)
            left = _shorten(terminal, trial, steps, try_one, is_same=_same(bug, known))
            shortest[trial.seed] = "; ".join(map(str, left))
    return shortest


def _same(bug: str | None, known: Sequence[KnownBug]) -> Callable[[Trial], bool]:
    """Return what says whether a trial shows that bug."""
    return lambda trial: trial.shown is not None and hit_of(trial, known).bug == bug


def with_shortest(result: RaceResult, shortest: Mapping[int, str]) -> RaceResult:
    """Return the result with the shortest sequences in its hits."""
    hits = tuple(
        hit.model_copy(update={"steps": shortest[hit.seed]}) if hit.seed in shortest else hit
        for hit in result.hits
    )
    return result.model_copy(update={"hits": hits})


def _shorten(
    terminal: Terminal,
    hit: Trial,
    steps: Sequence[Step],
    try_one: TryOne,
    *,
    is_same: Callable[[Trial], bool],
) -> tuple[Step, ...]:
    terminal.note(f"shortening {len(steps)} steps, {_MOST_TRIALS} trials at most")

    def fails(tried: tuple[Step, ...]) -> bool:
        shown = is_same(try_one(with_steps(hit.race, tried), hit.seed))
        if shown:
            terminal.note(f"{len(tried)} steps show it: {'; '.join(map(str, tried))}")
        return shown

    return shrink(steps, fails, most=_MOST_TRIALS)
