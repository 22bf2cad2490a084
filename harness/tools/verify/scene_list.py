# SPDX-License-Identifier: GPL-2.0-only
"""The scenes of a case: what is run, in which order, and the checks that each makes."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from harness.errors import UsageError
from harness.tools.verify.request import LoadProfile
from harness.tools.verify.scene import SceneSpec
from harness.tools.verify.scenes import (
    cycles,
    held,
    idle,
    load,
    replace,
    reverse_force,
    target_order,
    tracing,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from harness.tools.verify.case import Case

# Which loads share a guest unless each is to be run by itself too.
_TOGETHER = (
    (LoadProfile.FORKS, LoadProfile.MODULES),
    (LoadProfile.SYSCALLS,),
    (LoadProfile.MEMORY, LoadProfile.CPU),
)

# The names of all scenes, or what they begin with: further words follow behind a dash.
NAMES = (
    *("idle", "cycles", "load", "held", "reverse", "force", "targets", "upgrade", "stacked"),
    *("replaced", "tracing"),
)


def check_names(wanted: Iterable[str]) -> None:
    """Raise UsageError for a scene that no case has; needs neither a kernel nor a module."""
    for name in wanted:
        if not any(each.startswith(name) or name.startswith(f"{each}-") for each in NAMES):
            raise UsageError(f"verify has no scene {name}", hint=f"it has {', '.join(NAMES)}")


def scenes_for(case: Case) -> tuple[SceneSpec, ...]:
    """Return the scenes in the order in which they start and in which reports show them.

    Raises UsageError when one is asked for that this case does not have.
    """
    specs = tuple(_scenes(case))
    wanted = case.request.scenes
    for name in wanted:
        if not any(spec.name.startswith(name) for spec in specs):
            raise UsageError(
                f"{case.name} has no scene {name}",
                hint=f"it has {', '.join(spec.name for spec in specs)}",
            )
    return tuple(s for s in specs if not wanted or any(s.name.startswith(n) for n in wanted))


def _scenes(case: Case) -> Iterator[SceneSpec]:
    def with_check(name: str) -> tuple[str, ...]:
        return (name,) if case.request.check is not None else ()

    yield SceneSpec(
        name="idle",
        run=idle.load_and_unload,
        checks=(
            *("target-load", *with_check("check-before"), "on-stack"),
            *("load", "transition", "redirected", *with_check("check-during")),
            *("disable", "restored", *with_check("check-after"), "unload", "left-behind"),
            *("load-again", "log"),
        ),
        first=True,
    )
    yield SceneSpec(
        name="cycles", run=cycles.many_cycles, checks=("cycles", "leaks", "calls"), cpus=cycles.CPUS
    )
    for profiles in _loads(case):
        yield SceneSpec(
            name=f"load-{load.names_of(profiles)}",
            run=partial(load.run_under, profiles=profiles),
            checks=(load.load_name(profiles),),
        )
    yield SceneSpec(name="held", run=held.hold, checks=("held",))
    yield SceneSpec(
        name="reverse", run=reverse_force.reverse, checks=("reverse-load", "reverse-disable")
    )
    yield SceneSpec(
        name="force",
        run=reverse_force.force,
        checks=("force-load", "force-disable"),
        always=True,
    )
    if case.plan.targets and not case.needs_targets:
        yield SceneSpec(
            name="targets",
            run=target_order.targets_later,
            checks=("target-after", "target-reloaded", "target-gone", "target-before-reloaded"),
        )
    for old in case.older:
        name = old.name
        yield SceneSpec(
            name=f"upgrade-{name}",
            run=partial(replace.upgrade, old=old),
            checks=(f"upgrade:{name}", f"downgrade:{name}", f"after-downgrade:{name}"),
        )
        yield SceneSpec(
            name=f"stacked-{name}", run=partial(replace.stack, old=old), checks=(f"stacked:{name}",)
        )
    yield SceneSpec(name="replaced", run=replace.replaced, checks=("replaced",))
    yield SceneSpec(name="tracing", run=tracing.with_others, checks=("with-tracer", "with-kprobe"))


def _loads(case: Case) -> Iterator[tuple[LoadProfile | Path, ...]]:
    if case.request.load:
        yield from ((profile,) for profile in case.request.load)
        return
    yield from _TOGETHER
    if case.request.thorough:
        yield from ((profile,) for group in _TOGETHER if len(group) > 1 for profile in group)
