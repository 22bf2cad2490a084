# SPDX-License-Identifier: GPL-2.0-only
"""Which scenes a case is played in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.errors import UsageError
from harness.tools.verify.battery import Plot
from harness.tools.verify.request import LoadProfile
from harness.tools.verify.scenes import cycles, idle, tracing
from harness.tools.verify.scenes import load as loaded
from harness.tools.verify.scenes import replace as replacing
from harness.tools.verify.scenes import reverse_force as turning
from harness.tools.verify.scenes import target_order as orders

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.tools.verify.case import Case

# Which loads share a guest in a plain run.
_TOGETHER = (
    (LoadProfile.FORKS, LoadProfile.MODULES),
    (LoadProfile.SYSCALLS,),
    (LoadProfile.MEMORY, LoadProfile.CPU),
)


def plots_for(case: Case) -> tuple[Plot, ...]:
    """Return the scenes in the order in which reports show them; the first ones begin first.

    Raises UsageError when one is asked for that this case does not have.
    """
    plots = tuple(_plots(case))
    wanted = case.request.scenes
    for name in wanted:
        if not any(plot.name.startswith(name) for plot in plots):
            raise UsageError(
                f"{case.name} has no scene {name}",
                hint=f"it has {', '.join(plot.name for plot in plots)}",
            )
    return tuple(p for p in plots if not wanted or any(p.name.startswith(n) for n in wanted))


def _plots(case: Case) -> Iterator[Plot]:
    script = case.request.check is not None
    yield Plot(
        name="idle",
        body=idle.come_and_go,
        checks=(
            "target-load",
            *(["check-before"] if script else []),
            "on-stack",
            "load",
            "transition",
            "redirected",
            *(["check-during"] if script else []),
            "disable",
            "restored",
            *(["check-after"] if script else []),
            "unload",
            "left-behind",
            "load-again",
            "log",
        ),
        first=True,
    )
    yield Plot(name="cycles", body=cycles.many_times, checks=("cycles", "leaks"), cpus=cycles.CPUS)
    for profiles in _loads(case):
        yield Plot(
            name=f"load-{'+'.join(profiles)}",
            body=loaded.under(*profiles),
            checks=(loaded.load_name(profiles),),
        )
    yield Plot(name="reverse", body=turning.turn_round, checks=("reverse-load", "reverse-disable"))
    yield Plot(
        name="force",
        body=turning.force,
        checks=("force-load", "force-disable"),
        always=True,
    )
    if case.plan.targets and not case.needs_targets:
        yield Plot(
            name="targets",
            body=orders.targets_later,
            checks=("target-after", "target-reloaded", "target-gone", "target-before-reloaded"),
        )
    for old in case.older:
        name = old.name
        yield Plot(
            name=f"upgrade-{name}",
            body=replacing.upgrade_from(old),
            checks=(f"upgrade:{name}", f"downgrade:{name}", f"after-downgrade:{name}"),
        )
        yield Plot(name=f"stacked-{name}", body=replacing.stacked(old), checks=(f"stacked:{name}",))
    yield Plot(name="replaced", body=replacing.replaced, checks=("replaced",))
    yield Plot(name="tracing", body=tracing.with_others, checks=("with-tracer", "with-kprobe"))


def _loads(case: Case) -> Iterator[tuple[LoadProfile, ...]]:
    if case.request.load:
        yield from ((profile,) for profile in case.request.load)
        return
    yield from _TOGETHER
    if case.request.thorough:
        yield from ((profile,) for group in _TOGETHER if len(group) > 1 for profile in group)
