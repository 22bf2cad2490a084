# SPDX-License-Identifier: GPL-2.0-only
"""Mutants on a cluster: each worker builds a mutant in a workspace of its own, and tests it.

A worker obtains the clean kernel from its spec, as this machine does, and both have to get the same
digest. The kernels that a worker builds stay in its cache.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from harness.behaviours.mutants import read_mutant
from harness.cli import pins
from harness.cli.child_commands import ChildCommands
from harness.deadline import Deadline
from harness.report.base import CheckOutcome
from harness.resources import Resource, resource_dir
from harness.threads import run_jobs
from harness.tools.mutants.mutant_trial import judge_if_same
from harness.vm.cluster.client import most_on_one_host
from harness.vm.guest import runs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from harness.behaviours.mutants import Mutant
    from harness.tools.mutants.conditions import Conditions
    from harness.tools.mutants.results import MutantResult
    from harness.vm.cluster.client import Cluster

_RUN_S = 6 * 3600.0


@dataclass(frozen=True, kw_only=True)
class MutantOrder:
    """One mutant to judge: its patch file by name and content, and the clean kernel's digest.

    ``at_a_time`` is how many mutants are judged on one machine at the same time; ``pinned`` are the
    variables that pin the kernels of its commands.
    """

    name: str
    patch: bytes
    clean: str
    conditions: Conditions
    at_a_time: int
    pinned: Mapping[str, str]


def run_mutants_on(
    cluster: Cluster, mutants: Sequence[Mutant], conditions: Conditions, clean: str
) -> Iterator[MutantResult]:
    """Yield the result of each mutant as soon as it is known; raises what `Cluster.call` does.

    When the caller stops, the workers finish what they have begun; nobody waits for it.
    """
    threads = cluster.threads()
    orders = [
        MutantOrder(
            name=mutant.path.name,
            patch=mutant.path.read_bytes(),
            clean=clean,
            conditions=conditions,
            at_a_time=most_on_one_host(threads),
            pinned=pins.environment(),
        )
        for mutant in mutants
    ]
    return run_jobs(
        orders,
        lambda order: cluster.call(judge_order, order, {}).result,
        at_a_time=max(1, sum(threads.values())),
        name="mutants",
    )


def judge_order(order: MutantOrder) -> MutantResult:
    """Judge a mutant on this machine, with the guests that are its share."""
    stem = order.name.removesuffix(".patch")
    folder = runs.make_folder(f"mutant-{stem}")
    path = folder / order.name
    path.write_bytes(order.patch)
    choice = runs.accelerator(order.conditions.accel)
    conditions = replace(
        order.conditions,
        suite=resource_dir(Resource.BEHAVIOUR_TESTS),
        guests=max(1, runs.guests_at_a_time(choice) // order.at_a_time),
    )
    deadline = Deadline.after(_RUN_S)
    with ChildCommands(folder, runs=1, deadline=deadline, pinned=order.pinned) as commands:
        result = judge_if_same(read_mutant(path), conditions, commands.run, clean=order.clean)
    if result.outcome is CheckOutcome.CAUGHT:
        shutil.rmtree(folder, ignore_errors=True)
    return result
