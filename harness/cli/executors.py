# SPDX-License-Identifier: GPL-2.0-only
"""Where jobs run: in this process, on workers started here, or on an existing cluster."""

from __future__ import annotations

import contextlib
import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from harness.errors import UsageError
from harness.vm.guest import runs
from harness.vm.kernel.spec import ReleaseSpec, SeriesSpec, UrlSpec, parse_spec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.cli.options import CleanKernel
    from harness.report.terminal import Terminal
    from harness.vm.cluster.client import Cluster


@dataclass(frozen=True, kw_only=True)
class ExecutorOptions:
    """The options that move jobs out of this process. Raises UsageError when both are given."""

    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            min=1,
            metavar="N",
            help="Start N Dask workers on this machine, and use them.",
        ),
    ] = None
    cluster: Annotated[
        str | None,
        typer.Option(
            "--cluster",
            metavar="ADDRESS",
            help="Use a Dask cluster, given by its scheduler's address: tls://HOST:PORT.",
        ),
    ] = None

    def __post_init__(self) -> None:
        if self.workers is not None and self.cluster is not None:
            raise UsageError("--workers starts a cluster and --cluster uses one: give one of them")

    @property
    def is_here(self) -> bool:
        """Whether all jobs run in this process."""
        return self.workers is None and self.cluster is None


def require_dask() -> None:
    """Raise UsageError when Dask, which is an extra, is not installed."""
    if importlib.util.find_spec("distributed") is None:
        raise UsageError(
            "--workers and --cluster need Dask, which is not installed",
            hint="install the extra `cluster` of this checkout: pip install '.[cluster]'",
        )


def check_travels(kernel: CleanKernel) -> None:
    """Raise UsageError for a kernel that a worker cannot fetch by itself."""
    require_dask()
    parsed = parse_spec(kernel.spec, sha256=kernel.sha256)
    if not isinstance(parsed, SeriesSpec | ReleaseSpec | UrlSpec):
        raise UsageError(
            f"workers cannot fetch {kernel.spec}, which is on this machine",
            hint="a cluster needs a series such as 6.1, a release, or a URL",
        )
    own = [name for name in kernel.fragments if "/" in name or name.endswith(".config")]
    own += [str(path) for path in (kernel.config, *getattr(kernel, "patches", ())) if path]
    if own:
        raise UsageError(f"workers have no file {own[0]}, which is on this machine")


@contextlib.contextmanager
def open_cluster(
    asked: ExecutorOptions, terminal: Terminal, *, guests: int
) -> Iterator[Cluster | None]:
    """Connect to a cluster, or start one here for so many guests in all, as the options say.

    Yields None when all jobs run in this process. Raises UsageError without Dask, and for a cluster
    of another version, HarnessError when there is none.
    """
    if asked.is_here:
        yield None
        return
    require_dask()
    from harness.vm.cluster.client import connected, is_open_to_all
    from harness.vm.cluster.local import local

    with contextlib.ExitStack() as stack:
        if asked.cluster is not None:
            cluster = stack.enter_context(connected(asked.cluster))
            if is_open_to_all(asked.cluster):
                terminal.note(
                    f"note: {asked.cluster} is not encrypted: everybody who can reach the "
                    "scheduler can run code on its workers; docs/cluster.md describes tls://"
                )
        else:
            workers = asked.workers or 1
            # Workers are killed at the end, and leave their keys, which nobody holds then.
            stack.callback(runs.sweep)
            cluster = stack.enter_context(local(workers, -(-guests // workers)))
        threads = cluster.threads()
        terminal.print(
            f"cluster      {cluster.address}, {len(threads)} workers, "
            f"{sum(threads.values())} jobs at a time"
        )
        yield cluster
