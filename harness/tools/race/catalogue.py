# SPDX-License-Identifier: GPL-2.0-only
"""All reproducers, by name and by group: the group is what comes before a name's first dash."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.behaviours.table import Expected, load_table
from harness.errors import UsageError
from harness.tools.race.reproducers.alias import alias_nop_freed, alias_replace
from harness.tools.race.reproducers.cold import cold_part, cold_switched
from harness.tools.race.reproducers.crowd import crowd_force, crowd_load, crowd_sysfs, crowd_target
from harness.tools.race.reproducers.exit import exit_use_after_free, exit_warning
from harness.tools.race.reproducers.exit_loop import exit_loop
from harness.tools.race.reproducers.forced import forced_flag_too_narrow
from harness.tools.race.reproducers.fork import (
    fork_missing_flag,
    fork_stale_forward,
    fork_stale_reverse,
)
from harness.tools.race.reproducers.fuzz import fuzz_schedule
from harness.tools.race.reproducers.held_cpu import ipmodify_rollback, sync_no_memory
from harness.tools.race.reproducers.idle import idle_injection, idle_switched
from harness.tools.race.reproducers.kretprobe import kretprobe_woken
from harness.tools.race.reproducers.late_init import late_init
from harness.tools.race.reproducers.preempted import preempted_disable, preempted_handler
from harness.tools.race.reproducers.refused import refused_release
from harness.tools.race.reproducers.relocations import refused_target_relocations
from harness.tools.race.reproducers.reversed_below import reverse_out_of_bounds
from harness.tools.race.reproducers.sleepers import crowd_sleepers
from harness.tools.race.reproducers.stack_order import stack_order
from harness.tools.race.reproducers.storm import storm_fork
from harness.tools.race.reproducers.target_going import going_stale_target
from harness.tools.race.reproducers.tracing import crowd_locks, crowd_replace, crowd_tracer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.tools.race.reproducer import Reproducer

CATALOGUE: tuple[Reproducer, ...] = (
    fork_missing_flag,
    fork_stale_forward,
    fork_stale_reverse,
    exit_use_after_free,
    exit_warning,
    exit_loop,
    forced_flag_too_narrow,
    cold_part,
    cold_switched,
    idle_injection,
    idle_switched,
    late_init,
    preempted_handler,
    preempted_disable,
    alias_replace,
    alias_nop_freed,
    going_stale_target,
    refused_target_relocations,
    reverse_out_of_bounds,
    refused_release,
    stack_order,
    ipmodify_rollback,
    sync_no_memory,
    kretprobe_woken,
    storm_fork,
    crowd_sysfs,
    crowd_force,
    crowd_target,
    crowd_load,
    crowd_tracer,
    crowd_locks,
    crowd_replace,
    crowd_sleepers,
    fuzz_schedule,
)


def find_races(names: Sequence[str]) -> tuple[Reproducer, ...]:
    """Return the reproducers of those names and groups, each once; all of them without a name.

    Raises UsageError for a name that is neither.
    """
    if not names:
        return CATALOGUE
    found: dict[str, Reproducer] = {}
    for name in names:
        meant = [race for race in CATALOGUE if name in (race.name, race.name.partition("-")[0])]
        if not meant:
            known = ", ".join(race.name for race in CATALOGUE)
            raise UsageError(f"there is no reproducer {name}", hint=f"known: {known}")
        found |= {race.name: race for race in meant}
    return tuple(found.values())


def known_of(race: Reproducer, version: str = "") -> str | None:
    """Return why the race is expected, by the table of rules; None: it is not.

    ``version`` is a kernel release; without one, the first entry of the table counts. The kernel
    has the options that the race needs, and otherwise our configuration.
    """
    (rule,) = (rule for rule in load_table().rule if rule.id == race.rule)
    expectation = (
        rule.expected(version, lambda option: f"CONFIG_{option}" in race.needs)
        if version
        else next(iter(rule.expect), None)
    )
    if expectation is None or expectation.outcome is not Expected.EXPECTED_FAILURE:
        return None
    return expectation.why
