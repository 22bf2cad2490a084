# SPDX-License-Identifier: GPL-2.0-only
"""Where trials run: in this process, on workers started here, or on somebody's cluster."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.prepare import run_session
from harness.errors import UsageError
from harness.guest.session import Fresh
from harness.host.cache import Store
from harness.host.capacity import default_guests, measure_host
from harness.races.trial import Trials
from harness.resources import cache_root, runs_root

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from harness.cluster.client import Cluster
    from harness.host.accel import AccelChoice
    from harness.kernel.kernel import Kernel
    from harness.races.campaign import Trial
    from harness.races.reproducer import Reproducer
    from harness.report.terminal import Terminal

WorkersOption = Annotated[
    int | None,
    typer.Option(
        "--workers", min=1, metavar="N", help="Start so many Dask workers here, and use them."
    ),
]
ClusterOption = Annotated[
    str | None,
    typer.Option(
        "--cluster", metavar="ADDRESS", help="Use a Dask cluster: its scheduler's address."
    ),
]

_CPUS = 2


@dataclass(frozen=True, kw_only=True)
class PlaceAsked:
    """The options of one command line: ``workers`` or ``cluster``, or this process."""

    workers: int | None = None
    cluster: str | None = None

    def __post_init__(self) -> None:
        if self.workers is not None and self.cluster is not None:
            raise UsageError("--workers starts a cluster and --cluster uses one: give one of them")

    @property
    def is_here(self) -> bool:
        """Whether all is done in this process."""
        return self.workers is None and self.cluster is None


def require_dask() -> None:
    """Raise UsageError when Dask, which is an extra, is not installed."""
    if importlib.util.find_spec("distributed") is None:
        raise UsageError(
            "--workers and --cluster need Dask, which is not installed",
            hint="pip install 'klp-harness[cluster]'",
        )


@contextlib.contextmanager
def open_cluster(asked: PlaceAsked, terminal: Terminal, *, guests: int) -> Iterator[Cluster | None]:
    """Connect to the cluster asked for, or start one here for so many guests in all.

    None when all is done in this process. Raises UsageError without Dask, and for a cluster of
    another version, HarnessError when there is none.
    """
    if asked.is_here:
        yield None
        return
    require_dask()
    from harness.cluster import client

    with contextlib.ExitStack() as stack:
        if asked.cluster is not None:
            cluster = stack.enter_context(client.connected(asked.cluster))
        else:
            workers = asked.workers or 1
            cluster = stack.enter_context(client.local(workers, -(-guests // workers)))
        threads = cluster.threads()
        terminal.print(
            f"cluster      {cluster.address}, {len(threads)} workers, "
            f"{sum(threads.values())} jobs at a time"
        )
        yield cluster


@dataclass(frozen=True, kw_only=True)
class Place:
    """What makes trials, and how many at a time it can."""

    try_one: Callable[[Reproducer, int], Trial]
    guests: int


@contextlib.contextmanager
def trials_at(
    cluster: Cluster | None,
    choice: AccelChoice,
    *,
    accel: str,
    kernel: Kernel,
    modules: Mapping[str, Path],
    guests: int | None,
    most: int | None,
    keep: Callable[[], bool],
) -> Iterator[Place]:
    """Open the place where trials run, for ``guests`` at a time and ``most`` at the most.

    Logs stay when ``keep`` says so at the end; those of guests here also when something is raised.
    """
    if cluster is None:
        here = guests or default_guests(measure_host(), choice.accel)
        here = here if most is None else min(here, most)
        with run_session(
            choice, cpus=_CPUS, fresh=Fresh.SNAPSHOT, name="race", guests=here, keep=keep
        ) as session:
            yield Place(try_one=Trials(session, kernel, modules), guests=here)
        return
    from harness.races.remote import RemoteTrials

    jobs = sum(cluster.threads().values())
    folder = runs_root() / f"{time.strftime('%Y%m%d-%H%M%S')}-race-{os.getpid()}"
    folder.mkdir(parents=True, mode=0o700)
    trials = RemoteTrials(
        cluster, kernel, modules, store=Store(cache_root()), accel=accel, folder=folder
    )
    try:
        at_a_time = jobs if guests is None else min(guests, jobs)
        yield Place(try_one=trials, guests=at_a_time if most is None else min(at_a_time, most))
    finally:
        trials.close()
        if not keep():
            shutil.rmtree(folder, ignore_errors=True)
