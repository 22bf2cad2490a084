# SPDX-License-Identifier: GPL-2.0-only
"""What the kernel log says of attempts to switch tasks, and which trials are kept for a page."""

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
    """Each attempt has the tasks that it could not switch, each once, with the reason."""
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


def test_an_old_kernel_names_the_function_that_looked() -> None:
    """On 5.10 klp_check_stack() writes what klp_try_switch_task() logs (recorded in a guest)."""
    line = "livepatch: klp_check_stack: klp-gate:52 is sleeping on function klp_gate_wait\n"
    (attempt,) = read_attempts(records((3.79, line)))
    assert attempt.held == (
        HeldTask(tid=52, comm="klp-gate", why=Why.SLEEPING, function="klp_gate_wait"),
    )
    assert is_of_attempt(line)


def test_signals_and_force_are_distinguished() -> None:
    """Only the livepatch core's own lines count as measures."""
    said = records(
        (16.0, "livepatch: signaling remaining tasks"),
        (20.0, "livepatch: forcing remaining tasks to the patched state"),
        (21.0, "mine: forcing remaining tasks to leave"),
    )
    assert read_measures(said) == [(16_000_000, Measure.SIGNAL), (20_000_000, Measure.FORCE)]


@pytest.mark.parametrize(
    ("text", "enabled"),
    [(f"{SAYS}init:1 is running", True), ("livepatch: signaling remaining tasks", False)],
)
def test_lines_that_the_harness_enabled_are_recognised(text: str, enabled: bool) -> None:
    """Lines of dynamic debug are there because the harness enabled them."""
    assert is_of_attempt(text) is enabled


def test_a_kernel_without_dynamic_debug_is_noticed() -> None:
    """The caller learns whether attempts will be in the log."""
    guest = ScriptedGuest()
    assert log_attempts(guest) is False
    guest.files["/sys/kernel/debug/dynamic_debug/control"] = ""
    assert log_attempts(guest) is True


def seen(seed: int, outcome: CheckOutcome) -> RunResult:
    return RunResult(id=f"x, seed {seed}", outcome=outcome, seconds=1.0, module="x")


def test_the_first_trial_that_shows_something_is_kept() -> None:
    """A page has room for one trial of a reproducer: the first hit."""
    timelines = TrialTimelines()
    kinds = (CheckOutcome.NOT_SHOWN, CheckOutcome.SHOWN, CheckOutcome.NOT_SHOWN, CheckOutcome.SHOWN)
    for seed, outcome in enumerate(kinds):
        timelines.keep(seen(seed, outcome))
    assert [each.id for each in timelines.chosen()] == ["x, seed 1"]


def test_without_a_hit_the_last_trial_is_kept() -> None:
    """A reproducer without a hit is on the page as well."""
    timelines = TrialTimelines()
    for seed in range(3):
        timelines.keep(seen(seed, CheckOutcome.NOT_SHOWN))
    assert [each.id for each in timelines.chosen()] == ["x, seed 2"]


def test_reproducers_are_recorded_when_asked() -> None:
    """All reproducers are recorded, and the catalogue itself is not changed."""
    races = TrialTimelines().of(CATALOGUE)
    assert [race.name for race in races] == [race.name for race in CATALOGUE]
    assert all(race.on_recorded for race in races)
    assert not any(race.on_recorded for race in CATALOGUE)
