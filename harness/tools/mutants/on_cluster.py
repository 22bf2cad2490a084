# SPDX-License-Identifier: GPL-2.0-only
"""Mutants on a cluster: each worker builds a mutant in a workspace of its own, and tests it.

A worker gets the clean kernel as everybody does, from its spec; it has to be the same kernel, by
its digest. What is built there stays in that worker's cache.
"""

from __future__ import annotations

import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from harness.behaviours.mutants import read_mutant
from harness.cli.child_commands import run_all
from harness.deadline import Deadline
from harness.errors import UsageError
from harness.report.base import CheckOutcome
from harness.resources import Resource, resource_dir, runs_root
from harness.tools.mutants.mutant_trial import clean_kernel, failed, judge
from harness.vm.cluster.client import most_on_one_host
from harness.vm.host.accel import choose_accel
from harness.vm.host.capacity import default_guests, measure_host
from harness.vm.host.process import child_environment
from harness.vm.kernel.spec import SeriesSpec, UrlSpec, parse_spec

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from harness.behaviours.mutants import Mutant
    from harness.cli.child_commands import Command, Done
    from harness.cli.options import CleanKernel
    from harness.tools.mutants.conditions import Conditions
    from harness.tools.mutants.results import MutantResult
    from harness.vm.cluster.client import Cluster

_RUN_S = 6 * 3600.0
_PROBE_S = 60.0


@dataclass(frozen=True, kw_only=True)
class MutantOrder:
    """One mutant to judge: its patch file by name and content, and the clean kernel's digest.

    So many mutants are judged on one machine at a time.
    """

    name: str
    patch: bytes
    clean: str
    conditions: Conditions
    at_a_time: int


def check_travels(kernel: CleanKernel) -> None:
    """Raise UsageError for a kernel that a worker cannot fetch by itself."""
    parsed = parse_spec(kernel.spec, sha256=kernel.sha256)
    if not isinstance(parsed, SeriesSpec | UrlSpec):
        raise UsageError(
            f"workers cannot fetch {kernel.spec}, which is on this machine",
            hint="mutants on a cluster need a series such as 6.1, or a URL",
        )
    own = [name for name in kernel.fragments if "/" in name or name.endswith(".config")]
    if own:
        raise UsageError(f"workers have no fragment {own[0]}, which is on this machine")


def run_mutants_on(
    cluster: Cluster, mutants: Sequence[Mutant], conditions: Conditions, clean: str
) -> Iterator[MutantResult]:
    """Yield what each mutant came to, as soon as it is known; raises what `Cluster.call` does."""
    threads = cluster.threads()
    orders = [
        MutantOrder(
            name=mutant.path.name,
            patch=mutant.path.read_bytes(),
            clean=clean,
            conditions=conditions,
            at_a_time=most_on_one_host(threads),
        )
        for mutant in mutants
    ]
    pool = ThreadPoolExecutor(max(1, sum(threads.values())), thread_name_prefix="mutants")
    try:
        asked = [pool.submit(cluster.call, judge_order, order, {}) for order in orders]
        for future in as_completed(asked):
            yield future.result().result
    finally:
        # What runs is left to the workers; nobody waits for it.
        pool.shutdown(wait=False, cancel_futures=True)


def judge_order(order: MutantOrder) -> MutantResult:
    """Judge a mutant on this machine, with the guests that are its share."""
    stem = order.name.removesuffix(".patch")
    folder = runs_root() / f"{time.strftime('%Y%m%d-%H%M%S')}-mutant-{os.getpid()}-{stem}"
    folder.mkdir(parents=True, mode=0o700)
    path = folder / order.name
    path.write_bytes(order.patch)
    accel = choose_accel(order.conditions.accel, Deadline.after(_PROBE_S)).accel
    conditions = replace(
        order.conditions,
        suite=resource_dir(Resource.BEHAVIOUR_TESTS),
        guests=max(1, default_guests(measure_host(), accel) // order.at_a_time),
        runs=1,
    )
    [result] = run_all(
        [_judge_here(read_mutant(path), conditions, order.clean)],
        folder,
        runs=1,
        deadline=Deadline.after(_RUN_S),
        environment=child_environment(),
    )
    if result.outcome is CheckOutcome.CAUGHT:
        shutil.rmtree(folder, ignore_errors=True)
    return result


def _judge_here(
    mutant: Mutant, conditions: Conditions, clean: str
) -> Generator[Command, Done, MutantResult]:
    done = yield clean_kernel(mutant, conditions)
    kernels = done.report.kernels if done.report is not None else ()
    if done.code != 0 or not kernels:
        return failed(mutant, done)
    if kernels[0].digest != clean:
        detail = (
            f"the clean kernel here is {kernels[0].version}, {kernels[0].digest[:12]}, and the one "
            f"asked for is {clean[:12]}: its sources or the compiler differ"
        )
        return failed(mutant, done).model_copy(update={"detail": detail})
    return (yield from judge(mutant, conditions))
