# SPDX-License-Identifier: GPL-2.0-only
"""What the kernel log says of attempts to switch tasks, and how a recording tells it."""

from __future__ import annotations

import pytest

from harness.agent_protocol import KlogRecord
from harness.livepatch.transition_log import (
    HeldTask,
    Measure,
    Why,
    is_of_attempt,
    log_attempts,
    read_attempts,
    read_measures,
)
from harness.report.base import CheckOutcome
from harness.report.run_results import RunResult
from harness.tools.race.catalogue import CATALOGUE
from harness.tools.race.timelines import TrialTimelines
from tests.unit.scripted_guest import ScriptedGuest

SAYS = "livepatch: klp_try_switch_task: "


def records(*lines: tuple[float, str]) -> list[KlogRecord]:
    return [
        KlogRecord(seq=number, us=round(at_s * 1e6), level=6, text=text)
        for number, (at_s, text) in enumerate(lines)
    ]


def test_lines_that_come_together_are_one_attempt() -> None:
    """The lines of one attempt are grouped; others are left out."""
    found = read_attempts(
        records(
            (1.00, f"{SAYS}klp-gate:87 is sleeping on function klp_gate_wait"),
            (1.01, f"{SAYS}kworker/0:1:15 is running"),
            (1.01, f"{SAYS}kworker/0:1:15 is running"),
            (1.02, "livepatch: 'klp_test': starting patching transition"),
            (2.05, f"{SAYS}a b:9 has an unreliable stack"),
        )
    )
    assert [attempt.us for attempt in found] == [1_000_000, 2_050_000]
    assert found[0].held == (
        HeldTask(tid=87, comm="klp-gate", why=Why.SLEEPING, function="klp_gate_wait"),
        HeldTask(tid=15, comm="kworker/0:1", why=Why.RUNNING),
    )
    assert found[1].held == (HeldTask(tid=9, comm="a b", why=Why.UNRELIABLE),)


def test_signals_and_force_are_told_apart() -> None:
    """Fake signals and force are found in the kernel's own lines, with their times."""
    said = records(
        (16.0, "livepatch: signaling remaining tasks"),
        (20.0, "livepatch: forcing remaining tasks to the patched state"),
        (21.0, "mine: forcing remaining tasks to leave"),
    )
    assert read_measures(said) == [(16_000_000, Measure.SIGNAL), (20_000_000, Measure.FORCE)]


@pytest.mark.parametrize(
    ("text", "asked_for"),
    [(f"{SAYS}init:1 is running", True), ("livepatch: signaling remaining tasks", False)],
)
def test_what_was_asked_for_is_not_the_kernels_own_word(text: str, asked_for: bool) -> None:
    """Lines of dynamic debug are recognized, to be left out of a report."""
    assert is_of_attempt(text) is asked_for


def test_a_kernel_without_dynamic_debug_is_told() -> None:
    """log_attempts() returns whether the kernel logs its attempts."""
    guest = ScriptedGuest()
    assert log_attempts(guest) is False
    guest.files["/sys/kernel/debug/dynamic_debug/control"] = ""
    assert log_attempts(guest) is True


def seen(seed: int, outcome: CheckOutcome) -> RunResult:
    return RunResult(id=f"x, seed {seed}", outcome=outcome, seconds=1.0, module="x")


def test_the_first_trial_that_shows_something_is_kept() -> None:
    """Of many trials the timeline of the first that showed the race is kept."""
    timelines = TrialTimelines()
    kinds = (CheckOutcome.NOT_SHOWN, CheckOutcome.SHOWN, CheckOutcome.NOT_SHOWN, CheckOutcome.SHOWN)
    for seed, outcome in enumerate(kinds):
        timelines.keep(seen(seed, outcome))
    assert [each.id for each in timelines.chosen()] == ["x, seed 1"]


def test_without_a_hit_the_last_trial_is_kept() -> None:
    """When no trial showed the race the last timeline is kept."""
    timelines = TrialTimelines()
    for seed in range(3):
        timelines.keep(seen(seed, CheckOutcome.NOT_SHOWN))
    assert [each.id for each in timelines.chosen()] == ["x, seed 2"]


def test_reproducers_are_recorded_when_asked() -> None:
    """Recording changes copies of the reproducers, not the catalogue."""
    races = TrialTimelines().of(CATALOGUE)
    assert [race.name for race in races] == [race.name for race in CATALOGUE]
    assert all(race.told for race in races)
    assert not any(race.told for race in CATALOGUE)
